"""The operations on event source mappings, without HTTP: shapes, names, pages and tags."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from firelet.control.registry import Registry
from firelet.frontend.mappings import MappingOperations
from firelet.frontend.operations import Operations, Reply
from firelet.frontend.tags import TagOperations
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue, ResourceNotFound
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ACCOUNT, ARN, REGION, FakeActivator, make_call, new_function, settle

NOW = 1_795_417_200.0
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
CLUSTER = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/c/1"
BROKER = f"arn:aws:mq:{REGION}:{ACCOUNT}:broker:b:b-1"
DOCS = f"arn:aws:rds:{REGION}:{ACCOUNT}:cluster:docs"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:s"
BASIC = [{"Type": "BASIC_AUTH", "URI": SECRET}]
FILTERS = {"Filters": [{"Pattern": '{"body": ["a"]}'}]}
BROKERS = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["kafka:9092"]}}


class Api:
    """The operations of a platform with the function ``greeter``."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.operations = Operations()
        MappingOperations(registry).register(self.operations)
        TagOperations(registry).register(self.operations)

    async def call(self, operation: str, **params: Any) -> Any:
        handler = self.operations.find("lambda", operation)
        assert handler is not None
        return await handler(make_call(operation, **params))

    async def create(self, source: str | None = QUEUE, **params: Any) -> Any:
        if source is not None:
            params["EventSourceArn"] = source
        return await self.call("CreateEventSourceMapping", FunctionName="greeter", **params)

    async def options(self, source: str | None = QUEUE, **params: Any) -> dict[str, Any]:
        """The answer of a creation without what all mappings have."""
        created = dict(await self.create(source, **params))
        for name in ("UUID", "EventSourceMappingArn", "FunctionArn", "LastModified", "State"):
            del created[name]
        return created


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        clock=lambda: NOW,
    )
    await registry.functions.create(new_function())
    await settle(registry)
    yield Api(registry)
    await registry.close()


async def test_a_mapping_says_who_it_is(api: Api) -> None:
    created = await api.create()
    uuid = created["UUID"]
    assert len(uuid) == 36
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{uuid}"
    assert created["EventSourceMappingArn"] == arn
    assert (created["FunctionArn"], created["LastModified"]) == (ARN, NOW)
    assert created["State"] == "Creating"
    await settle(api.registry)
    found = await api.call("GetEventSourceMapping", UUID=uuid)
    assert found == {**created, "State": "Enabled"}


class TestDefaults:
    async def test_of_a_queue(self, api: Api) -> None:
        assert await api.options() == {
            "EventSourceArn": QUEUE,
            "BatchSize": 10,
            "MaximumBatchingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
            "StateTransitionReason": "USER_INITIATED",
        }

    async def test_of_a_stream(self, api: Api) -> None:
        assert await api.options(STREAM, StartingPosition="LATEST") == {
            "EventSourceArn": STREAM,
            "BatchSize": 100,
            "MaximumBatchingWindowInSeconds": 0,
            "StartingPosition": "LATEST",
            "BisectBatchOnFunctionError": False,
            "DestinationConfig": {"OnFailure": {}},
            "FunctionResponseTypes": [],
            "MaximumRecordAgeInSeconds": -1,
            "MaximumRetryAttempts": -1,
            "ParallelizationFactor": 1,
            "TumblingWindowInSeconds": 0,
            "LastProcessingResult": "No records processed",
            "StateTransitionReason": "User action",
        }

    async def test_of_a_self_managed_kafka(self, api: Api) -> None:
        created = await api.create(
            None,
            SelfManagedEventSource=BROKERS,
            Topics=["t-1"],
            SourceAccessConfigurations=BASIC,
        )
        assert "EventSourceArn" not in created
        assert created["SelfManagedEventSource"] == BROKERS
        assert created["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"] == created["UUID"]
        assert created["SourceAccessConfigurations"] == BASIC
        assert (created["BatchSize"], created["Topics"]) == (100, ["t-1"])
        assert created["StartingPosition"] == "TRIM_HORIZON"
        assert "MaximumBatchingWindowInSeconds" not in created

    async def test_of_a_broker_and_of_documents(self, api: Api) -> None:
        assert await api.options(BROKER, Queues=["q"], SourceAccessConfigurations=BASIC) == {
            "EventSourceArn": BROKER,
            "BatchSize": 100,
            "Queues": ["q"],
            "SourceAccessConfigurations": BASIC,
            "LastProcessingResult": "No records processed",
            "StateTransitionReason": "USER_INITIATED",
        }
        database = {"DatabaseName": "d", "FullDocument": "UpdateLookup"}
        created = await api.options(
            DOCS,
            StartingPosition="LATEST",
            SourceAccessConfigurations=BASIC,
            DocumentDBEventSourceConfig=database,
        )
        expected = {**database, "CollectionName": None}
        assert created["DocumentDBEventSourceConfig"] == expected


async def test_every_option_comes_back_as_it_was_given(api: Api) -> None:
    given = {
        "BatchSize": 50,
        "MaximumBatchingWindowInSeconds": 5,
        "FilterCriteria": FILTERS,
        "KMSKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": 7},
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }
    created = await api.create(**given)
    assert {name: created[name] for name in given} == given


async def test_every_option_of_kafka_comes_back(api: Api) -> None:
    registry = {"SchemaRegistryURI": "https://r", "EventRecordFormat": "JSON"}
    given = {
        "Topics": ["t-1"],
        "StartingPosition": "AT_TIMESTAMP",
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 3,
        "MaximumRecordAgeInSeconds": 60,
        "DestinationConfig": {"OnFailure": {"Destination": "kafka://dead"}},
        "MetricsConfig": {"Metrics": ["ErrorCount", "KafkaMetrics"]},
        "LoggingConfig": {"SystemLogLevel": "DEBUG"},
        "ProvisionedPollerConfig": {
            "MinimumPollers": 1,
            "MaximumPollers": 5,
            "PollerGroupName": "g",
        },
        "AmazonManagedKafkaEventSourceConfig": {
            "ConsumerGroupId": "mine",
            "SchemaRegistryConfig": registry,
        },
    }
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    created = await api.create(CLUSTER, StartingPositionTimestamp=moment, **given)
    assert {name: created[name] for name in given} == given
    assert created["StartingPositionTimestamp"] == moment.timestamp()


async def test_empty_values_take_things_away(api: Api) -> None:
    created = await api.create(
        FilterCriteria=FILTERS,
        ScalingConfig={"MaximumConcurrency": 7},
        MetricsConfig={"Metrics": ["EventCount"]},
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    updated = await api.call(
        "UpdateEventSourceMapping",
        UUID=created["UUID"],
        FilterCriteria={},
        ScalingConfig={},
        MetricsConfig={"Metrics": []},
        FunctionResponseTypes=[],
    )
    assert updated["FunctionResponseTypes"] == []
    assert not updated.keys() & {"FilterCriteria", "ScalingConfig", "MetricsConfig"}


async def test_a_change_of_function_is_by_any_form_of_its_name(api: Api) -> None:
    created = await api.create()
    updated = await api.call(
        "UpdateEventSourceMapping", UUID=created["UUID"], FunctionName=f"{ARN}:$LATEST"
    )
    assert updated["FunctionArn"] == f"{ARN}:$LATEST"
    assert updated["State"] == "Updating"


async def test_a_destination_for_successes_is_refused(api: Api) -> None:
    sentence = r"^Unsupported DestinationConfig parameter for given event source mapping type\.$"
    with pytest.raises(InvalidParameterValue, match=sentence):
        await api.create(
            STREAM, StartingPosition="LATEST", DestinationConfig={"OnSuccess": {"Destination": ""}}
        )


@pytest.mark.parametrize(
    "params",
    [
        {"EventSourceArn": QUEUE, "SelfManagedEventSource": BROKERS},
        {"EventSourceArn": BROKER, "SourceAccessConfigurations": [{"URI": "u"}]},
        {"EventSourceArn": QUEUE, "FilterCriteria": {"Filters": [{}]}},
    ],
)
async def test_requests_that_say_too_much_or_too_little_are_refused(
    api: Api, params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParameterValue):
        await api.create(None, **params)


class TestLists:
    async def test_pages_hold_a_hundred(self, api: Api) -> None:
        for number in range(limits.MAPPINGS_PER_PAGE + 1):
            await api.create(f"{QUEUE}-{number}")
        first = await api.call("ListEventSourceMappings", MaxItems=10_000)
        assert len(first["EventSourceMappings"]) == limits.MAPPINGS_PER_PAGE
        rest = await api.call("ListEventSourceMappings", Marker=first["NextMarker"])
        assert len(rest["EventSourceMappings"]) == 1
        assert "NextMarker" not in rest

    async def test_filters_by_source_and_function(self, api: Api) -> None:
        one = await api.create()
        two = await api.create(f"{QUEUE}-2")
        for params, expected in (
            ({"EventSourceArn": QUEUE}, {one["UUID"]}),
            ({"FunctionName": "greeter"}, {one["UUID"], two["UUID"]}),
            ({"FunctionName": ARN, "EventSourceArn": QUEUE}, {one["UUID"]}),
            ({"FunctionName": "greeter:live"}, set()),
            ({"FunctionName": "nobody"}, set()),
        ):
            found = await api.call("ListEventSourceMappings", **params)
            assert {item["UUID"] for item in found["EventSourceMappings"]} == expected

    async def test_encrypted_filters_are_kept_back(self, api: Api) -> None:
        await api.create(FilterCriteria=FILTERS)
        await api.create(f"{QUEUE}-2", FilterCriteria=FILTERS, KMSKeyArn="arn:aws:kms:::key/k")
        found = await api.call("ListEventSourceMappings")
        has_filters = {
            item["EventSourceArn"]: "FilterCriteria" in item
            for item in found["EventSourceMappings"]
        }
        assert has_filters == {QUEUE: True, f"{QUEUE}-2": False}


async def test_delete_answers_what_goes(api: Api) -> None:
    created = await api.create()
    deleted = await api.call("DeleteEventSourceMapping", UUID=created["UUID"])
    assert deleted == {**created, "State": "Deleting"}
    await settle(api.registry)
    with pytest.raises(ResourceNotFound):
        await api.call("DeleteEventSourceMapping", UUID=created["UUID"])


class TestTags:
    async def test_of_a_mapping(self, api: Api) -> None:
        created = await api.create(Tags={"a": "1"})
        arn = created["EventSourceMappingArn"]
        answer = await api.call("TagResource", Resource=arn, Tags={"b": "2"})
        assert isinstance(answer, Reply)
        await api.call("UntagResource", Resource=arn, TagKeys=["a"])
        assert await api.call("ListTags", Resource=arn) == {"Tags": {"b": "2"}}

    async def test_of_a_mapping_elsewhere(self, api: Api) -> None:
        created = await api.create()
        for there in (
            created["EventSourceMappingArn"].replace(ACCOUNT, "210987654321"),
            created["EventSourceMappingArn"].replace(REGION, "us-east-1"),
        ):
            with pytest.raises(ResourceNotFound) as refused:
                await api.call("ListTags", Resource=there)
            assert refused.value.message == f"Event source mapping not found: {there}"

    async def test_of_kinds_that_are_not_here(self, api: Api) -> None:
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:code-signing-config:csc-0123456789abcdef0"
        with pytest.raises(ResourceNotFound) as refused:
            await api.call("ListTags", Resource=arn)
        assert refused.value.message == (
            f"The Lambda code signing configuration {arn} can not be found."
        )
