"""The gateways of one endpoint: which sites there are, by family, and what they share.

A site serves HTTP for functions at names or addresses of its own. What is kept of them is in
``gateway_records``. Made by ``endpoint``, which starts and closes them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time

from firelet.app.gateway_records import GatewayRecords
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
    Site,
)
from firelet.gateway.http_api import HttpApiSite
from firelet.gateway.integration_calls import IntegrationCalls
from firelet.gateway.jwt_authorizer import JwtAuthorizer
from firelet.gateway.jwt_keys import JwtKeys
from firelet.gateway.load_balancer import LoadBalancerSite
from firelet.gateway.load_balancer_calls import BalancerCalls
from firelet.gateway.load_balancer_health import HealthChecks
from firelet.gateway.rest_api import RestApiSite
from firelet.gateway.rest_api_authorizers import RestAuthorizers
from firelet.gateway.rest_api_guard import RestGuard
from firelet.gateway.rest_api_integrations import RestIntegrations
from firelet.gateway.service_calls import ServiceCalls
from firelet.gateway.serving import Serving
from firelet.gateway.signed_callers import SignedCallers
from firelet.gateway.stage_throttles import StageThrottles
from firelet.gateway.websocket import WebSocketSite
from firelet.gateway.websocket_frames import WebSocketLimits
from firelet.gateway.websocket_hub import WebSocketHub
from firelet.gateway.websocket_management import PATH as CONNECTIONS_PATH
from firelet.gateway.websocket_management import ConnectionManagement
from firelet.model import limits
from firelet.wire.http1 import App

log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 3.0
_BALANCER_KIND = b"elb"


class Gateways:
    """Everything that serves HTTP for functions.

    ``routes`` are the sites by name, ``local`` has the addresses that tools for local clouds make;
    ``pages`` are apps by the prefix of the raw target; ``targets`` is asked by the operations on
    target groups. ``start`` once the loop runs, ``close`` after the last request.
    """

    def __init__(
        self,
        registry: Registry,
        invoker: Invoker,
        records: GatewayRecords,
        callers: SignedCallers,
        websocket_limits: WebSocketLimits,
    ) -> None:
        self._records = records
        self._callers = callers
        self._functions = FunctionCalls(registry, invoker)
        self._calls = ServiceCalls(registry.policies, self._functions)
        self._serving = Serving()
        self._flushing: asyncio.Task[None] | None = None
        self.routes = HostRoutes()
        self._add_function_urls(registry)
        management = self._add_http_apis(websocket_limits)
        self.pages: dict[bytes, App] = {CONNECTIONS_PATH.encode(): management.page}
        self.local = self._add_rest_apis()
        balancing = BalancerCalls(self._calls)
        self._health = self._add_load_balancers(balancing)
        self.targets = _Targets(balancing, self._health)

    def start(self) -> None:
        self._flushing = asyncio.create_task(self._flush())
        self._health.start()

    async def close(self, drain_s: float) -> None:
        """Waits for what runs, then gives up what still does; no count is lost."""
        await self._health.close()
        await self._serving.drain(drain_s)
        await self._calls.drain(drain_s)
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._records.usage_counts.flush()

    def _add_function_urls(self, registry: Registry) -> None:
        authorizer = UrlAuthorizer(registry.policies, self._callers)
        site = FunctionUrlSite(registry.urls, authorizer, self._functions, self._serving, time.time)
        self.routes.add(
            FUNCTION_URL_KIND, FUNCTION_URL_PATH, site.visit, limits.PAYLOAD_SYNC_MAX_BYTES
        )

    def _add_http_apis(self, websocket_limits: WebSocketLimits) -> ConnectionManagement:
        """HTTP and WebSocket APIs, which share authorizers and throttles."""
        apis = self._records.http_apis
        integrations = IntegrationCalls(self._calls)
        throttles = StageThrottles(time.monotonic)
        tokens = JwtAuthorizer(JwtKeys(), time.time)
        authorizers = ApiAuthorizers(integrations, self._callers, tokens, time.monotonic)
        http_apis = HttpApiSite(
            apis, integrations, authorizers, throttles, self._serving, time.time
        )
        self._add_apis(http_apis.visit)
        hub = WebSocketHub()
        management = ConnectionManagement(hub, self._callers, websocket_limits)
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
        self._add_apis(sockets.visit)
        return management

    def _add_rest_apis(self) -> RestApiSite:
        records = self._records
        site = RestApiSite(
            records.rest_apis,
            RestAuthorizers(self._calls, self._callers, time.monotonic),
            RestGuard(records.usage_plans, records.usage_counts, time.monotonic),
            RestIntegrations(self._calls),
            self._serving,
            time.time,
        )
        self._add_apis(site.visit)
        return site

    def _add_load_balancers(self, calls: BalancerCalls) -> HealthChecks:
        balancers, groups = self._records.load_balancers, self._records.target_groups
        health = HealthChecks(balancers, groups, calls, time.monotonic)
        site = LoadBalancerSite(balancers, groups, calls, self._serving, random.random)
        most = limits.BALANCER_REQUEST_MAX_BYTES
        self.routes.add_last(_BALANCER_KIND, _BALANCER_KIND, site.visit, most)
        return health

    def _add_apis(self, site: Site) -> None:
        """HTTP, WebSocket and REST APIs have addresses of one kind."""
        self.routes.add(API_KIND, API_PATH, site, limits.GATEWAY_REQUEST_MAX_BYTES)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            try:
                await self._records.usage_counts.flush()
            except Exception:
                # The supervisor of the counts: what cannot be written now is written the next time.
                log.exception("usage of api keys not written")


class _Targets:
    """What the operations on target groups ask of those who call functions."""

    def __init__(self, calls: BalancerCalls, health: HealthChecks) -> None:
        self.may_invoke = calls.may_invoke
        self.health = health.health
