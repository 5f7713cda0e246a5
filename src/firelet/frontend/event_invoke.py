"""Operations on the settings of asynchronous invocation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from firelet.control.event_invoke import EventInvokeChange
from firelet.control.qualifiers import qualified_arn
from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.function import FunctionKey

LACKS = "delivery to queues, topics, event buses and buckets"


class EventInvokeOperations:
    """The family of event invoke configurations."""

    def __init__(self, registry: Registry) -> None:
        self._configs = registry.event_invoke

    def register(self, operations: Operations) -> None:
        put, update = (
            self.put_function_event_invoke_config,
            self.update_function_event_invoke_config,
        )
        operations.add("lambda", "PutFunctionEventInvokeConfig", put, lacks=LACKS)
        operations.add("lambda", "UpdateFunctionEventInvokeConfig", update, lacks=LACKS)
        for name, handler in (
            ("GetFunctionEventInvokeConfig", self.get_function_event_invoke_config),
            ("ListFunctionEventInvokeConfigs", self.list_function_event_invoke_configs),
        ):
            operations.add("lambda", name, handler)
        operations.add(
            "lambda", "DeleteFunctionEventInvokeConfig", self.delete_function_event_invoke_config
        )

    async def put_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = _parse_name(call)
        return _format(key, qualifier, await self._configs.put(key, qualifier, _parse(call.params)))

    async def update_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = _parse_name(call)
        config = await self._configs.update(key, qualifier, _parse(call.params))
        return _format(key, qualifier, config)

    async def get_function_event_invoke_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = _parse_name(call)
        return _format(key, qualifier, self._configs.get(key, qualifier))

    async def list_function_event_invoke_configs(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        page, marker = cut_page(
            self._configs.all(key),
            lambda item: (item[0],),
            call.params,
            limits.EVENT_INVOKE_CONFIGS_PER_PAGE,
        )
        configs = [_format(key, qualifier, config) for qualifier, config in page]
        return {"FunctionEventInvokeConfigs": configs, **marker}

    async def delete_function_event_invoke_config(self, call: Call) -> Reply:
        await self._configs.delete(*_parse_name(call))
        return Reply(status=204)


def _parse_name(call: Call) -> tuple[FunctionKey, str]:
    """Without a qualifier, the settings are those of ``$LATEST``."""
    key, qualifier = parse_version_name(call)
    return key, qualifier or LATEST


def _parse(params: Mapping[str, Any]) -> EventInvokeChange:
    destinations = params.get("DestinationConfig")
    sides = destinations or {}
    return EventInvokeChange(
        retries_max=params.get("MaximumRetryAttempts"),
        age_max_s=params.get("MaximumEventAgeInSeconds"),
        on_success=_destination(sides, "OnSuccess"),
        on_failure=_destination(sides, "OnFailure"),
        has_destinations=destinations is not None,
    )


def _destination(sides: Mapping[str, Any], name: str) -> str | None:
    """None when the side is not mentioned; empty when it is, without a destination."""
    return None if sides.get(name) is None else sides[name].get("Destination") or ""


def _format(key: FunctionKey, qualifier: str, config: EventInvokeConfig) -> dict[str, Any]:
    """FunctionEventInvokeConfig; both sides of DestinationConfig are always there (recorded)."""
    shape: dict[str, Any] = {
        "LastModified": datetime.fromtimestamp(config.last_modified, UTC),
        "FunctionArn": qualified_arn(key, qualifier),
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success} if config.on_success else {},
            "OnFailure": {"Destination": config.on_failure} if config.on_failure else {},
        },
    }
    if config.retries_max is not None:
        shape["MaximumRetryAttempts"] = config.retries_max
    if config.age_max_s is not None:
        shape["MaximumEventAgeInSeconds"] = config.age_max_s
    return shape
