"""Provisioned concurrency as the registry keeps it: rules, records, and what is asked of whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from firelet.control.aliases import AliasChange
from firelet.control.configuration import Settings
from firelet.control.floor import FloorView
from firelet.control.provisioned import AllocationStatus
from firelet.control.registry import Registry
from firelet.model.errors import (
    InvalidParameterValue,
    ProvisionedConcurrencyConfigNotFound,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.function import FunctionVersion, ProvisionedConcurrency
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ACCOUNT, ARN, KEY, REGION, FakeActivator, new_function, settle

LIMIT = 1000
OTHER = (ACCOUNT, REGION, "other")


class FakeProvider:
    """Remembers what it was asked for; what is there of it the test says."""

    def __init__(self) -> None:
        self.floors: dict[str, int] = {}
        self.views: dict[str, FloorView] = {}
        self.orders: list[tuple[str, int]] = []

    def provide(self, version: FunctionVersion, count: int) -> None:
        self.orders.append((version.version, count))
        self.floors[version.version] = count
        if not count:
            del self.floors[version.version]

    def provided(self, version: FunctionVersion) -> FloorView:
        return self.views.get(version.version, FloorView())


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def registry(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator, provider: FakeProvider
) -> AsyncIterator[Registry]:
    """With ``greeter``, its versions 1 and 2, and the alias ``live`` of 1."""
    registry = Registry(
        documents,
        blobs,
        activator=activator,
        provider=provider,
        clock=lambda: 1_795_417_200.9,
        account_concurrency=LIMIT,
    )
    await registry.load()
    await registry.functions.create(new_function())
    await settle(registry)
    await registry.versions.publish(KEY)
    await registry.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle(registry)
    await registry.versions.publish(KEY)
    await settle(registry)
    await registry.aliases.create(KEY, "live", "1")
    yield registry
    await registry.close()


class TestPut:
    async def test_it_is_in_progress_in_the_answer_and_asked_for(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        put = await registry.provisioned.put(KEY, "1", 5)
        assert put.config == ProvisionedConcurrency(
            requested=5, last_modified="2026-11-23T07:00:00+0000"
        )
        assert (put.status, put.available) == (AllocationStatus.IN_PROGRESS, 0)
        assert provider.floors == {"1": 5}

    async def test_an_alias_stands_for_its_version(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "live", 5)
        assert provider.floors == {"1": 5}

    async def test_another_number_replaces_the_first(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        await registry.provisioned.put(KEY, "1", 3)
        assert provider.floors == {"1": 3}
        assert [item.config.requested for item in registry.provisioned.all(KEY)] == [3]

    async def test_the_same_number_is_asked_for_again(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        provider.orders.clear()
        await registry.provisioned.put(KEY, "1", 5)
        assert provider.orders == [("1", 5)]

    async def test_other_changes_of_the_function_ask_for_nothing(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        provider.orders.clear()
        await registry.functions.update_configuration(KEY, Settings(timeout_s=10), None)
        await settle(registry)
        await registry.aliases.update(KEY, "live", AliasChange(version="2"))
        assert provider.orders == []

    @pytest.mark.parametrize(
        ("qualifier", "error", "sentence"),
        [
            (
                "$LATEST",
                InvalidParameterValue,
                "Provisioned Concurrency Configs cannot be applied to unpublished function"
                " versions.",
            ),
            ("7", ResourceNotFound, f"Function not found: {ARN}:7"),
            ("dead", ResourceNotFound, f"Cannot find alias arn: {ARN}:dead"),
        ],
    )
    async def test_only_published_versions_and_aliases_have_it(
        self, registry: Registry, qualifier: str, error: type[Exception], sentence: str
    ) -> None:
        with pytest.raises(error) as caught:
            await registry.provisioned.put(KEY, qualifier, 1)
        assert str(caught.value) == sentence

    async def test_an_alias_of_latest_has_none(self, registry: Registry) -> None:
        await registry.aliases.create(KEY, "edge", "$LATEST")
        with pytest.raises(InvalidParameterValue, match="unpublished function versions"):
            await registry.provisioned.put(KEY, "edge", 1)

    async def test_an_alias_with_weights_has_none(self, registry: Registry) -> None:
        await registry.aliases.update(KEY, "live", AliasChange(weights={"2": 0.5}))
        with pytest.raises(InvalidParameterValue, match=r"^Alias with weights can not be used"):
            await registry.provisioned.put(KEY, "live", 1)

    async def test_a_function_with_snap_start_has_none(self, registry: Registry) -> None:
        await registry.functions.create(new_function(OTHER, snap_start="PublishedVersions"))
        await settle(registry)
        await registry.versions.publish(OTHER)
        with pytest.raises(InvalidParameterValue, match="SnapStart"):
            await registry.provisioned.put(OTHER, "1", 1)

    @pytest.mark.parametrize(
        ("first", "second", "sentence"),
        [
            (
                "1",
                "live",
                "Alias can't be used for Provisioned Concurrency configuration on an already"
                " Provisioned version",
            ),
            ("live", "1", "Version is pointed by a Provisioned Concurrency alias"),
        ],
    )
    async def test_a_version_and_its_alias_exclude_each_other(
        self, registry: Registry, first: str, second: str, sentence: str
    ) -> None:
        await registry.provisioned.put(KEY, first, 1)
        with pytest.raises(ResourceConflict) as caught:
            await registry.provisioned.put(KEY, second, 1)
        assert caught.value.message == sentence


class TestAmount:
    async def test_it_is_set_aside_from_the_account(self, registry: Registry) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        await registry.provisioned.put(KEY, "2", 7)
        assert registry.reserved_total(ACCOUNT, REGION) == 12
        assert registry.concurrency.usage(ACCOUNT, REGION).unreserved_concurrency == LIMIT - 12

    async def test_it_comes_out_of_a_reservation(self, registry: Registry) -> None:
        await registry.concurrency.reserve(KEY, 10)
        await registry.provisioned.put(KEY, "1", 5)
        assert registry.reserved_total(ACCOUNT, REGION) == 10
        await registry.concurrency.reserve(KEY, None)
        assert registry.reserved_total(ACCOUNT, REGION) == 5

    async def test_no_more_than_is_reserved(self, registry: Registry) -> None:
        await registry.concurrency.reserve(KEY, 10)
        await registry.provisioned.put(KEY, "1", 6)
        with pytest.raises(InvalidParameterValue) as caught:
            await registry.provisioned.put(KEY, "2", 5)
        assert caught.value.message == (
            "Requested Provisioned Concurrency should not be greater than the"
            " reservedConcurrentExecution for function"
        )
        await registry.provisioned.put(KEY, "2", 4)
        with pytest.raises(InvalidParameterValue, match=r"total provisioned concurrency \[10\]"):
            await registry.concurrency.reserve(KEY, 9)

    async def test_no_more_than_the_account_has_unreserved(self, registry: Registry) -> None:
        await registry.functions.create(new_function(OTHER))
        await registry.concurrency.reserve(OTHER, 600)
        await registry.provisioned.put(KEY, "1", 100)
        with pytest.raises(InvalidParameterValue) as caught:
            await registry.provisioned.put(KEY, "1", 401)
        assert caught.value.message == (
            "Specified ConcurrentExecutions for function is greater than account's unreserved"
            " concurrency [400]."
        )

    async def test_100_stay_for_all_others(self, registry: Registry) -> None:
        with pytest.raises(InvalidParameterValue) as caught:
            await registry.provisioned.put(KEY, "1", 901)
        assert caught.value.message == (
            "Specified ConcurrentExecutions for function decreases account's"
            " UnreservedConcurrentExecution below its minimum value of [100]."
        )
        await registry.provisioned.put(KEY, "1", 900)
        with pytest.raises(InvalidParameterValue, match="below its minimum value"):
            await registry.concurrency.reserve(KEY, 901)


class TestStatus:
    @pytest.mark.parametrize(
        ("view", "status", "available"),
        [
            (FloorView(), AllocationStatus.IN_PROGRESS, 0),
            (FloorView(ready=2), AllocationStatus.IN_PROGRESS, 2),
            (FloorView(ready=3), AllocationStatus.READY, 3),
            (FloorView(ready=4), AllocationStatus.READY, 3),
            (FloorView(ready=1, failure="WHY"), AllocationStatus.FAILED, 1),
        ],
    )
    async def test_it_follows_what_there_is(
        self,
        registry: Registry,
        provider: FakeProvider,
        view: FloorView,
        status: AllocationStatus,
        available: int,
    ) -> None:
        await registry.provisioned.put(KEY, "1", 3)
        provider.views["1"] = view
        found = registry.provisioned.get(KEY, "1")
        assert (found.status, found.available) == (status, available)
        assert found.reason == (view.failure if status is AllocationStatus.FAILED else None)

    async def test_two_aliases_of_one_version_do_not_count_the_same_one_twice(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.aliases.create(KEY, "blue", "1")
        await registry.provisioned.put(KEY, "live", 2)
        await registry.provisioned.put(KEY, "blue", 2)
        assert provider.floors == {"1": 4}
        provider.views["1"] = FloorView(ready=3)
        listed = registry.provisioned.all(KEY)
        assert [(item.qualifier, item.available) for item in listed] == [("blue", 2), ("live", 1)]

    async def test_what_has_no_configuration_is_not_found(self, registry: Registry) -> None:
        with pytest.raises(ProvisionedConcurrencyConfigNotFound) as caught:
            registry.provisioned.get(KEY, "1")
        error = caught.value
        assert (error.status, error.code, error.message) == (
            404,
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function",
        )

    async def test_latest_is_no_resource_that_has_one(self, registry: Registry) -> None:
        sentence = "The function resource provided must be an alias or a published version."
        with pytest.raises(InvalidParameterValue, match=sentence):
            registry.provisioned.get(KEY, "$LATEST")
        with pytest.raises(InvalidParameterValue, match=sentence):
            await registry.provisioned.delete(KEY, "$LATEST")


class TestAlias:
    @pytest.fixture
    async def provided(self, registry: Registry) -> Registry:
        """Ten for ``live``."""
        await registry.provisioned.put(KEY, "live", 10)
        return registry

    async def test_it_takes_them_along_when_it_moves(
        self, provided: Registry, provider: FakeProvider
    ) -> None:
        await provided.aliases.update(KEY, "live", AliasChange(version="2"))
        assert provider.floors == {"2": 10}

    @pytest.mark.parametrize(
        ("weight", "floors"),
        [
            (0.0, {"1": 10}),
            (0.1, {"1": 9, "2": 1}),
            (0.25, {"1": 7, "2": 3}),
            (1.0, {"2": 10}),
        ],
    )
    async def test_weights_divide_them(
        self,
        provided: Registry,
        provider: FakeProvider,
        weight: float,
        floors: Mapping[str, int],
    ) -> None:
        await provided.aliases.update(KEY, "live", AliasChange(weights={"2": weight}))
        assert provider.floors == floors
        for number, count in floors.items():
            provider.views[number] = FloorView(ready=count)
        assert provided.provisioned.get(KEY, "live").status is AllocationStatus.READY

    async def test_it_does_not_move_to_a_version_that_has_its_own(self, provided: Registry) -> None:
        await provided.provisioned.put(KEY, "2", 1)
        for change in (AliasChange(version="2"), AliasChange(weights={"2": 0.5})):
            with pytest.raises(ResourceConflict, match="already Provisioned version"):
                await provided.aliases.update(KEY, "live", change)

    async def test_it_does_not_move_to_latest(self, provided: Registry) -> None:
        with pytest.raises(InvalidParameterValue, match="unpublished function versions"):
            await provided.aliases.update(KEY, "live", AliasChange(version="$LATEST"))


class TestEnd:
    async def test_deleting_the_configuration_ends_them(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        await registry.provisioned.delete(KEY, "1")
        assert provider.floors == {}
        assert registry.provisioned.all(KEY) == []
        await registry.provisioned.delete(KEY, "1")

    async def test_it_goes_with_its_alias(self, registry: Registry, provider: FakeProvider) -> None:
        await registry.provisioned.put(KEY, "live", 5)
        await registry.aliases.delete(KEY, "live")
        assert provider.floors == {}
        await registry.aliases.create(KEY, "live", "1")
        with pytest.raises(ProvisionedConcurrencyConfigNotFound):
            registry.provisioned.get(KEY, "live")

    async def test_it_goes_with_its_version(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "2", 5)
        await registry.versions.delete(KEY, "2")
        assert provider.floors == {}
        assert registry.provisioned.all(KEY) == []

    async def test_it_goes_with_its_function(
        self, registry: Registry, provider: FakeProvider
    ) -> None:
        await registry.provisioned.put(KEY, "1", 5)
        await registry.functions.delete(KEY)
        assert provider.floors == {}
        assert registry.reserved_total(ACCOUNT, REGION) == 0

    @pytest.mark.parametrize(
        ("qualifier", "sentence"),
        [
            ("7", f"Function not found: {ARN}:7"),
            ("dead", f"Cannot find alias arn: {ARN}:dead"),
        ],
    )
    async def test_what_is_not_there_cannot_lose_it(
        self, registry: Registry, qualifier: str, sentence: str
    ) -> None:
        with pytest.raises(ResourceNotFound) as caught:
            await registry.provisioned.delete(KEY, qualifier)
        assert caught.value.message == sentence


async def test_it_is_durable_and_asked_for_again_after_a_restart(
    registry: Registry, documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    await registry.provisioned.put(KEY, "2", 5)
    await registry.provisioned.put(KEY, "live", 3)
    provider = FakeProvider()
    again = Registry(documents, blobs, activator=activator, provider=provider)
    await again.load()
    assert provider.floors == {}
    again.provisioned.restore()
    assert provider.floors == {"2": 5, "1": 3}
    assert again.reserved_total(ACCOUNT, REGION) == 8
    listed = again.provisioned.all(KEY)
    assert [item.config for item in listed] == [
        item.config for item in registry.provisioned.all(KEY)
    ]


async def test_a_registry_without_environments_has_nothing_ready(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    registry = Registry(documents, blobs, activator=activator)
    await registry.functions.create(new_function(publish=True))
    await registry.provisioned.put(KEY, "1", 1)
    assert registry.provisioned.get(KEY, "1").status is AllocationStatus.IN_PROGRESS
    await registry.close()
