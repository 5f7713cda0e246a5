"""Kinds of event sources: which options each takes, its defaults, and what AWS says of it.

Pure tables; ``control.source_checks`` applies them. Called by it and by ``control.mappings``.

Source: the service model's documentation of CreateEventSourceMapping; recorded answers for the
defaults that AWS returns and for the reasons of transitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.model.mapping import (
    KafkaConfig,
    PollingOptions,
    ProvisionedPollers,
    SourceKind,
)

T = TypeVar("T", PollingOptions, KafkaConfig)

QUEUE_MODE = "Queue"  # of self-managed Kafka: share groups
_NO_RECORDS = "No records processed"
_USER_INITIATED = "USER_INITIATED"
_USER_ACTION = "User action"

# AWS's name of each option, for its sentences; that of ``kafka`` depends on the kind.
MEMBERS: Mapping[str, str] = {
    "batch_size": "BatchSize",
    "batching_window_s": "MaximumBatchingWindowInSeconds",
    "starting_position": "StartingPosition",
    "starting_timestamp": "StartingPositionTimestamp",
    "filters": "FilterCriteria",
    "kms_key_arn": "KMSKeyArn",
    "response_types": "FunctionResponseTypes",
    "parallelization_factor": "ParallelizationFactor",
    "bisect_on_error": "BisectBatchOnFunctionError",
    "max_retries": "MaximumRetryAttempts",
    "max_record_age_s": "MaximumRecordAgeInSeconds",
    "tumbling_window_s": "TumblingWindowInSeconds",
    "on_failure": "DestinationConfig",
    "max_concurrency": "ScalingConfig",
    "pollers": "ProvisionedPollerConfig",
    "metrics": "MetricsConfig",
    "system_log_level": "LoggingConfig",
    "topics": "Topics",
    "queues": "Queues",
    "access": "SourceAccessConfigurations",
    "documentdb": "DocumentDBEventSourceConfig",
}

_ALWAYS = frozenset({"batch_size", "kms_key_arn", "batching_window_s"})
_FILTERED = frozenset({"filters", "metrics"})
_STREAM = frozenset(
    {"starting_position", "starting_timestamp", "response_types", "bisect_on_error"}
    | {"max_retries", "max_record_age_s", "on_failure"}
)
_SHARDED = frozenset({"parallelization_factor", "tumbling_window_s"})
_SQS = _ALWAYS | _FILTERED | {"response_types", "max_concurrency"}
_KAFKA = (
    _ALWAYS | _FILTERED | _STREAM | {"pollers", "system_log_level", "topics", "access", "kafka"}
)

_POSITIONS = frozenset({"LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"})
_STREAM_DESTINATIONS = ("arn:aws:sqs:", "arn:aws:sns:", "arn:aws:s3:")
_KAFKA_ACCESS = frozenset(
    {"BASIC_AUTH", "VPC_SUBNET", "VPC_SECURITY_GROUP", "SASL_SCRAM_256_AUTH"}
    | {"SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH", "SERVER_ROOT_CA_CERTIFICATE"}
    | {"OAUTHBEARER_AUTH", "OAUTHBEARER_SCOPE", "OAUTHBEARER_AUDIENCE", "IAM_AUTH"}
    | {"OAUTHBEARER_LOGICAL_CLUSTER", "OAUTHBEARER_IDENTITY_POOL", "IAM_OAUTHBEARER_AUTH"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRules:
    """One kind. ``label`` is AWS's word for it; ``defaults`` is what a mapping has of the options
    that its caller left out, and returns."""

    label: str
    takes: frozenset[str]
    defaults: PollingOptions
    positions: frozenset[str] = frozenset()
    needs_position: bool = False
    destinations: tuple[str, ...] = ()
    metrics: frozenset[str] = frozenset({"EventCount"})
    access: frozenset[str] = frozenset()
    needs: tuple[str, ...] = ()
    pollers: range = field(default_factory=lambda: range(0))
    state_reason: str = _USER_INITIATED
    first_result: str | None = _NO_RECORDS


_SHARD_DEFAULTS = PollingOptions(
    batch_size=100,
    batching_window_s=0,
    response_types=(),
    parallelization_factor=1,
    bisect_on_error=False,
    max_retries=-1,
    max_record_age_s=-1,
    tumbling_window_s=0,
    on_failure="",
)
_KAFKA_METRICS = frozenset({"EventCount", "ErrorCount", "KafkaMetrics"})
_KAFKA_POLLERS = range(limits.KAFKA_POLLERS_MIN, limits.KAFKA_POLLERS_MAX + 1)
_KINESIS = SourceRules(
    label="Kinesis",
    takes=_ALWAYS | _FILTERED | _STREAM | _SHARDED,
    defaults=_SHARD_DEFAULTS,
    positions=_POSITIONS,
    needs_position=True,
    destinations=_STREAM_DESTINATIONS,
    state_reason=_USER_ACTION,
)
_MSK = SourceRules(
    label="MSK",
    takes=_KAFKA,
    defaults=PollingOptions(batch_size=100, starting_position="TRIM_HORIZON", on_failure=""),
    positions=_POSITIONS,
    destinations=(*_STREAM_DESTINATIONS, "kafka://"),
    metrics=_KAFKA_METRICS,
    access=frozenset({"SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH"}),
    needs=("topics",),
    pollers=_KAFKA_POLLERS,
)
_STANDARD_QUEUE = SourceRules(
    label="SQS",
    takes=_SQS | {"pollers"},
    defaults=PollingOptions(batch_size=10, batching_window_s=0, response_types=()),
    pollers=range(limits.SQS_POLLERS_MIN, limits.SQS_POLLERS_MAX + 1),
    first_result=None,
)

RULES: Mapping[SourceKind, SourceRules] = {
    SourceKind.SQS: _STANDARD_QUEUE,
    SourceKind.SQS_FIFO: replace(_STANDARD_QUEUE, takes=_SQS, pollers=range(0)),
    SourceKind.KINESIS: _KINESIS,
    SourceKind.DYNAMODB: replace(
        _KINESIS, label="DynamoDB", positions=_POSITIONS - {"AT_TIMESTAMP"}
    ),
    SourceKind.MSK: _MSK,
    SourceKind.KAFKA: replace(
        _MSK, label="Self-managed Kafka", access=_KAFKA_ACCESS, needs=("access", "topics")
    ),
    SourceKind.MQ: SourceRules(
        label="MQ",
        takes=_ALWAYS | {"filters", "queues", "access"},
        defaults=PollingOptions(batch_size=100),
        access=frozenset({"BASIC_AUTH", "VIRTUAL_HOST"}),
        needs=("access", "queues"),
    ),
    SourceKind.DOCUMENTDB: SourceRules(
        label="DocumentDB",
        takes=_ALWAYS | {"starting_position", "starting_timestamp", "access", "documentdb"},
        defaults=PollingOptions(batch_size=100),
        positions=_POSITIONS,
        needs_position=True,
        access=frozenset({"BASIC_AUTH"}),
        needs=("access", "documentdb"),
    ),
}

# Beginning of the resource part of an ARN, by its service.
_RESOURCES = {
    "kinesis": (SourceKind.KINESIS, ("stream/",)),
    "dynamodb": (SourceKind.DYNAMODB, ("table/",)),
    "kafka": (SourceKind.MSK, ("cluster/", "vpc-connection/")),
    "mq": (SourceKind.MQ, ("broker:",)),
    "rds": (SourceKind.DOCUMENTDB, ("cluster:",)),
}


def find_kind(arn: str | None, servers: tuple[str, ...]) -> SourceKind:
    """The kind of source that an ARN or the addresses of brokers name; InvalidParameterValue."""
    if arn is None:
        if servers:
            return SourceKind.KAFKA
        raise unrecognized()
    service, resource = arn.split(":", 5)[2::3]
    if service == "sqs" and resource:
        return SourceKind.SQS_FIFO if resource.endswith(".fifo") else SourceKind.SQS
    kind, beginnings = _RESOURCES.get(service, (SourceKind.SQS, ()))
    is_stream = service != "dynamodb" or "/stream/" in resource
    if not resource.startswith(beginnings) or not is_stream:
        raise unrecognized()
    return kind


def unrecognized() -> InvalidParameterValue:
    return InvalidParameterValue("Unrecognized event source.")


def merge_options(options: PollingOptions, changes: PollingOptions) -> PollingOptions:
    """``options`` with what ``changes`` gives."""
    merged = _merge(options, changes)
    if options.kafka is not None and changes.kafka is not None:
        # A change of the schema registry leaves the consumer group alone.
        merged = replace(merged, kafka=_merge(options.kafka, changes.kafka))
    return merged


def _merge(value: T, changes: T) -> T:
    given = {f.name: getattr(changes, f.name) for f in fields(changes)}
    return replace(value, **{name: item for name, item in given.items() if item is not None})


def fill_defaults(kind: SourceKind, options: PollingOptions, uuid: str) -> PollingOptions:
    """``options`` with what AWS adds when a mapping is created. The consumer group of Kafka is
    named by the mapping's UUID."""
    filled = merge_options(RULES[kind].defaults, options)
    kafka = filled.kafka
    if kind in (SourceKind.MSK, SourceKind.KAFKA):
        kafka = kafka or KafkaConfig(is_managed=kind is SourceKind.MSK)
        kafka = replace(kafka, consumer_group=kafka.consumer_group or uuid)
    if kafka is not None and kafka.consumption_mode == QUEUE_MODE:
        retries = 0 if options.max_retries is None else options.max_retries
        filled = replace(filled, starting_position=None, max_retries=retries)
    return replace(filled, kafka=kafka, pollers=_fill_pollers(kind, filled.pollers))


def _fill_pollers(
    kind: SourceKind, pollers: ProvisionedPollers | None
) -> ProvisionedPollers | None:
    """The number that was left out."""
    if pollers is None or not pollers.is_on:
        return None
    minimum = RULES[kind].pollers.start if pollers.minimum is None else pollers.minimum
    most = max(limits.POLLERS_DEFAULT_MAX, minimum)
    maximum = most if pollers.maximum is None else pollers.maximum
    return replace(pollers, minimum=minimum, maximum=maximum)
