"""The operations on provisioned concurrency, without HTTP: shapes, names and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.control.floor import FloorView
from firelet.control.registry import Registry
from firelet.frontend.operations import Operations, Reply
from firelet.frontend.provisioned import ProvisionedOperations
from firelet.model.errors import InvalidParameterValue, ResourceNotFound
from firelet.model.function import FunctionVersion
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ARN, KEY, FakeActivator, make_call, new_function, settle


class Provider:
    """Everything is ready at once, or has failed."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.count = 0

    def provide(self, version: FunctionVersion, count: int) -> None:
        self.count = count

    def provided(self, version: FunctionVersion) -> FloorView:
        return FloorView(0 if self.failure else self.count, self.failure)


class Api:
    """The operations of a platform with ``greeter``, its version 1 and the alias ``live``."""

    def __init__(self, registry: Registry, provider: Provider) -> None:
        self.registry = registry
        self.provider = provider
        self.operations = Operations()
        ProvisionedOperations(registry).register(self.operations)

    async def call(self, operation: str, **params: Any) -> Any:
        name = f"{operation}ProvisionedConcurrencyConfig"
        handler = self.operations.find("lambda", name if operation != "List" else f"{name}s")
        assert handler is not None
        return await handler(make_call(name, FunctionName="greeter", **params))


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    provider = Provider()
    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        provider=provider,
        clock=lambda: 1_795_417_200.0,
    )
    await registry.functions.create(new_function(publish=True))
    await settle(registry)
    await registry.aliases.create(KEY, "live", "1")
    yield Api(registry, provider)
    await registry.close()


async def test_put_answers_what_was_asked_for(api: Api) -> None:
    answer = await api.call("Put", Qualifier="1", ProvisionedConcurrentExecutions=5)
    assert answer == {
        "RequestedProvisionedConcurrentExecutions": 5,
        "AvailableProvisionedConcurrentExecutions": 5,
        "AllocatedProvisionedConcurrentExecutions": 5,
        "Status": "IN_PROGRESS",
        "LastModified": "2026-11-23T07:00:00+0000",
    }


async def test_get_answers_what_there_is(api: Api) -> None:
    put = await api.call("Put", Qualifier="live", ProvisionedConcurrentExecutions=5)
    found = await api.call("Get", Qualifier="live")
    assert found == {**put, "Status": "READY"}


async def test_get_tells_why_it_failed(api: Api) -> None:
    await api.call("Put", Qualifier="1", ProvisionedConcurrentExecutions=5)
    api.provider.failure = "FUNCTION_ERROR_INIT_FAILURE"
    found = await api.call("Get", Qualifier="1")
    assert (found["Status"], found["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    assert found["AllocatedProvisionedConcurrentExecutions"] == 0


async def test_delete_answers_204_whether_or_not_there_is_one(api: Api) -> None:
    await api.call("Put", Qualifier="1", ProvisionedConcurrentExecutions=5)
    for _ in range(2):
        answer = await api.call("Delete", Qualifier="1")
        assert isinstance(answer, Reply)
        assert answer.status == 204
    assert await api.call("List") == {"ProvisionedConcurrencyConfigs": []}


async def test_the_list_names_what_each_belongs_to_and_has_pages(api: Api) -> None:
    for alias in ("blue", "green"):
        await api.registry.aliases.create(KEY, alias, "1")
    for qualifier in ("live", "blue", "green"):
        await api.call("Put", Qualifier=qualifier, ProvisionedConcurrentExecutions=2)
    first = await api.call("List", MaxItems=2)
    second = await api.call("List", MaxItems=2, Marker=first["NextMarker"])
    assert "NextMarker" not in second
    configs = [*first["ProvisionedConcurrencyConfigs"], *second["ProvisionedConcurrencyConfigs"]]
    assert [config["FunctionArn"] for config in configs] == [
        f"{ARN}:blue",
        f"{ARN}:green",
        f"{ARN}:live",
    ]
    assert {config["RequestedProvisionedConcurrentExecutions"] for config in configs} == {2}


async def test_a_list_is_of_a_function_that_exists(api: Api) -> None:
    handler = api.operations.find("lambda", "ListProvisionedConcurrencyConfigs")
    assert handler is not None
    with pytest.raises(ResourceNotFound):
        await handler(make_call("ListProvisionedConcurrencyConfigs", FunctionName="nobody"))
    with pytest.raises(InvalidParameterValue):
        await handler(make_call("ListProvisionedConcurrencyConfigs", FunctionName="greeter:live"))


async def test_the_qualifier_of_the_name_must_be_the_one_that_is_given(api: Api) -> None:
    handler = api.operations.find("lambda", "GetProvisionedConcurrencyConfig")
    assert handler is not None
    with pytest.raises(InvalidParameterValue, match="does not match the specified qualifier"):
        await handler(
            make_call("GetProvisionedConcurrencyConfig", FunctionName="greeter:live", Qualifier="1")
        )
