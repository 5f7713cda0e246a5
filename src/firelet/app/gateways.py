"""The gateways of one endpoint: which sites there are, and what they share."""

from __future__ import annotations

import time

from firelet.control.http_apis import HttpApis
from firelet.control.registry import Registry
from firelet.gateway.api_authorizers import ApiAuthorizers
from firelet.gateway.function_calls import FunctionCalls, Invoker
from firelet.gateway.function_url import FunctionUrlSite
from firelet.gateway.function_url_auth import UrlAuthorizer
from firelet.gateway.hosts import (
    API_KIND,
    API_PATH,
    FUNCTION_URL_KIND,
    FUNCTION_URL_PATH,
    HostRoutes,
)
from firelet.gateway.http_api import HttpApiSite
from firelet.gateway.integration_calls import IntegrationCalls
from firelet.gateway.jwt_authorizer import JwtAuthorizer
from firelet.gateway.jwt_keys import JwtKeys
from firelet.gateway.serving import Serving
from firelet.gateway.signed_callers import SignedCallers
from firelet.gateway.stage_throttles import StageThrottles
from firelet.gateway.websocket import WebSocketSite
from firelet.gateway.websocket_frames import WebSocketLimits
from firelet.gateway.websocket_hub import WebSocketHub
from firelet.gateway.websocket_management import PATH as CONNECTIONS_PATH
from firelet.gateway.websocket_management import ConnectionManagement
from firelet.iam.accounts import Accounts
from firelet.iam.credentials import SessionCredentials
from firelet.model import limits
from firelet.wire.http1 import App


class Gateways:
    """Everything that serves HTTP for functions. ``routes.match`` is a fast route; ``pages`` are
    apps by the prefix of the raw target."""

    def __init__(
        self,
        registry: Registry,
        invoker: Invoker,
        apis: HttpApis,
        sessions: SessionCredentials,
        accounts: Accounts,
        websocket_limits: WebSocketLimits,
    ) -> None:
        self._serving = Serving()
        self.routes = HostRoutes()
        calls = FunctionCalls(registry, invoker)
        callers = SignedCallers(sessions, accounts, time.time)
        authorizer = UrlAuthorizer(registry.policies, callers)
        urls = FunctionUrlSite(registry.urls, authorizer, calls, self._serving, time.time)
        url_bytes, api_bytes = limits.PAYLOAD_SYNC_MAX_BYTES, limits.GATEWAY_REQUEST_MAX_BYTES
        self.routes.add(FUNCTION_URL_KIND, FUNCTION_URL_PATH, urls.visit, url_bytes)
        integrations = IntegrationCalls(registry.policies, calls)
        throttles = StageThrottles(time.monotonic)
        authorizers = ApiAuthorizers(
            integrations, callers, JwtAuthorizer(JwtKeys(), time.time), time.monotonic
        )
        http_apis = HttpApiSite(
            apis, integrations, authorizers, throttles, self._serving, time.time
        )
        self.routes.add(API_KIND, API_PATH, http_apis.visit, api_bytes)
        hub = WebSocketHub()
        management = ConnectionManagement(hub, callers, websocket_limits)
        sockets = WebSocketSite(
            apis,
            integrations,
            authorizers,
            throttles,
            self._serving,
            management,
            hub,
            websocket_limits,
            time.time,
        )
        self.routes.add(API_KIND, API_PATH, sockets.visit, api_bytes)
        self.pages: dict[bytes, App] = {CONNECTIONS_PATH.encode(): management.page}

    async def drain(self, timeout_s: float) -> None:
        """Waits for the functions that run, then gives up those that still do."""
        await self._serving.drain(timeout_s)
