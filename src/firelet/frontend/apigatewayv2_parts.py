"""Operations of API Gateway v2 on what an API consists of: routes, integrations, authorizers …

The five operations of each kind differ in names only; the rules are ``control.http_api_rules``'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firelet.control.http_api_rules import no_part
from firelet.control.http_apis import HttpApis
from firelet.frontend.apigatewayv2_shapes import SERVICE, cut_list, format_part, owner_of
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.http_api import AUTHORIZER, INTEGRATION, ROUTE, ROUTE_RESPONSE, ApiPart

_LACKS = {
    INTEGRATION: "Lambda proxies and mocks only: no HTTP proxies, AWS services or VPC links",
    ROUTE: "no API keys, models or request parameters",
    ROUTE_RESPONSE: "results of functions go back as they are, without models or parameters",
}


@dataclass(frozen=True, slots=True)
class PartOperations:
    """The operations on one kind of part."""

    apis: HttpApis
    kind: str

    def register(self, operations: Operations) -> None:
        kind = self.kind
        operations.add(SERVICE, f"Create{kind}", self.create, lacks=_LACKS.get(kind))
        operations.add(SERVICE, f"Get{kind}", self.get)
        operations.add(SERVICE, f"Get{kind}s", self.list)
        operations.add(SERVICE, f"Update{kind}", self.update)
        operations.add(SERVICE, f"Delete{kind}", self.delete)

    async def create(self, call: Call) -> Mapping[str, Any]:
        api_id = call.params["ApiId"]
        settings = {name: value for name, value in call.params.items() if name != "ApiId"}
        part = await self.apis.add_part(owner_of(call), api_id, self.kind, settings)
        return self._format(call, part)

    async def get(self, call: Call) -> Mapping[str, Any]:
        return self._format(call, self._find(call))

    async def list(self, call: Call) -> Mapping[str, Any]:
        api = self.apis.get(owner_of(call), call.params["ApiId"])
        route_id = call.params.get("RouteId")
        parts = [
            part
            for part in api.of_kind(self.kind).values()
            if route_id is None or part.settings["RouteId"] == route_id
        ]
        return cut_list(
            call, parts, lambda part: part.part_id, lambda part: format_part(api, self.kind, part)
        )

    async def update(self, call: Call) -> Mapping[str, Any]:
        part = self._find(call)
        ids = ("ApiId", f"{self.kind}Id")
        changed = {name: value for name, value in call.params.items() if name not in ids}
        api_id = call.params["ApiId"]
        owner = owner_of(call)
        part = await self.apis.update_part(owner, api_id, self.kind, part.part_id, changed)
        return self._format(call, part)

    async def delete(self, call: Call) -> Reply:
        part = self._find(call)
        api_id = call.params["ApiId"]
        await self.apis.delete_part(owner_of(call), api_id, self.kind, part.part_id)
        return Reply(status=204)

    def _find(self, call: Call) -> ApiPart:
        """NotFound, also for a response of another route."""
        params = call.params
        part = self.apis.part(owner_of(call), params["ApiId"], self.kind, params[f"{self.kind}Id"])
        if self.kind == ROUTE_RESPONSE and part.settings.get("RouteId") != params.get("RouteId"):
            raise no_part(self.kind)
        return part

    def _format(self, call: Call, part: ApiPart) -> dict[str, Any]:
        return format_part(self.apis.get(owner_of(call), call.params["ApiId"]), self.kind, part)


def part_operations(apis: HttpApis) -> list[PartOperations]:
    """Those of every kind."""
    return [PartOperations(apis, kind) for kind in (ROUTE, INTEGRATION, ROUTE_RESPONSE, AUTHORIZER)]
