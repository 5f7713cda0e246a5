"""Operations on event source mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.mappings import MappingChange, NewMapping
from firelet.control.registry import Registry
from firelet.control.targets import function_key
from firelet.frontend.mapping_shapes import format_mapping, parse_options, parse_servers
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations
from firelet.model import limits
from firelet.model.arn import format_function_arn, parse_function_ref
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import FunctionKey
from firelet.model.mapping import MappingKey


class MappingOperations:
    """The family of event source mappings."""

    def __init__(self, registry: Registry) -> None:
        self._mappings = registry.mappings

    def register(self, operations: Operations) -> None:
        operations.add(
            "lambda",
            "CreateEventSourceMapping",
            self.create_event_source_mapping,
            lacks="nothing is read from the source yet",
        )
        for name, handler in (
            ("GetEventSourceMapping", self.get_event_source_mapping),
            ("ListEventSourceMappings", self.list_event_source_mappings),
            ("UpdateEventSourceMapping", self.update_event_source_mapping),
            ("DeleteEventSourceMapping", self.delete_event_source_mapping),
        ):
            operations.add("lambda", name, handler)

    async def create_event_source_mapping(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        servers = parse_servers(params)
        source_arn = params.get("EventSourceArn") or None
        if source_arn is not None and servers:
            raise InvalidParameterValue(
                "EventSourceArn and SelfManagedEventSource cannot be used together."
            )
        function, qualifier = _parse_function(call)
        created = await self._mappings.create(
            NewMapping(
                account=call.account,
                region=call.region,
                source_arn=source_arn,
                servers=servers,
                function=function,
                qualifier=qualifier,
                options=parse_options(params),
                is_enabled=params.get("Enabled", True),
                tags=params.get("Tags") or {},
            )
        )
        return format_mapping(created)

    async def get_event_source_mapping(self, call: Call) -> Mapping[str, Any]:
        return format_mapping(self._mappings.get(_parse_key(call)))

    async def list_event_source_mappings(self, call: Call) -> Mapping[str, Any]:
        function_arn = None
        if call.params.get("FunctionName"):
            (account, region, name), qualifier = _parse_function(call)
            function_arn = format_function_arn(region, account, name, qualifier)
        found = self._mappings.all(
            call.account, call.region, call.params.get("EventSourceArn"), function_arn
        )
        page, marker = cut_page(
            found, lambda mapping: (mapping.uuid,), call.params, limits.MAPPINGS_PER_PAGE
        )
        shapes = [format_mapping(mapping, is_listed=True) for mapping in page]
        return {"EventSourceMappings": shapes, **marker}

    async def update_event_source_mapping(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        change = MappingChange(
            function=_parse_function(call) if params.get("FunctionName") else None,
            options=parse_options(params),
            is_enabled=params.get("Enabled"),
        )
        return format_mapping(await self._mappings.update(_parse_key(call), change))

    async def delete_event_source_mapping(self, call: Call) -> Mapping[str, Any]:
        return format_mapping(await self._mappings.delete(_parse_key(call)))


def _parse_key(call: Call) -> MappingKey:
    return (call.account, call.region, call.params["UUID"])


def _parse_function(call: Call) -> tuple[FunctionKey, str | None]:
    """``FunctionName`` alone says which version or alias: there is no ``Qualifier``."""
    ref = parse_function_ref(call.params["FunctionName"])
    return function_key(call.account, call.region, ref, call.operation), ref.qualifier
