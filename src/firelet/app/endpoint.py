"""The HTTP endpoint: operation families, fast routes and pages behind one server."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from firelet.app.config import PlatformConfig
from firelet.app.gateways import Gateways
from firelet.app.web import WebRecords, WebSites, web_operations
from firelet.control.http_apis import HttpApis
from firelet.control.invoke import Invoker
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.registry import Registry
from firelet.control.scaling import Scaling
from firelet.frontend.aliases import AliasOperations
from firelet.frontend.apigatewayv2 import HttpApiOperations
from firelet.frontend.apigatewayv2_parts import part_operations
from firelet.frontend.autoscaling import AutoScalingOperations
from firelet.frontend.callers import Callers
from firelet.frontend.cloudwatch import CloudWatchOperations
from firelet.frontend.code_signing import CodeSigningOperations
from firelet.frontend.codelink import PATH_PREFIX, CodeLinks
from firelet.frontend.concurrency import ConcurrencyOperations
from firelet.frontend.debug import DEBUG_PATH, Debugging, DebugPage
from firelet.frontend.elbv2_groups import Targets
from firelet.frontend.event_invoke import EventInvokeOperations
from firelet.frontend.function_options import FunctionOptionOperations
from firelet.frontend.functions import FunctionOperations
from firelet.frontend.iam import IamOperations
from firelet.frontend.images import ImageIntake, ImageResolver
from firelet.frontend.invoke import AsyncSink, InvokeEndpoint
from firelet.frontend.invoke_async import InvokeAsyncOperations
from firelet.frontend.invoke_stream import StreamEndpoint
from firelet.frontend.layer_policies import LayerPolicyOperations
from firelet.frontend.layers import LayerOperations
from firelet.frontend.logs import LogsOperations
from firelet.frontend.mappings import MappingOperations
from firelet.frontend.operations import Operations
from firelet.frontend.packages import PackageIntake
from firelet.frontend.policies import PolicyOperations
from firelet.frontend.provisioned import ProvisionedOperations
from firelet.frontend.router import Router
from firelet.frontend.s3source import S3CodeSource
from firelet.frontend.status import STATUS_PATH, WARM_PATH, StatusPage, WarmPage
from firelet.frontend.sts import StsOperations
from firelet.frontend.tags import TagOperations
from firelet.frontend.urls import UrlOperations
from firelet.frontend.versions import VersionOperations
from firelet.gateway.signed_callers import SignedCallers
from firelet.gateway.websocket_frames import WebSocketLimits
from firelet.iam.accounts import Accounts
from firelet.iam.credentials import SessionCredentials
from firelet.iam.policies import Policies
from firelet.iam.roles import Roles
from firelet.observe.logs import LogStore
from firelet.observe.metrics import MetricStore
from firelet.wire.aws.model import load_services
from firelet.wire.http1 import App, HttpLimits, HttpServer

SERVICES = (
    "lambda",
    "iam",
    "sts",
    "logs",
    "cloudwatch",
    "application-autoscaling",
    "apigatewayv2",
    "apigateway",
    "elbv2",
)


class OperationFamily(Protocol):
    """A class of ``frontend`` that has handlers to add."""

    def register(self, operations: Operations) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointParts:
    """What the operations work with."""

    config: PlatformConfig
    registry: Registry
    manager: Manager
    invoker: Invoker
    latencies: Latencies
    events: AsyncSink
    logs: LogStore
    metrics: MetricStore
    scaling: Scaling
    http_apis: HttpApis
    web: WebRecords
    roles: Roles
    policies: Policies
    sessions: SessionCredentials
    links: CodeLinks
    images: ImageResolver
    debugging: Debugging | None


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
            parts.http_apis,
            sessions,
            accounts,
            WebSocketLimits(idle_s=config.websocket_idle_s, lifetime_s=config.websocket_lifetime_s),
        )
        signed = SignedCallers(sessions, accounts, time.time)
        self._sites = WebSites(parts.web, parts.registry, parts.invoker, signed)
        self._sites.add_to(self._gateways.routes)
        router = Router(
            make_operations(parts, self._sites.targets),
            load_services(SERVICES),
            accounts=accounts,
            default_region=config.region,
            fast=[
                self._gateways.routes.match,
                self._invoke.match,
                self._stream.match,
                self._sites.local.match,
            ],
            sites=[self._gateways.routes, self._sites.local],
            pages={**_pages(parts, callers), **self._gateways.pages},
        )
        self._server = HttpServer(
            router, limits=_limits(), on_reject=router.reject, body_limit=router.body_limit
        )

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Starts to serve; the address in use."""
        self._sites.start()
        return await self._server.listen(host, port)

    async def close(self, drain_s: float) -> None:
        """Stops to listen; what is being answered has ``drain_s`` seconds."""
        await self._server.close(drain_s)
        await self._invoke.drain(drain_s)
        await self._stream.drain(drain_s)
        await self._gateways.drain(drain_s)
        await self._sites.close(drain_s)


def _limits() -> HttpLimits:
    """Connections take at most half of the descriptors that this process may have: sandboxes need
    the others."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = HttpLimits()
    return replace(limits, max_connections=min(limits.max_connections, open_files // 2))


def make_operations(parts: EndpointParts, targets: Targets) -> Operations:
    """The table of every operation that has a handler."""
    operations = Operations()
    for family in (*_families(parts), *web_operations(parts.web, targets)):
        family.register(operations)
    return operations


def _families(parts: EndpointParts) -> list[OperationFamily]:
    registry = parts.registry
    intake = PackageIntake(S3CodeSource(parts.config.s3_endpoint, region=parts.config.region))
    return [
        FunctionOperations(registry, intake, ImageIntake(parts.images), parts.links),
        LayerOperations(registry, intake, parts.links),
        LayerPolicyOperations(registry),
        VersionOperations(registry),
        AliasOperations(registry),
        TagOperations(registry),
        ConcurrencyOperations(registry),
        ProvisionedOperations(registry),
        MappingOperations(registry),
        FunctionOptionOperations(registry),
        PolicyOperations(registry),
        UrlOperations(registry),
        EventInvokeOperations(registry),
        CodeSigningOperations(registry),
        InvokeAsyncOperations(registry, parts.events),
        IamOperations(parts.roles, parts.policies, parts.sessions),
        StsOperations(parts.roles, parts.sessions),
        LogsOperations(parts.logs),
        CloudWatchOperations(parts.metrics),
        AutoScalingOperations(parts.scaling, registry),
        HttpApiOperations(parts.http_apis),
        *part_operations(parts.http_apis),
    ]


def _pages(parts: EndpointParts, callers: Callers) -> dict[bytes, App]:
    manager, clock = parts.manager, time.monotonic
    most = parts.config.account_concurrency
    warm = WarmPage(parts.registry, manager, callers, clock, most=most)
    return {
        PATH_PREFIX.encode(): parts.links.page,
        STATUS_PATH.encode(): StatusPage(manager, parts.latencies, clock).page,
        WARM_PATH.encode(): warm.page,
        DEBUG_PATH.encode(): DebugPage(parts.registry, parts.debugging, callers).page,
    }


def _account_finder(sessions: SessionCredentials) -> Callable[[str], str | None]:
    def find(access_key: str) -> str | None:
        identity = sessions.lookup(access_key)
        return None if identity is None else identity.account

    return find
