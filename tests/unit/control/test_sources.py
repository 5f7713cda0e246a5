"""The rules of each kind of event source."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.control.source_checks import check_new, check_options, check_update
from firelet.control.sources import RULES, fill_defaults, find_kind, merge_options
from firelet.model.errors import InvalidParameterValue
from firelet.model.mapping import (
    DocumentDbConfig,
    KafkaConfig,
    PollingOptions,
    ProvisionedPollers,
    SourceAccess,
    SourceKind,
)

NOW = 1_795_417_200.0
ARNS = {
    SourceKind.SQS: "arn:aws:sqs:eu-central-1:123456789012:jobs",
    SourceKind.SQS_FIFO: "arn:aws:sqs:eu-central-1:123456789012:jobs.fifo",
    SourceKind.KINESIS: "arn:aws:kinesis:eu-central-1:123456789012:stream/clicks",
    SourceKind.DYNAMODB: (
        "arn:aws:dynamodb:eu-central-1:123456789012:table/t/stream/2026-01-01T00:00:00.000"
    ),
    SourceKind.MSK: "arn:aws:kafka:eu-central-1:123456789012:cluster/c/0-0-0-0-0",
    SourceKind.MQ: "arn:aws:mq:eu-central-1:123456789012:broker:b:b-1234",
    SourceKind.DOCUMENTDB: "arn:aws:rds:eu-central-1:123456789012:cluster:docs",
}
SECRET = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s"
BASIC = (SourceAccess(type="BASIC_AUTH", uri=SECRET),)
# The least that each kind takes.
LEAST: dict[SourceKind, dict[str, Any]] = {
    SourceKind.SQS: {},
    SourceKind.SQS_FIFO: {},
    SourceKind.KINESIS: {"starting_position": "LATEST"},
    SourceKind.DYNAMODB: {"starting_position": "LATEST"},
    SourceKind.MSK: {"topics": ("t",)},
    SourceKind.KAFKA: {"topics": ("t",), "access": BASIC},
    SourceKind.MQ: {"queues": ("q",), "access": BASIC},
    SourceKind.DOCUMENTDB: {
        "starting_position": "LATEST",
        "access": BASIC,
        "documentdb": DocumentDbConfig(database="d"),
    },
}
UNSUPPORTED = "Unsupported {} parameter for given event source mapping type."
KINDS = list(SourceKind)
MANAGED = KafkaConfig(is_managed=True)
OWN = KafkaConfig(is_managed=False)
QUEUE = KafkaConfig(is_managed=False, consumption_mode="Queue")
REGISTRY = KafkaConfig(is_managed=True, schema_registry={"SchemaRegistryURI": "https://r"})


def check(kind: SourceKind, **options: Any) -> None:
    given = PollingOptions(**{**LEAST[kind], **options})
    check_new(kind, given, ARNS.get(kind), NOW)


def refuse(kind: SourceKind, sentence: str, **options: Any) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        check(kind, **options)
    assert refused.value.message == sentence


@pytest.mark.parametrize(("kind", "arn"), ARNS.items())
def test_the_arn_tells_the_kind(kind: SourceKind, arn: str) -> None:
    assert find_kind(arn, ()) is kind


def test_a_consumer_of_a_stream_and_a_vpc_connection_are_sources() -> None:
    consumer = f"{ARNS[SourceKind.KINESIS]}/consumer/fast:1"
    assert find_kind(consumer, ()) is SourceKind.KINESIS
    connection = "arn:aws:kafka:eu-central-1:123456789012:vpc-connection/1/c/0"
    assert find_kind(connection, ()) is SourceKind.MSK


def test_brokers_are_a_self_managed_kafka() -> None:
    assert find_kind(None, ("kafka:9092",)) is SourceKind.KAFKA


@pytest.mark.parametrize(
    "arn",
    [
        None,
        "arn:aws:sns:eu-central-1:123456789012:topic",
        "arn:aws:dynamodb:eu-central-1:123456789012:table/t",
        "arn:aws:kinesis:eu-central-1:123456789012:clicks",
        "arn:aws:sqs:eu-central-1:123456789012:",
        "arn:aws:rds:eu-central-1:123456789012:db:one",
    ],
)
def test_other_sources_are_not_recognised(arn: str | None) -> None:
    with pytest.raises(InvalidParameterValue, match=r"^Unrecognized event source\.$"):
        find_kind(arn, ())


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_is_enough(kind: SourceKind) -> None:
    check(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_aws_fills_in_is_allowed(kind: SourceKind) -> None:
    filled = fill_defaults(kind, PollingOptions(**LEAST[kind]), "some-uuid")
    check_options(kind, filled)
    for name, value in LEAST[kind].items():
        assert getattr(filled, name) == value


def test_the_defaults_are_those_of_each_kind() -> None:
    assert RULES[SourceKind.SQS].defaults == PollingOptions(
        batch_size=10, batching_window_s=0, response_types=()
    )
    assert RULES[SourceKind.KINESIS].defaults == RULES[SourceKind.DYNAMODB].defaults
    kafka = fill_defaults(SourceKind.KAFKA, PollingOptions(**LEAST[SourceKind.KAFKA]), "u-1")
    assert kafka.kafka == KafkaConfig(is_managed=False, consumer_group="u-1")
    assert (kafka.batch_size, kafka.starting_position) == (100, "TRIM_HORIZON")
    assert kafka.batching_window_s is None  # AWS's default is 500 ms, which has no number here


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (SourceKind.KAFKA, "sourceAccessConfigurations"),
        (SourceKind.MSK, "topics"),
        (SourceKind.MQ, "sourceAccessConfigurations"),
        (SourceKind.DOCUMENTDB, "sourceAccessConfigurations"),
    ],
)
def test_what_a_kind_needs_is_asked_for(kind: SourceKind, name: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        check_new(kind, PollingOptions(starting_position="LATEST"), ARNS.get(kind), NOW)
    assert refused.value.message == f"Required '{name}' parameter is missing."


class TestPositions:
    @pytest.mark.parametrize(
        "kind", [SourceKind.KINESIS, SourceKind.DYNAMODB, SourceKind.DOCUMENTDB]
    )
    def test_a_stream_needs_one(self, kind: SourceKind) -> None:
        sentence = (
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy"
            " constraint: Member must not be null."
        )
        refuse(kind, sentence, starting_position=None)

    def test_dynamodb_cannot_start_at_a_moment(self) -> None:
        sentence = f"Unsupported starting position for arn type: {ARNS[SourceKind.DYNAMODB]}"
        refuse(SourceKind.DYNAMODB, sentence, starting_position="AT_TIMESTAMP")

    def test_a_queue_has_none(self) -> None:
        sentence = "StartingPosition is not valid for SQS event sources."
        for kind in (SourceKind.SQS, SourceKind.SQS_FIFO):
            refuse(kind, sentence, starting_position="LATEST")
            refuse(kind, sentence, starting_timestamp=NOW)

    def test_a_moment_belongs_to_at_timestamp(self) -> None:
        sentence = "Timestamp only valid with StartingPosition AT_TIMESTAMP"
        refuse(SourceKind.KINESIS, sentence, starting_timestamp=NOW - 1)
        check(SourceKind.KINESIS, starting_position="AT_TIMESTAMP", starting_timestamp=NOW - 1)

    def test_at_timestamp_needs_a_moment_of_the_past(self) -> None:
        sentence = "StartingPositionTimestamp is required with StartingPosition AT_TIMESTAMP"
        refuse(SourceKind.KINESIS, sentence, starting_position="AT_TIMESTAMP")
        sentence = "StartingPositionTimestamp cannot be in the future."
        refuse(
            SourceKind.KINESIS,
            sentence,
            starting_position="AT_TIMESTAMP",
            starting_timestamp=NOW + 60,
        )


class TestBatches:
    def test_a_large_batch_of_a_queue_needs_a_window(self) -> None:
        sentence = (
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is"
            " greater than 10"
        )
        refuse(SourceKind.SQS, sentence, batch_size=11)
        check(SourceKind.SQS, batch_size=10_000, batching_window_s=1)

    def test_streams_are_not_held_to_it(self) -> None:
        check(SourceKind.KINESIS, batch_size=100, batching_window_s=0)

    def test_a_fifo_queue_gives_ten_at_most_and_at_once(self) -> None:
        refuse(
            SourceKind.SQS_FIFO,
            "Maximum batch size must be between 1 and 10 inclusive",
            batch_size=11,
        )
        refuse(
            SourceKind.SQS_FIFO,
            "Batching window is not supported for FIFO queues",
            batching_window_s=5,
        )


@pytest.mark.parametrize(
    ("kind", "member", "option"),
    [
        (SourceKind.SQS, "ParallelizationFactor", {"parallelization_factor": 2}),
        (SourceKind.SQS, "BisectBatchOnFunctionError", {"bisect_on_error": True}),
        (SourceKind.SQS, "DestinationConfig", {"on_failure": "arn:aws:sqs:::q"}),
        (SourceKind.SQS, "MaximumRetryAttempts", {"max_retries": 2}),
        (SourceKind.SQS, "Topics", {"topics": ("t",)}),
        (SourceKind.SQS, "SelfManagedKafkaEventSourceConfig", {"kafka": OWN}),
        (SourceKind.SQS, "AmazonManagedKafkaEventSourceConfig", {"kafka": MANAGED}),
        (
            SourceKind.SQS_FIFO,
            "ProvisionedPollerConfig",
            {"pollers": ProvisionedPollers(minimum=2)},
        ),
        (SourceKind.KINESIS, "ScalingConfig", {"max_concurrency": 5}),
        (SourceKind.KINESIS, "LoggingConfig", {"system_log_level": "DEBUG"}),
        (SourceKind.DYNAMODB, "ErrorCount", {"metrics": ("ErrorCount",)}),
        (SourceKind.MSK, "TumblingWindowInSeconds", {"tumbling_window_s": 60}),
        (SourceKind.MSK, "SelfManagedKafkaEventSourceConfig", {"kafka": OWN}),
        (SourceKind.KAFKA, "AmazonManagedKafkaEventSourceConfig", {"kafka": MANAGED}),
        (SourceKind.MQ, "FunctionResponseTypes", {"response_types": ("R",)}),
        (SourceKind.MQ, "MetricsConfig", {"metrics": ("EventCount",)}),
        (SourceKind.DOCUMENTDB, "FilterCriteria", {"filters": ('{"a": ["b"]}',)}),
    ],
)
def test_an_option_of_another_kind_is_refused(
    kind: SourceKind, member: str, option: dict[str, Any]
) -> None:
    refuse(kind, UNSUPPORTED.format(member), **option)


class TestFailures:
    def test_records_live_for_a_minute_or_for_good(self) -> None:
        sentence = "MaximumRecordAgeInSeconds must be -1 or between 60 and 604800."
        refuse(SourceKind.KINESIS, sentence, max_record_age_s=59)
        check(SourceKind.KINESIS, max_record_age_s=-1)
        check(SourceKind.KINESIS, max_record_age_s=60)

    def test_a_failed_batch_goes_to_a_queue_a_topic_or_a_bucket(self) -> None:
        for destination in ("arn:aws:sqs:eu-central-1:1:q", "arn:aws:s3:::bucket"):
            check(SourceKind.KINESIS, on_failure=destination)
        function = "arn:aws:lambda:eu-central-1:123456789012:function:f"
        refuse(
            SourceKind.KINESIS,
            f"The destination ARN {function} is invalid.",
            on_failure=function,
        )

    def test_only_kafka_sends_them_to_a_topic(self) -> None:
        check(SourceKind.MSK, on_failure="kafka://dead")
        refuse(
            SourceKind.KINESIS,
            "The destination ARN kafka://dead is invalid.",
            on_failure="kafka://dead",
        )


class TestPollers:
    def test_a_queue_has_two_at_least(self) -> None:
        sentence = "MinimumPollers must be between 2 and 10000."
        refuse(SourceKind.SQS, sentence, pollers=ProvisionedPollers(minimum=1))
        check(SourceKind.MSK, pollers=ProvisionedPollers(minimum=1))

    def test_kafka_has_two_thousand_at_most(self) -> None:
        sentence = "MaximumPollers must be between 1 and 2000."
        refuse(SourceKind.MSK, sentence, pollers=ProvisionedPollers(maximum=2_001))
        check(SourceKind.SQS, pollers=ProvisionedPollers(maximum=2_001))

    def test_the_minimum_is_the_smaller(self) -> None:
        sentence = "MinimumPollers cannot be greater than MaximumPollers."
        refuse(SourceKind.MSK, sentence, pollers=ProvisionedPollers(minimum=9, maximum=3))

    def test_they_exclude_a_concurrency(self) -> None:
        sentence = "ScalingConfig and ProvisionedPollerConfig cannot be used together."
        pollers = ProvisionedPollers(minimum=2)
        refuse(SourceKind.SQS, sentence, pollers=pollers, max_concurrency=5)

    def test_only_kafka_groups_them(self) -> None:
        group = ProvisionedPollers(minimum=2, group="g")
        refuse(SourceKind.SQS, UNSUPPORTED.format("PollerGroupName"), pollers=group)
        check(SourceKind.MSK, pollers=group)

    def test_the_number_left_out_is_filled_in(self) -> None:
        given = PollingOptions(pollers=ProvisionedPollers(maximum=50))
        assert fill_defaults(SourceKind.SQS, given, "u").pollers == ProvisionedPollers(
            minimum=2, maximum=50
        )
        given = PollingOptions(pollers=ProvisionedPollers(minimum=5))
        assert fill_defaults(SourceKind.SQS, given, "u").pollers == ProvisionedPollers(
            minimum=5, maximum=200
        )

    def test_a_schema_registry_needs_them(self) -> None:
        sentence = "SchemaRegistryConfig requires ProvisionedPollerConfig."
        refuse(SourceKind.MSK, sentence, kafka=REGISTRY)
        check(SourceKind.MSK, kafka=REGISTRY, pollers=ProvisionedPollers(minimum=1))


class TestQueueMode:
    def test_it_keeps_its_own_place(self) -> None:
        sentence = "StartingPosition is not supported when ConsumptionMode is Queue."
        refuse(SourceKind.KAFKA, sentence, kafka=QUEUE, starting_position="LATEST")
        given = PollingOptions(**LEAST[SourceKind.KAFKA], kafka=QUEUE)
        filled = fill_defaults(SourceKind.KAFKA, given, "u")
        assert (filled.starting_position, filled.max_retries) == (None, 0)

    def test_it_never_retries_without_end(self) -> None:
        sentence = "MaximumRetryAttempts cannot be -1 when ConsumptionMode is Queue."
        refuse(SourceKind.KAFKA, sentence, kafka=QUEUE, max_retries=-1)


class TestFilters:
    def test_a_bad_pattern_is_refused(self) -> None:
        refuse(SourceKind.SQS, "Invalid filter pattern definition.", filters=("simple",))

    def test_there_are_five_at_most(self) -> None:
        pattern = '{"body": ["a"]}'
        check(SourceKind.SQS, filters=(pattern,) * 5)
        sentence = "FilterCriteria cannot have more than 5 filters."
        refuse(SourceKind.SQS, sentence, filters=(pattern,) * 6)


def test_a_way_to_log_in_belongs_to_its_kind() -> None:
    access = (SourceAccess(type="VPC_SUBNET", uri="subnet:subnet-1"),)
    check(SourceKind.KAFKA, access=access)
    sentence = "SourceAccessConfiguration type VPC_SUBNET is not supported for MQ event sources."
    refuse(SourceKind.MQ, sentence, access=access)


class TestUpdates:
    def test_what_is_given_replaces_and_the_rest_stays(self) -> None:
        before = PollingOptions(batch_size=10, filters=("a",), response_types=("R",))
        after = merge_options(before, PollingOptions(batch_size=5, filters=()))
        assert after == PollingOptions(batch_size=5, filters=(), response_types=("R",))

    def test_the_consumer_group_stays(self) -> None:
        before = PollingOptions(kafka=KafkaConfig(is_managed=True, consumer_group="g"))
        changes = PollingOptions(kafka=REGISTRY)
        check_update(before, changes)
        merged = merge_options(before, changes).kafka
        assert merged is not None
        assert merged.consumer_group == "g"
        other = PollingOptions(kafka=KafkaConfig(is_managed=True, consumer_group="h"))
        with pytest.raises(InvalidParameterValue, match="ConsumerGroupId cannot be updated"):
            check_update(before, other)

    def test_a_virtual_host_cannot_be_given(self) -> None:
        changes = PollingOptions(access=(SourceAccess(type="VIRTUAL_HOST", uri="/"),))
        with pytest.raises(InvalidParameterValue, match="VIRTUAL_HOST"):
            check_update(PollingOptions(), changes)
