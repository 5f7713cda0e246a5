"""What is kept of the gateways: HTTP, WebSocket and REST APIs, usage plans, load balancers.

What it is not: the sites that serve them (``gateways``). The operations of the API change them, the
sites read them. Made by ``standalone``.
"""

from __future__ import annotations

from collections.abc import Callable

from firelet.control.http_apis import HttpApis
from firelet.control.load_balancers import LoadBalancers
from firelet.control.rest_api_account import ApiGatewayAccounts
from firelet.control.rest_apis import RestApis
from firelet.control.target_groups import TargetGroups
from firelet.control.usage_plans import UsagePlans
from firelet.gateway.usage import UsageCounts
from firelet.store.documents import DocumentStore


class GatewayRecords:
    """``load`` first; ``clock`` gives epoch seconds."""

    def __init__(self, documents: DocumentStore, clock: Callable[[], float]) -> None:
        self.http_apis = HttpApis(documents, clock)
        self.rest_apis = RestApis(documents, clock)
        self.usage_plans = UsagePlans(documents, self.rest_apis, clock)
        self.accounts = ApiGatewayAccounts(documents)
        self.usage_counts = UsageCounts(documents, clock)
        self.target_groups = TargetGroups(documents)
        self.load_balancers = LoadBalancers(documents, self.target_groups, clock)

    def load(self) -> None:
        """Blocking: at start-up only."""
        self.http_apis.load()
        self.rest_apis.load()
        self.usage_plans.load()
        self.accounts.load()
        self.usage_counts.load()
        self.target_groups.load()
        self.load_balancers.load()
