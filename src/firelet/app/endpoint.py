"""The HTTP endpoint: operations, fast routes, gateways and pages behind one server.

Which operations there are is in ``operations``, which sites are in ``gateways``. Made by
``standalone``.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace

from firelet.app.gateways import Gateways
from firelet.app.operations import EndpointParts, make_operations
from firelet.frontend.callers import Callers
from firelet.frontend.codelink import PATH_PREFIX
from firelet.frontend.debug import DEBUG_PATH, DebugPage
from firelet.frontend.invoke import InvokeEndpoint
from firelet.frontend.invoke_stream import StreamEndpoint
from firelet.frontend.router import Router
from firelet.frontend.status import STATUS_PATH, WARM_PATH, StatusPage, WarmPage
from firelet.gateway.signed_callers import SignedCallers
from firelet.gateway.websocket_frames import WebSocketLimits
from firelet.iam.accounts import Accounts
from firelet.iam.credentials import SessionCredentials
from firelet.wire.aws.model import load_services
from firelet.wire.http1 import App, HttpLimits, HttpServer

SERVICES = (
    "lambda",
    "iam",
    "sts",
    "logs",
    "cloudwatch",
    "resourcegroupstaggingapi",
    "application-autoscaling",
    "apigatewayv2",
    "apigateway",
    "elbv2",
)


class Endpoint:
    """One listening endpoint that serves everything."""

    def __init__(self, parts: EndpointParts) -> None:
        config, sessions = parts.config, parts.sessions
        accounts = Accounts(default=config.account, find_issued=_account_finder(sessions))
        callers = Callers(accounts, config.region)
        self._invoke = InvokeEndpoint(parts.registry, parts.invoker, parts.events, callers)
        self._stream = StreamEndpoint(parts.registry, parts.invoker, callers)
        self._gateways = Gateways(
            parts.registry,
            parts.invoker,
            parts.gateway_records,
            SignedCallers(sessions, accounts, time.time),
            WebSocketLimits(idle_s=config.websocket_idle_s, lifetime_s=config.websocket_lifetime_s),
        )
        router = Router(
            make_operations(parts, self._gateways.targets),
            load_services(SERVICES),
            accounts=accounts,
            default_region=config.region,
            fast=[
                self._gateways.routes.match,
                self._invoke.match,
                self._stream.match,
                self._gateways.local.match,
            ],
            sites=[self._gateways.routes, self._gateways.local],
            pages={**_pages(parts, callers), **self._gateways.pages},
        )
        self._server = HttpServer(
            router, limits=_limits(), on_reject=router.reject, body_limit=router.body_limit
        )

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to serve; the address in use."""
        self._gateways.start()
        return await self._server.listen(host, port)

    async def close(self, drain_s: float) -> None:
        """Stops to listen; what is being answered has ``drain_s`` seconds."""
        await self._server.close(drain_s)
        await self._invoke.drain(drain_s)
        await self._stream.drain(drain_s)
        await self._gateways.close(drain_s)


def _limits() -> HttpLimits:
    """Connections take at most half of the descriptors that this process may have: sandboxes need
    the others."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = HttpLimits()
    return replace(limits, max_connections=min(limits.max_connections, open_files // 2))


def _pages(parts: EndpointParts, callers: Callers) -> dict[bytes, App]:
    manager, clock = parts.manager, time.monotonic
    most = parts.config.account_concurrency
    warm = WarmPage(parts.registry, manager, callers, clock, most=most)
    status = StatusPage(
        manager, parts.latencies, clock, parts.config.isolation, parts.microvms.find_program
    )
    return {
        PATH_PREFIX.encode(): parts.links.page,
        STATUS_PATH.encode(): status.page,
        WARM_PATH.encode(): warm.page,
        DEBUG_PATH.encode(): DebugPage(parts.registry, parts.debugging, callers).page,
    }


def _account_finder(sessions: SessionCredentials) -> Callable[[str], str | None]:
    def find(access_key: str) -> str | None:
        identity = sessions.lookup(access_key)
        return None if identity is None else identity.account

    return find
