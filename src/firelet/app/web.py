"""REST APIs and load balancers: their records, their operations and the sites that serve them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable

from firelet.control.load_balancers import LoadBalancers
from firelet.control.registry import Registry
from firelet.control.rest_api_account import ApiGatewayAccounts
from firelet.control.rest_apis import RestApis
from firelet.control.target_groups import TargetGroups
from firelet.control.usage_plans import UsagePlans
from firelet.frontend.apigateway import ApiGatewayOperations
from firelet.frontend.elbv2 import LoadBalancerOperations
from firelet.frontend.elbv2_groups import TargetGroupOperations, Targets
from firelet.frontend.elbv2_listeners import ListenerOperations
from firelet.gateway.function_calls import FunctionCalls, Invoker
from firelet.gateway.hosts import API_KIND, API_PATH, HostRoutes
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
from firelet.gateway.usage import UsageCounts
from firelet.model import limits
from firelet.store.documents import DocumentStore

log = logging.getLogger(__name__)

_FLUSH_EVERY_S = 3.0
_BALANCER_KIND = b"elb"


class WebRecords:
    """What is kept. ``load`` first; ``clock`` gives epoch seconds."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self.rest_apis = RestApis(documents, clock)
        self.usage_plans = UsagePlans(documents, self.rest_apis, clock)
        self.accounts = ApiGatewayAccounts(documents)
        self.usage_counts = UsageCounts(documents, clock)
        self.target_groups = TargetGroups(documents)
        self.load_balancers = LoadBalancers(documents, self.target_groups, clock)

    def load(self) -> None:
        """Blocking: at start-up only."""
        self.rest_apis.load()
        self.usage_plans.load()
        self.accounts.load()
        self.usage_counts.load()
        self.target_groups.load()
        self.load_balancers.load()


class WebSites:
    """What serves requests. ``start`` once the loop runs, ``close`` after the last request."""

    def __init__(
        self, records: WebRecords, registry: Registry, invoker: Invoker, callers: SignedCallers
    ) -> None:
        self._records = records
        self._serving = Serving()
        self._calls = ServiceCalls(registry.policies, FunctionCalls(registry, invoker))
        self._flushing: asyncio.Task[None] | None = None
        self._rest = RestApiSite(
            records.rest_apis,
            RestAuthorizers(self._calls, callers, time.monotonic),
            RestGuard(records.usage_plans, records.usage_counts, time.monotonic),
            RestIntegrations(self._calls),
            self._serving,
            time.time,
        )
        balancers, groups = records.load_balancers, records.target_groups
        calls = BalancerCalls(self._calls)
        self._health = HealthChecks(balancers, groups, calls, time.monotonic)
        self._balancers = LoadBalancerSite(balancers, groups, calls, self._serving, random.random)
        self.targets = _Targets(calls, self._health)

    def add_to(self, routes: HostRoutes) -> None:
        """The names of the sites."""
        routes.add(API_KIND, API_PATH, self._rest.visit, limits.GATEWAY_REQUEST_MAX_BYTES)
        limit = limits.BALANCER_REQUEST_MAX_BYTES
        routes.add_last(_BALANCER_KIND, _BALANCER_KIND, self._balancers.visit, limit)

    @property
    def local(self) -> RestApiSite:
        """Serves the addresses that tools for local clouds make."""
        return self._rest

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


def web_operations(
    records: WebRecords, targets: Targets
) -> list[
    ApiGatewayOperations | LoadBalancerOperations | ListenerOperations | TargetGroupOperations
]:
    """The families of the API."""
    balancers, groups = records.load_balancers, records.target_groups
    return [
        ApiGatewayOperations(
            records.rest_apis, records.usage_plans, records.accounts, records.usage_counts
        ),
        LoadBalancerOperations(balancers, groups),
        ListenerOperations(balancers),
        TargetGroupOperations(groups, balancers, targets),
    ]
