"""Between the API's shapes and the registry's values, for event source mappings.

Pure. Called by ``frontend.mappings``.
Source: service model, shapes CreateEventSourceMappingRequest, UpdateEventSourceMappingRequest and
EventSourceMappingConfiguration; recorded answers for what is left out and what is always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from firelet.model.errors import InvalidParameterValue
from firelet.model.mapping import (
    DocumentDbConfig,
    EventSourceMapping,
    KafkaConfig,
    PollingOptions,
    ProvisionedPollers,
    SourceAccess,
)

_BROKERS = "KAFKA_BOOTSTRAP_SERVERS"
_MANAGED_KAFKA = "AmazonManagedKafkaEventSourceConfig"
_OWN_KAFKA = "SelfManagedKafkaEventSourceConfig"


def parse_servers(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses in SelfManagedEventSource; none without it."""
    endpoints: Mapping[str, Any] = params.get("SelfManagedEventSource", {}).get("Endpoints") or {}
    return tuple(endpoints.get(_BROKERS) or ())


def parse_options(params: Mapping[str, Any]) -> PollingOptions:
    """The options that a request gives; what it leaves out is None."""
    filters = params.get("FilterCriteria")
    destination = params.get("DestinationConfig")
    metrics = params.get("MetricsConfig")
    scaling = params.get("ScalingConfig")
    return PollingOptions(
        batch_size=params.get("BatchSize"),
        batching_window_s=params.get("MaximumBatchingWindowInSeconds"),
        starting_position=params.get("StartingPosition"),
        starting_timestamp=_parse_moment(params.get("StartingPositionTimestamp")),
        filters=None if filters is None else _parse_filters(filters),
        kms_key_arn=params.get("KMSKeyArn"),
        response_types=_parse_list(params.get("FunctionResponseTypes")),
        parallelization_factor=params.get("ParallelizationFactor"),
        bisect_on_error=params.get("BisectBatchOnFunctionError"),
        max_retries=params.get("MaximumRetryAttempts"),
        max_record_age_s=params.get("MaximumRecordAgeInSeconds"),
        tumbling_window_s=params.get("TumblingWindowInSeconds"),
        on_failure=None if destination is None else _parse_destination(destination),
        max_concurrency=None if scaling is None else scaling.get("MaximumConcurrency", 0),
        pollers=_parse_pollers(params.get("ProvisionedPollerConfig")),
        metrics=None if metrics is None else tuple(metrics.get("Metrics") or ()),
        system_log_level=params.get("LoggingConfig", {}).get("SystemLogLevel"),
        topics=_parse_list(params.get("Topics")),
        queues=_parse_list(params.get("Queues")),
        access=_parse_access(params.get("SourceAccessConfigurations")),
        kafka=_parse_kafka(params),
        documentdb=_parse_documentdb(params.get("DocumentDBEventSourceConfig")),
    )


def format_mapping(mapping: EventSourceMapping, *, is_listed: bool = False) -> dict[str, Any]:
    """EventSourceMappingConfiguration. A list keeps back filters that are encrypted with a key."""
    options = mapping.options
    shape: dict[str, Any] = {
        "UUID": mapping.uuid,
        "EventSourceMappingArn": mapping.arn,
        "EventSourceArn": mapping.source_arn,
        "FunctionArn": mapping.function_arn,
        "LastModified": mapping.last_modified,
        "LastProcessingResult": mapping.last_result,
        "State": mapping.state.value,
        "StateTransitionReason": mapping.state_reason,
        **_format_options(options),
    }
    if mapping.servers:
        shape["SelfManagedEventSource"] = {"Endpoints": {_BROKERS: list(mapping.servers)}}
    if options.filters and not (is_listed and options.kms_key_arn):
        shape["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in options.filters]}
    return {name: value for name, value in shape.items() if value is not None}


def _format_options(options: PollingOptions) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "BatchSize": options.batch_size,
        "MaximumBatchingWindowInSeconds": options.batching_window_s,
        "StartingPosition": options.starting_position,
        "StartingPositionTimestamp": options.starting_timestamp,
        "KMSKeyArn": options.kms_key_arn or None,
        "FunctionResponseTypes": _format_list(options.response_types),
        "ParallelizationFactor": options.parallelization_factor,
        "BisectBatchOnFunctionError": options.bisect_on_error,
        "MaximumRetryAttempts": options.max_retries,
        "MaximumRecordAgeInSeconds": options.max_record_age_s,
        "TumblingWindowInSeconds": options.tumbling_window_s,
        "Topics": _format_list(options.topics),
        "Queues": _format_list(options.queues),
    }
    if options.on_failure is not None:
        to = {"Destination": options.on_failure} if options.on_failure else {}
        shape["DestinationConfig"] = {"OnFailure": to}
    if options.max_concurrency:
        shape["ScalingConfig"] = {"MaximumConcurrency": options.max_concurrency}
    if options.metrics:
        shape["MetricsConfig"] = {"Metrics": list(options.metrics)}
    if options.system_log_level is not None:
        shape["LoggingConfig"] = {"SystemLogLevel": options.system_log_level}
    if options.pollers is not None:
        shape["ProvisionedPollerConfig"] = {
            "MinimumPollers": options.pollers.minimum,
            "MaximumPollers": options.pollers.maximum,
            "PollerGroupName": options.pollers.group or None,
        }
    if options.access is not None:
        shape["SourceAccessConfigurations"] = [
            {"Type": access.type, "URI": access.uri} for access in options.access
        ]
    if options.kafka is not None:
        shape[_MANAGED_KAFKA if options.kafka.is_managed else _OWN_KAFKA] = {
            "ConsumerGroupId": options.kafka.consumer_group,
            "ConsumptionMode": options.kafka.consumption_mode,
            "SchemaRegistryConfig": options.kafka.schema_registry or None,
        }
        if options.kafka.is_managed:
            del shape[_MANAGED_KAFKA]["ConsumptionMode"]
    if options.documentdb is not None:
        shape["DocumentDBEventSourceConfig"] = {
            "DatabaseName": options.documentdb.database,
            "CollectionName": options.documentdb.collection,
            "FullDocument": options.documentdb.full_document,
        }
    return shape


def _parse_moment(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _parse_list(items: list[str] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(items)


def _format_list(items: tuple[str, ...] | None) -> list[str] | None:
    return None if items is None else list(items)


def _parse_filters(criteria: Mapping[str, Any]) -> tuple[str, ...]:
    """A filter without a pattern is kept as an empty one, which is refused as no pattern."""
    return tuple(item.get("Pattern", "") for item in criteria.get("Filters") or ())


def _parse_destination(config: Mapping[str, Any]) -> str:
    """Mappings know no destination for successes. Source: recorded message."""
    if "OnSuccess" in config:
        raise InvalidParameterValue(
            "Unsupported DestinationConfig parameter for given event source mapping type."
        )
    destination: str = config.get("OnFailure", {}).get("Destination", "")
    return destination


def _parse_pollers(config: Mapping[str, Any] | None) -> ProvisionedPollers | None:
    if config is None:
        return None
    return ProvisionedPollers(
        minimum=config.get("MinimumPollers"),
        maximum=config.get("MaximumPollers"),
        group=config.get("PollerGroupName"),
    )


def _parse_access(items: list[Mapping[str, Any]] | None) -> tuple[SourceAccess, ...] | None:
    if items is None:
        return None
    if any("Type" not in item for item in items):
        raise InvalidParameterValue("Type is required in SourceAccessConfigurations.")
    return tuple(SourceAccess(type=item["Type"], uri=item.get("URI")) for item in items)


def _parse_kafka(params: Mapping[str, Any]) -> KafkaConfig | None:
    for member, is_managed in ((_MANAGED_KAFKA, True), (_OWN_KAFKA, False)):
        config = params.get(member)
        if config is not None:
            return KafkaConfig(
                is_managed=is_managed,
                consumer_group=config.get("ConsumerGroupId"),
                consumption_mode=config.get("ConsumptionMode"),
                schema_registry=config.get("SchemaRegistryConfig"),
            )
    return None


def _parse_documentdb(config: Mapping[str, Any] | None) -> DocumentDbConfig | None:
    if config is None:
        return None
    return DocumentDbConfig(
        database=config.get("DatabaseName"),
        collection=config.get("CollectionName"),
        full_document=config.get("FullDocument"),
    )
