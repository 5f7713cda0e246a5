"""Event source mappings as values: what is polled, how, and for which function.

A mapping is one record that is replaced at each change; ``advance`` is the table of its states.
Which options a kind of source takes, and with which defaults, is in ``control.sources``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from firelet.model.arn import format_function_arn
from firelet.model.function import FunctionKey

# Account, region and UUID.
MappingKey = tuple[str, str, str]


class SourceKind(StrEnum):
    """What a mapping reads from; the kinds whose rules differ."""

    SQS = "sqs"
    SQS_FIFO = "sqs-fifo"
    KINESIS = "kinesis"
    DYNAMODB = "dynamodb"
    MSK = "msk"
    KAFKA = "kafka"  # self-managed
    MQ = "mq"
    DOCUMENTDB = "documentdb"


class MappingState(StrEnum):
    """Source: service model, State of EventSourceMappingConfiguration."""

    CREATING = "Creating"
    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    DISABLED = "Disabled"
    UPDATING = "Updating"
    DELETING = "Deleting"


class MappingEvent(StrEnum):
    """What happens to a mapping: the caller's wishes, and that polling has begun or ended."""

    UPDATE = "update"
    ENABLE = "enable"
    DISABLE = "disable"
    DELETE = "delete"
    POLLING = "polling"
    RESTING = "resting"


_STATES: Mapping[tuple[MappingState, MappingEvent], MappingState] = {
    (MappingState.CREATING, MappingEvent.POLLING): MappingState.ENABLED,
    (MappingState.CREATING, MappingEvent.RESTING): MappingState.DISABLED,
    (MappingState.ENABLED, MappingEvent.UPDATE): MappingState.UPDATING,
    (MappingState.ENABLED, MappingEvent.DISABLE): MappingState.DISABLING,
    (MappingState.ENABLED, MappingEvent.DELETE): MappingState.DELETING,
    (MappingState.DISABLED, MappingEvent.UPDATE): MappingState.UPDATING,
    (MappingState.DISABLED, MappingEvent.ENABLE): MappingState.ENABLING,
    (MappingState.DISABLED, MappingEvent.DELETE): MappingState.DELETING,
    (MappingState.UPDATING, MappingEvent.POLLING): MappingState.ENABLED,
    (MappingState.UPDATING, MappingEvent.RESTING): MappingState.DISABLED,
    (MappingState.ENABLING, MappingEvent.POLLING): MappingState.ENABLED,
    (MappingState.DISABLING, MappingEvent.RESTING): MappingState.DISABLED,
}


class NoTransition(ValueError):
    """The mapping is in a state in which that cannot happen: a change of it is under way."""


def advance(state: MappingState, event: MappingEvent) -> MappingState:
    """The state after ``event``. Raises ``NoTransition`` for what the table does not list."""
    after = _STATES.get((state, event))
    if after is None:
        raise NoTransition(f"{event} of a mapping that is {state}")
    return after


def is_settled(state: MappingState) -> bool:
    """Whether nothing is under way."""
    return state in (MappingState.ENABLED, MappingState.DISABLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAccess:
    """One of SourceAccessConfigurations: how to log in to a source or reach it. Types that stand
    for the function's own role have no ``uri``."""

    type: str
    uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedPollers:
    """Provisioned mode. Without numbers it is off; that is how an update ends it."""

    minimum: int | None = None
    maximum: int | None = None
    group: str | None = None

    @property
    def is_on(self) -> bool:
        return self != ProvisionedPollers()


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConfig:
    """Of MSK (``is_managed``) or self-managed Kafka. ``schema_registry`` is AWS's
    KafkaSchemaRegistryConfig as given; only self-managed Kafka has a ``consumption_mode``."""

    is_managed: bool
    consumer_group: str | None = None
    consumption_mode: str | None = None
    schema_registry: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentDbConfig:
    """Which changes are read. Without a collection, those of the whole database."""

    database: str | None = None
    collection: str | None = None
    full_document: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingOptions:
    """How a source is read and how failures are met. None: not given, or not for this kind.

    Empty values (no filters, no destination, 0 as ``max_concurrency``) are what an update sends
    to take something away. ``starting_timestamp`` is in epoch seconds. ``-1`` as
    ``max_retries`` or ``max_record_age_s`` means without end.
    """

    batch_size: int | None = None
    batching_window_s: int | None = None
    starting_position: str | None = None
    starting_timestamp: float | None = None
    filters: tuple[str, ...] | None = None
    kms_key_arn: str | None = None
    response_types: tuple[str, ...] | None = None
    parallelization_factor: int | None = None
    bisect_on_error: bool | None = None
    max_retries: int | None = None
    max_record_age_s: int | None = None
    tumbling_window_s: int | None = None
    on_failure: str | None = None
    max_concurrency: int | None = None
    pollers: ProvisionedPollers | None = None
    metrics: tuple[str, ...] | None = None
    system_log_level: str | None = None
    topics: tuple[str, ...] | None = None
    queues: tuple[str, ...] | None = None
    access: tuple[SourceAccess, ...] | None = None
    kafka: KafkaConfig | None = None
    documentdb: DocumentDbConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSourceMapping:
    """One mapping. ``source_arn`` is None for self-managed Kafka, which has ``servers`` instead.

    ``function`` may have been deleted since: the mapping stays, as on AWS.
    """

    account: str
    region: str
    uuid: str
    kind: SourceKind
    source_arn: str | None = None
    servers: tuple[str, ...] = ()
    function: FunctionKey
    qualifier: str | None = None
    options: PollingOptions
    is_enabled: bool = True
    state: MappingState = MappingState.CREATING
    state_reason: str
    last_result: str | None = None
    last_modified: float  # epoch seconds
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> MappingKey:
        return (self.account, self.region, self.uuid)

    @property
    def arn(self) -> str:
        return format_mapping_arn(self.key)

    @property
    def function_arn(self) -> str:
        """With the version or alias, if it was mapped to one."""
        account, region, name = self.function
        return format_function_arn(region, account, name, self.qualifier)

    @property
    def sources(self) -> tuple[str, ...]:
        """What it reads from: an ARN, or the addresses of brokers."""
        return self.servers if self.source_arn is None else (self.source_arn,)


def format_mapping_arn(key: MappingKey) -> str:
    """EventSourceMappingArn."""
    account, region, uuid = key
    return f"arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}"
