"""Event source mappings as the registry keeps them: states, records, duplicates, tags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firelet.control.mappings import MappingChange, NewMapping
from firelet.control.registry import Registry
from firelet.model.errors import (
    InvalidParameterValue,
    ResourceConflict,
    ResourceInUse,
    ResourceNotFound,
)
from firelet.model.mapping import (
    EventSourceMapping,
    KafkaConfig,
    MappingState,
    PollingOptions,
    ProvisionedPollers,
    SourceAccess,
)
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ACCOUNT, ARN, KEY, REGION, FakeActivator, new_function, settle

QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
NOW = 1_795_417_200.0
KAFKA = PollingOptions(
    topics=("topic",), access=(SourceAccess(type="SASL_SCRAM_512_AUTH", uri="arn:aws:s:::x"),)
)


class FakePollers:
    """Follows at once, unless the gate is shut."""

    def __init__(self) -> None:
        self.followed: list[EventSourceMapping] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def follow(self, mapping: EventSourceMapping) -> None:
        self.followed.append(mapping)
        await self.gate.wait()


@pytest.fixture
def pollers() -> FakePollers:
    return FakePollers()


def make_registry(documents: MemoryDocuments, blobs: BlobStore, pollers: FakePollers) -> Registry:
    return Registry(
        documents,
        blobs,
        activator=FakeActivator(),
        pollers=pollers,
        clock=lambda: NOW,
        update_wait_s=0.0,
    )


@pytest.fixture
async def registry(
    documents: MemoryDocuments, blobs: BlobStore, pollers: FakePollers
) -> AsyncIterator[Registry]:
    """With ``greeter``, its version 1 and the alias ``live``."""
    registry = make_registry(documents, blobs, pollers)
    await registry.load()
    await registry.functions.create(new_function(publish=True))
    await settle(registry)
    await registry.aliases.create(KEY, "live", "1")
    yield registry
    pollers.gate.set()
    await registry.close()


def new(source: str | None = QUEUE, **changes: Any) -> NewMapping:
    fields: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "function": KEY}
    return NewMapping(**{**fields, "source_arn": source, **changes})


async def made(registry: Registry, *args: Any, **changes: Any) -> EventSourceMapping:
    """A mapping that has settled."""
    created = await registry.mappings.create(new(*args, **changes))
    await settle(registry)
    return registry.mappings.get(created.key)


class TestStates:
    async def test_a_new_mapping_is_creating_and_then_enabled(self, registry: Registry) -> None:
        created = await registry.mappings.create(new())
        assert created.state is MappingState.CREATING
        await settle(registry)
        assert registry.mappings.get(created.key).state is MappingState.ENABLED

    async def test_one_that_is_not_enabled_is_disabled(self, registry: Registry) -> None:
        created = await registry.mappings.create(new(is_enabled=False))
        assert created.state is MappingState.CREATING
        await settle(registry)
        assert registry.mappings.get(created.key).state is MappingState.DISABLED

    async def test_it_is_not_enabled_before_the_pollers_are_there(
        self, registry: Registry, pollers: FakePollers
    ) -> None:
        pollers.gate.clear()
        created = await registry.mappings.create(new())
        await asyncio.sleep(0)
        assert registry.mappings.get(created.key).state is MappingState.CREATING
        pollers.gate.set()
        await settle(registry)
        assert registry.mappings.get(created.key).state is MappingState.ENABLED

    @pytest.mark.parametrize(
        ("change", "during", "after"),
        [
            (
                MappingChange(options=PollingOptions(batch_size=5)),
                MappingState.UPDATING,
                MappingState.ENABLED,
            ),
            (
                MappingChange(is_enabled=False),
                MappingState.DISABLING,
                MappingState.DISABLED,
            ),
        ],
    )
    async def test_an_update_passes_through_its_state(
        self,
        registry: Registry,
        change: MappingChange,
        during: MappingState,
        after: MappingState,
    ) -> None:
        mapping = await made(registry)
        assert (await registry.mappings.update(mapping.key, change)).state is during
        await settle(registry)
        assert registry.mappings.get(mapping.key).state is after

    async def test_a_disabled_one_is_enabled_again(self, registry: Registry) -> None:
        mapping = await made(registry, is_enabled=False)
        change = MappingChange(is_enabled=True)
        assert (await registry.mappings.update(mapping.key, change)).state is (
            MappingState.ENABLING
        )
        await settle(registry)
        assert registry.mappings.get(mapping.key).state is MappingState.ENABLED

    async def test_a_deleted_one_is_deleting_and_then_gone(self, registry: Registry) -> None:
        mapping = await made(registry)
        assert (await registry.mappings.delete(mapping.key)).state is MappingState.DELETING
        await settle(registry)
        with pytest.raises(ResourceNotFound, match="The resource you requested does not exist"):
            registry.mappings.get(mapping.key)
        assert list(registry.mappings.all(ACCOUNT, REGION, QUEUE)) == []

    async def test_a_change_under_way_keeps_others_out(
        self, registry: Registry, pollers: FakePollers
    ) -> None:
        pollers.gate.clear()
        created = await registry.mappings.create(new())
        with pytest.raises(ResourceInUse, match="Cannot update the event source mapping because"):
            await registry.mappings.update(created.key, MappingChange(is_enabled=False))
        with pytest.raises(ResourceInUse, match="Cannot delete the event source mapping because"):
            await registry.mappings.delete(created.key)

    async def test_the_reason_and_the_first_result_are_those_of_the_kind(
        self, registry: Registry
    ) -> None:
        queue = await made(registry)
        stream = await made(registry, STREAM, options=PollingOptions(starting_position="LATEST"))
        assert (queue.state_reason, queue.last_result) == ("USER_INITIATED", None)
        assert (stream.state_reason, stream.last_result) == (
            "User action",
            "No records processed",
        )


class TestUpdates:
    async def test_what_is_not_given_stays(self, registry: Registry) -> None:
        mapping = await made(registry, options=PollingOptions(filters=('{"body": ["a"]}',)))
        change = MappingChange(options=PollingOptions(batch_size=3))
        updated = await registry.mappings.update(mapping.key, change)
        assert updated.options.batch_size == 3
        assert updated.options.filters == ('{"body": ["a"]}',)

    async def test_rules_hold_for_the_old_and_the_new_together(self, registry: Registry) -> None:
        mapping = await made(registry, options=PollingOptions(batch_size=100, batching_window_s=5))
        change = MappingChange(options=PollingOptions(batching_window_s=0))
        with pytest.raises(InvalidParameterValue, match="Maximum batch window in seconds"):
            await registry.mappings.update(mapping.key, change)
        assert registry.mappings.get(mapping.key) == mapping

    async def test_provisioned_mode_begins_and_ends(self, registry: Registry) -> None:
        mapping = await made(registry)
        on = PollingOptions(pollers=ProvisionedPollers(minimum=3))
        updated = await registry.mappings.update(mapping.key, MappingChange(options=on))
        assert updated.options.pollers == ProvisionedPollers(minimum=3, maximum=200)
        await settle(registry)
        off = PollingOptions(pollers=ProvisionedPollers())
        updated = await registry.mappings.update(mapping.key, MappingChange(options=off))
        assert updated.options.pollers is None

    async def test_another_function_can_take_over(self, registry: Registry) -> None:
        mapping = await made(registry)
        updated = await registry.mappings.update(mapping.key, MappingChange(function=(KEY, "live")))
        assert updated.function_arn == f"{ARN}:live"

    async def test_not_one_that_has_the_source_already(self, registry: Registry) -> None:
        await made(registry, qualifier="live")
        mapping = await made(registry)
        with pytest.raises(ResourceConflict, match="already exists"):
            await registry.mappings.update(mapping.key, MappingChange(function=(KEY, "live")))


class TestFunctions:
    @pytest.mark.parametrize(
        ("key", "qualifier"),
        [((ACCOUNT, REGION, "nobody"), None), (KEY, "2"), (KEY, "nowhere")],
    )
    async def test_a_function_that_is_not_there_is_refused(
        self, registry: Registry, key: tuple[str, str, str], qualifier: str | None
    ) -> None:
        with pytest.raises(InvalidParameterValue, match=r"^Function does not exist$"):
            await registry.mappings.create(new(function=key, qualifier=qualifier))

    async def test_a_mapping_outlives_its_function(self, registry: Registry) -> None:
        mapping = await made(registry)
        await registry.functions.delete(KEY)
        assert registry.mappings.get(mapping.key) == mapping


class TestDuplicates:
    async def refusal(self, registry: Registry, *args: Any, **changes: Any) -> str:
        with pytest.raises(ResourceConflict) as refused:
            await registry.mappings.create(new(*args, **changes))
        return refused.value.message

    async def test_of_a_queue(self, registry: Registry) -> None:
        first = await made(registry)
        assert await self.refusal(registry) == (
            f'An event source mapping with SQS arn (" {QUEUE} ") and function (" greeter ")'
            " already exists. Please update or delete the existing mapping with UUID"
            f" {first.uuid}"
        )

    async def test_of_a_stream(self, registry: Registry) -> None:
        options = PollingOptions(starting_position="LATEST")
        first = await made(registry, STREAM, options=options)
        assert await self.refusal(registry, STREAM, options=options) == (
            f'The event source arn (" {STREAM} ") and function (" greeter ") provided mapping'
            f" already exists. Please update or delete the existing mapping with UUID {first.uuid}"
        )

    async def test_of_a_topic_through_any_shared_broker(self, registry: Registry) -> None:
        first = await made(registry, None, servers=("kafka:1000",), options=KAFKA)
        servers = ("kafka:1000", "kafka:2000")
        assert await self.refusal(registry, None, servers=servers, options=KAFKA) == (
            'An event source mapping with event source ("kafka:1000,kafka:2000"), function'
            f' ("{ARN}"), topics ("topic") already exists. Please update or delete the existing'
            f" mapping with UUID {first.uuid}"
        )

    async def test_another_topic_or_version_is_no_duplicate(self, registry: Registry) -> None:
        await made(registry, None, servers=("kafka:1000",), options=KAFKA)
        other = PollingOptions(topics=("other",), access=KAFKA.access)
        await made(registry, None, servers=("kafka:1000",), options=other)
        await made(registry, None, servers=("kafka:1000",), options=KAFKA, qualifier="1")
        assert len(list(registry.mappings.all(ACCOUNT, REGION))) == 3

    async def test_two_at_once_are_one(self, registry: Registry) -> None:
        outcomes = await asyncio.gather(
            *(registry.mappings.create(new()) for _ in range(5)), return_exceptions=True
        )
        assert sum(isinstance(item, ResourceConflict) for item in outcomes) == 4

    async def test_two_that_move_to_one_function_at_once_are_one(self, registry: Registry) -> None:
        first, second = await made(registry), await made(registry, qualifier="live")
        change = MappingChange(function=(KEY, "1"))
        outcomes = await asyncio.gather(
            *(registry.mappings.update(item.key, change) for item in (first, second)),
            return_exceptions=True,
        )
        assert [isinstance(item, ResourceConflict) for item in outcomes] == [False, True]

    async def test_one_that_could_not_be_stored_is_none(
        self, registry: Registry, documents: MemoryDocuments, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(changes: object) -> None:
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(documents, "apply", fail)
            with pytest.raises(OSError, match="disk full"):
                await registry.mappings.create(new())
        assert list(registry.mappings.all(ACCOUNT, REGION)) == []
        await made(registry)


class TestLists:
    async def test_all_are_listed_by_uuid(self, registry: Registry) -> None:
        for name in ("a", "b", "c"):
            await made(registry, f"{QUEUE}-{name}")
        found = [item.uuid for item in list(registry.mappings.all(ACCOUNT, REGION))]
        assert found == sorted(found)
        assert len(found) == 3
        assert list(registry.mappings.all("000000000000", REGION)) == []

    async def test_those_of_a_source_or_of_a_function(self, registry: Registry) -> None:
        one = await made(registry)
        two = await made(registry, qualifier="live")
        await made(registry, f"{QUEUE}-other")
        found = list(registry.mappings.all(ACCOUNT, REGION, QUEUE))
        assert {item.uuid for item in found} == {one.uuid, two.uuid}
        assert list(registry.mappings.all(ACCOUNT, REGION, QUEUE, f"{ARN}:live")) == [two]
        assert list(registry.mappings.all(ACCOUNT, REGION, None, f"{ARN}:live")) == [two]


class TestTags:
    async def test_they_come_and_go_without_a_change_of_state(self, registry: Registry) -> None:
        mapping = await made(registry, tags={"a": "1"})
        await registry.mappings.tags.add(mapping.key, {"b": "2"})
        await registry.mappings.tags.remove(mapping.key, ["a", "nothing"])
        assert registry.mappings.tags.all(mapping.key) == {"b": "2"}
        assert registry.mappings.get(mapping.key).state is MappingState.ENABLED

    async def test_those_of_no_mapping(self, registry: Registry) -> None:
        key = (ACCOUNT, REGION, "none")
        sentence = f"Event source mapping not found: .*:{ACCOUNT}:event-source-mapping:none"
        with pytest.raises(ResourceNotFound, match=sentence):
            registry.mappings.tags.all(key)
        with pytest.raises(ResourceNotFound, match=sentence):
            await registry.mappings.tags.add(key, {"a": "1"})

    async def test_there_are_fifty_at_most(self, registry: Registry) -> None:
        mapping = await made(registry, tags={str(number): "" for number in range(50)})
        with pytest.raises(InvalidParameterValue, match="Number of tags exceeds"):
            await registry.mappings.tags.add(mapping.key, {"one": "more"})


class TestRestart:
    async def test_mappings_are_as_they_were_and_followed_again(
        self,
        registry: Registry,
        documents: MemoryDocuments,
        blobs: BlobStore,
    ) -> None:
        await made(registry, tags={"a": "1"})
        await made(registry, None, servers=("kafka:1000",), options=KAFKA)
        before = list(registry.mappings.all(ACCOUNT, REGION))
        assert any(isinstance(item.options.kafka, KafkaConfig) for item in before)
        pollers = FakePollers()
        again = make_registry(documents, blobs, pollers)
        await again.load()
        await settle(again)
        assert list(again.mappings.all(ACCOUNT, REGION)) == before
        assert sorted(item.uuid for item in pollers.followed) == [item.uuid for item in before]

    async def test_a_change_that_a_crash_cut_short_is_finished(
        self,
        registry: Registry,
        documents: MemoryDocuments,
        blobs: BlobStore,
        pollers: FakePollers,
    ) -> None:
        kept = await made(registry)
        gone = await made(registry, f"{QUEUE}-other")
        pollers.gate.clear()
        await registry.mappings.update(kept.key, MappingChange(is_enabled=False))
        await registry.mappings.delete(gone.key)
        again = make_registry(documents, blobs, FakePollers())
        await again.load()
        await settle(again)
        (left,) = list(again.mappings.all(ACCOUNT, REGION))
        assert (left.uuid, left.state) == (kept.uuid, MappingState.DISABLED)
