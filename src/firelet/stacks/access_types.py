"""Who and what may call a function: AWS::Lambda::Permission, Url, EventInvokeConfig and
EventSourceMapping.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Lambda.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    is_missing,
    map_tags,
    without,
)

_POLL_S = 0.05
_SETTLE_S = 60.0
# What an update of a mapping sends for an option that the template no longer has.
_EMPTY: Mapping[str, Any] = {
    "FilterCriteria": {},
    "ScalingConfig": {},
    "FunctionResponseTypes": [],
    "DestinationConfig": {"OnFailure": {}},
    "ProvisionedPollerConfig": {},
    "Enabled": True,
}


class PermissionType:
    """A statement of a function's policy. It is never changed: another one takes its place."""

    immutable = None

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        self._functions.add_permission(StatementId=name, **properties)
        return Made(name, {"Id": name})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.remove_permission(
            FunctionName=properties["FunctionName"], StatementId=physical_id
        )


class UrlType:
    """A function's own address."""

    immutable = frozenset({"TargetFunctionArn", "Qualifier"})

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        return self._put(self._functions.create_function_url_config, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        cleared = before.keys() & {"Cors"} - after.keys()
        given = {**after, **{name: {} for name in cleared}}
        return self._put(self._functions.update_function_url_config, given)

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_function_url_config(**_target(properties))

    def _put(self, operation: Any, properties: Properties) -> Made:
        given = without(properties, ("TargetFunctionArn", "Qualifier"))
        made = operation(**_target(properties), **given)
        attributes = {name: made[name] for name in ("FunctionArn", "FunctionUrl")}
        return Made(made["FunctionArn"], attributes)


class EventInvokeConfigType:
    """How asynchronous invocations are retried, and where their results go."""

    immutable = frozenset({"FunctionName", "Qualifier"})

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        self._functions.put_function_event_invoke_config(**properties)
        return Made(f"{properties['FunctionName']}|{properties['Qualifier']}")

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        return self.create(physical_id, after)

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_function_event_invoke_config(
            FunctionName=properties["FunctionName"], Qualifier=properties["Qualifier"]
        )


class EventSourceMappingType:
    """A source that is read for a function."""

    immutable = frozenset(
        {"EventSourceArn", "StartingPosition", "StartingPositionTimestamp"}
        | {"SelfManagedEventSource", "Topics", "Queues"}
    )

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("Tags", "SelfManagedEventSource"))
        endpoints = (properties.get("SelfManagedEventSource") or {}).get("Endpoints")
        if endpoints:
            servers = endpoints["KafkaBootstrapServers"]
            params["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}}
        created = self._functions.create_event_source_mapping(**params, Tags=map_tags(properties))
        return self._settled(created["UUID"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        skipped = (*self.immutable, "Tags")
        given = without(after, skipped)
        gone = without(before, skipped).keys() - given.keys()
        cleared = {name: _EMPTY[name] for name in gone if name in _EMPTY}
        updated = self._functions.update_event_source_mapping(UUID=physical_id, **given, **cleared)
        arn = updated["EventSourceMappingArn"]
        old, new = map_tags(before), map_tags(after)
        if old.keys() - new.keys():
            self._functions.untag_resource(Resource=arn, TagKeys=sorted(old.keys() - new.keys()))
        if new != old and new:
            self._functions.tag_resource(Resource=arn, Tags=new)
        return self._settled(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_event_source_mapping(UUID=physical_id)
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            try:
                self._functions.get_event_source_mapping(UUID=physical_id)
            except Exception as error:
                if is_missing(error):
                    return
                raise
            time.sleep(_POLL_S)

    def _settled(self, uuid: str) -> Made:
        deadline = time.monotonic() + _SETTLE_S
        while True:
            found = self._functions.get_event_source_mapping(UUID=uuid)
            if found["State"] in ("Enabled", "Disabled"):
                arn = found["EventSourceMappingArn"]
                return Made(uuid, {"Id": uuid, "EventSourceMappingArn": arn})
            if time.monotonic() > deadline:
                raise StackError(f"the event source mapping {uuid} stays {found['State']}")
            time.sleep(_POLL_S)


def _target(properties: Properties) -> dict[str, Any]:
    named = {"FunctionName": properties["TargetFunctionArn"]}
    if "Qualifier" in properties:
        named["Qualifier"] = properties["Qualifier"]
    return named
