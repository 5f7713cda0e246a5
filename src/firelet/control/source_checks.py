"""The rules about a mapping's options, by the kind of its source. Pure.

Called by ``control.mappings`` with options that satisfy the service model. Sentences are AWS's
where they have been recorded; the others say the rule of the service model's documentation.
"""

from __future__ import annotations

from dataclasses import fields

from firelet.control.sources import MEMBERS, QUEUE_MODE, RULES, SourceRules
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.model.filter_pattern import InvalidPattern, check_pattern
from firelet.model.mapping import KafkaConfig, PollingOptions, SourceKind

_AT_TIMESTAMP = "AT_TIMESTAMP"
_REQUIRED = {
    "access": "sourceAccessConfigurations",
    "topics": "topics",
    "queues": "queues",
    "documentdb": "documentDBEventSourceConfig",
}


def check_new(
    kind: SourceKind, options: PollingOptions, source_arn: str | None, now: float
) -> None:
    """Whether a mapping of that kind may be created with these options; InvalidParameterValue.
    ``now`` is in epoch seconds."""
    rules = RULES[kind]
    for name in rules.needs:
        if not getattr(options, name):
            raise InvalidParameterValue(f"Required '{_REQUIRED[name]}' parameter is missing.")
    if options.documentdb is not None and options.documentdb.database is None:
        raise InvalidParameterValue("Required 'databaseName' parameter is missing.")
    if _is_queue_mode(options.kafka):
        _check_queue_mode(options)
    else:
        _check_position(rules, options, source_arn, now)
    check_options(kind, options)


def check_options(kind: SourceKind, options: PollingOptions) -> None:
    """The rules that hold for new mappings and for updated ones alike."""
    rules = RULES[kind]
    _check_batch(kind, options)
    if options.kafka is not None and kind is not _kafka_kind(options.kafka):
        raise _unsupported(_kafka_member(options.kafka))
    _check_members(rules, options)
    for check in (_check_failures, _check_pollers, _check_choices):
        check(rules, options)
    _check_filters(options)


def check_update(options: PollingOptions, changes: PollingOptions) -> None:
    """What an update of a mapping with ``options`` may not give."""
    before, kafka = options.kafka, changes.kafka
    if before is not None and kafka is not None:
        for member, old, new in (
            ("ConsumerGroupId", before.consumer_group, kafka.consumer_group),
            ("ConsumptionMode", before.consumption_mode, kafka.consumption_mode),
        ):
            if new is not None and new != old:
                raise InvalidParameterValue(f"{member} cannot be updated.")
    if any(access.type == "VIRTUAL_HOST" for access in changes.access or ()):
        raise InvalidParameterValue("VIRTUAL_HOST cannot be updated.")


def _check_position(
    rules: SourceRules, options: PollingOptions, source_arn: str | None, now: float
) -> None:
    position, timestamp = options.starting_position, options.starting_timestamp
    if not rules.positions:
        if position is not None or timestamp is not None:
            raise InvalidParameterValue(
                f"StartingPosition is not valid for {rules.label} event sources."
            )
        return
    if position is None and rules.needs_position:
        raise InvalidParameterValue(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy"
            " constraint: Member must not be null."
        )
    if position is not None and position not in rules.positions:
        raise InvalidParameterValue(f"Unsupported starting position for arn type: {source_arn}")
    if timestamp is not None and position != _AT_TIMESTAMP:
        raise InvalidParameterValue("Timestamp only valid with StartingPosition AT_TIMESTAMP")
    if position == _AT_TIMESTAMP and timestamp is None:
        raise InvalidParameterValue(
            "StartingPositionTimestamp is required with StartingPosition AT_TIMESTAMP"
        )
    if timestamp is not None and timestamp < 0:
        raise InvalidParameterValue(
            "Received Exception while reading from provided stream. class java.lang.Long can not"
            " be converted to a Timestamp"
        )
    if timestamp is not None and timestamp > now:
        raise InvalidParameterValue("StartingPositionTimestamp cannot be in the future.")


def _check_queue_mode(options: PollingOptions) -> None:
    """Share groups keep their own place, and redeliver by themselves."""
    for name in ("starting_position", "starting_timestamp", "batching_window_s"):
        if getattr(options, name) is not None:
            raise InvalidParameterValue(
                f"{MEMBERS[name]} is not supported when ConsumptionMode is {QUEUE_MODE}."
            )


def _check_batch(kind: SourceKind, options: PollingOptions) -> None:
    size, window = options.batch_size, options.batching_window_s
    if kind is SourceKind.SQS_FIFO:
        if window:
            raise InvalidParameterValue("Batching window is not supported for FIFO queues")
        if size is not None and size > limits.FIFO_BATCH_MAX:
            raise InvalidParameterValue(
                f"Maximum batch size must be between 1 and {limits.FIFO_BATCH_MAX} inclusive"
            )
    # The model's documentation says so of streams too, and the service does not hold them to it.
    is_large = size is not None and size > limits.UNWINDOWED_BATCH_MAX
    if kind is SourceKind.SQS and is_large and not window:
        raise InvalidParameterValue(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is"
            f" greater than {limits.UNWINDOWED_BATCH_MAX}"
        )


def _check_members(rules: SourceRules, options: PollingOptions) -> None:
    """Options that this kind of source does not have."""
    for option in fields(options):
        # Empty values take away what is not there: nothing to refuse.
        if option.name not in rules.takes and getattr(options, option.name):
            raise _unsupported(MEMBERS[option.name])


def _check_failures(rules: SourceRules, options: PollingOptions) -> None:
    age = options.max_record_age_s
    if age is not None and age != -1 and age < limits.MAX_RECORD_AGE_MIN_S:
        raise InvalidParameterValue(
            "MaximumRecordAgeInSeconds must be -1 or between"
            f" {limits.MAX_RECORD_AGE_MIN_S} and 604800."
        )
    if _is_queue_mode(options.kafka) and options.max_retries == -1:
        raise InvalidParameterValue(
            f"MaximumRetryAttempts cannot be -1 when ConsumptionMode is {QUEUE_MODE}."
        )
    if options.on_failure and not options.on_failure.startswith(rules.destinations):
        raise InvalidParameterValue(f"The destination ARN {options.on_failure} is invalid.")


def _check_pollers(rules: SourceRules, options: PollingOptions) -> None:
    pollers = options.pollers
    if pollers is None or not pollers.is_on:
        return
    if options.max_concurrency:
        raise InvalidParameterValue(
            "ScalingConfig and ProvisionedPollerConfig cannot be used together."
        )
    for member, count in (
        ("MinimumPollers", pollers.minimum),
        ("MaximumPollers", pollers.maximum),
    ):
        if count is not None and count not in rules.pollers:
            raise InvalidParameterValue(
                f"{member} must be between {rules.pollers.start} and {rules.pollers.stop - 1}."
            )
    is_known = pollers.minimum is not None and pollers.maximum is not None
    if is_known and (pollers.minimum or 0) > (pollers.maximum or 0):
        raise InvalidParameterValue("MinimumPollers cannot be greater than MaximumPollers.")
    if pollers.group and "topics" not in rules.takes:
        raise _unsupported("PollerGroupName")


def _check_choices(rules: SourceRules, options: PollingOptions) -> None:
    """Members of enumerations that only some kinds know."""
    for metric in options.metrics or ():
        if metric not in rules.metrics:
            raise _unsupported(metric)
    for access in options.access or ():
        if access.type not in rules.access:
            raise InvalidParameterValue(
                f"SourceAccessConfiguration type {access.type} is not supported for"
                f" {rules.label} event sources."
            )
    registry = None if options.kafka is None else options.kafka.schema_registry
    if registry and (options.pollers is None or not options.pollers.is_on):
        raise InvalidParameterValue("SchemaRegistryConfig requires ProvisionedPollerConfig.")


def _check_filters(options: PollingOptions) -> None:
    filters = options.filters or ()
    if len(filters) > limits.FILTERS_MAX:
        raise InvalidParameterValue(
            f"FilterCriteria cannot have more than {limits.FILTERS_MAX} filters."
        )
    for pattern in filters:
        try:
            check_pattern(pattern)
        except InvalidPattern:
            raise InvalidParameterValue("Invalid filter pattern definition.") from None


def _unsupported(member: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Unsupported {member} parameter for given event source mapping type."
    )


def _is_queue_mode(kafka: KafkaConfig | None) -> bool:
    return kafka is not None and kafka.consumption_mode == QUEUE_MODE


def _kafka_member(kafka: KafkaConfig) -> str:
    return (
        "AmazonManagedKafkaEventSourceConfig"
        if kafka.is_managed
        else "SelfManagedKafkaEventSourceConfig"
    )


def _kafka_kind(kafka: KafkaConfig) -> SourceKind:
    return SourceKind.MSK if kafka.is_managed else SourceKind.KAFKA
