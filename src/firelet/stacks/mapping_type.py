"""AWS::Lambda::EventSourceMapping.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
aws-resource-lambda-eventsourcemapping.html, and the defaults of CreateEventSourceMapping.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from firelet.stacks import schemas
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    map_tags,
    unless_missing,
    without,
)

_POLL_S = 0.05
_SETTLE_S = 60.0
_RENAMED = {"KmsKeyArn": "KMSKeyArn"}
_QUEUE_BATCH, _STREAM_BATCH = 10, 100
# What an update sends for an option that the template no longer has.
_CLEARED: Mapping[str, Any] = {
    "Enabled": True,
    "KMSKeyArn": "",
    "FilterCriteria": {},
    "MaximumBatchingWindowInSeconds": 0,
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1,
    "BisectBatchOnFunctionError": False,
    "ParallelizationFactor": 1,
    "TumblingWindowInSeconds": 0,
    "SourceAccessConfigurations": [],
    "FunctionResponseTypes": [],
    "ScalingConfig": {},
    "MetricsConfig": {"Metrics": []},
    "ProvisionedPollerConfig": {},
}


class EventSourceMappingType:
    """A source that is read for a function."""

    schema = schemas.EVENT_SOURCE_MAPPING

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        pages = self._functions.get_paginator("list_event_source_mappings").paginate(
            FunctionName=properties["FunctionName"]
        )
        return [item["UUID"] for page in pages for item in page["EventSourceMappings"]]

    def create(self, name: str, properties: Properties) -> Made:
        params = _read_params(without(properties, ("Tags", "SelfManagedEventSource")))
        endpoints = (properties.get("SelfManagedEventSource") or {}).get("Endpoints")
        if endpoints:
            servers = endpoints["KafkaBootstrapServers"]
            params["SelfManagedEventSource"] = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": servers}}
        created = self._functions.create_event_source_mapping(**params, Tags=map_tags(properties))
        return self._settled(created["UUID"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        skipped = self.schema.fixed | {"Tags"}
        old, new = (_read_params(without(item, skipped)) for item in (before, after))
        cleared = {**_CLEARED, "BatchSize": _default_batch(after)}
        gone = {name: cleared[name] for name in old.keys() - new.keys() if name in cleared}
        self._settled(physical_id)
        updated = self._functions.update_event_source_mapping(UUID=physical_id, **gone, **new)
        self._set_tags(updated["EventSourceMappingArn"], map_tags(before), map_tags(after))
        return self._settled(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        functions = self._functions
        if unless_missing(functions.delete_event_source_mapping, UUID=physical_id) is None:
            return
        deadline = time.monotonic() + _SETTLE_S
        while unless_missing(functions.get_event_source_mapping, UUID=physical_id) is not None:
            if time.monotonic() > deadline:
                raise StackError(f"the event source mapping {physical_id} stays Deleting")
            time.sleep(_POLL_S)

    def _set_tags(self, arn: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        gone = sorted(before.keys() - after.keys())
        if gone:
            self._functions.untag_resource(Resource=arn, TagKeys=gone)
        if after != before and after:
            self._functions.tag_resource(Resource=arn, Tags=after)

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


def _read_params(properties: Properties) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in properties.items()}


def _default_batch(properties: Properties) -> int:
    is_queue = ":sqs:" in str(properties.get("EventSourceArn", ""))
    return _QUEUE_BATCH if is_queue else _STREAM_BATCH
