"""Packages by reference whose objects are lost, and found again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from firelet.control.configuration import Settings
from firelet.control.functions import NewCode
from firelet.control.layers import NewLayerVersion
from firelet.control.registry import Registry
from firelet.model.errors import InvalidParameterValue, InvalidRuntime, ResourceConflict
from firelet.model.function import FunctionVersion, S3Object, State, UpdateStatus
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import KEY, OTHER_ZIP, ZIP, FakeActivator, make_zip, new_function, settle

CODE, LAYER = S3Object("code", "app.zip", "v1"), S3Object("code", "layer.zip", "v1")
GONE = "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: It is gone."


class Objects:
    """All are there but those that are ``lost``."""

    def __init__(self) -> None:
        self.lost: set[S3Object] = set()
        self.checked: list[S3Object] = []

    async def check(self, reference: S3Object) -> None:
        self.checked.append(reference)
        if reference in self.lost:
            raise InvalidParameterValue(GONE)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
async def referring(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator, objects: Objects
) -> AsyncIterator[Registry]:
    """With the function ``greeter``, whose package is given by reference, and its version 1."""
    registry = Registry(
        documents,
        blobs,
        activator=activator,
        update_wait_s=0.0,
        answer_wait_s=0.0,
        objects=objects,
    )
    await registry.load()
    await registry.functions.create(replace(new_function(), reference=CODE))
    await settle(registry)
    await registry.versions.publish(KEY)
    await settle(registry)
    yield registry
    await registry.close()


def latest(registry: Registry) -> FunctionVersion:
    return registry.functions.version(KEY)


def states(registry: Registry) -> list[str]:
    return [version.state.value for version in registry.versions.all(KEY)]


async def lose(registry: Registry, objects: Objects) -> None:
    objects.lost = {CODE}
    await registry.references.look()


async def test_a_function_whose_code_is_there_stays_as_it_is(
    referring: Registry, objects: Objects
) -> None:
    before = latest(referring)
    await referring.references.look()
    assert objects.checked == [CODE]  # once for both
    assert latest(referring) is before


async def test_a_function_whose_code_is_lost_becomes_inactive(
    referring: Registry, objects: Objects, documents: MemoryDocuments, blobs: BlobStore
) -> None:
    before = latest(referring)
    await lose(referring, objects)
    after = latest(referring)
    assert states(referring) == ["Inactive", "Inactive"]
    assert (after.state_reason, after.state_reason_code) == (GONE, None)
    assert after.revision_id != before.revision_id
    again = Registry(documents, blobs, activator=FakeActivator())
    await again.load()
    assert states(again) == ["Inactive", "Inactive"]
    await again.close()


async def test_it_comes_back_by_an_update_once_the_object_is_back(
    referring: Registry, objects: Objects
) -> None:
    await lose(referring, objects)
    with pytest.raises(InvalidParameterValue, match="NoSuchKey"):
        await referring.functions.update_configuration(KEY, Settings(timeout_s=5), None)
    objects.lost.clear()
    await referring.references.look()
    assert states(referring) == ["Inactive", "Active"]
    await referring.functions.update_configuration(KEY, Settings(timeout_s=5), None)
    await settle(referring)
    after = latest(referring)
    assert (after.state, after.state_reason, after.timeout_s) == (State.ACTIVE, None, 5)


async def test_other_code_brings_it_back_too(referring: Registry, objects: Objects) -> None:
    await lose(referring, objects)
    await referring.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(referring)
    await referring.references.look()
    assert states(referring) == ["Active", "Inactive"]


async def test_an_update_that_fails_leaves_it_inactive(
    referring: Registry, objects: Objects, activator: FakeActivator
) -> None:
    await lose(referring, objects)
    activator.failures.append(InvalidRuntime("no"))
    await referring.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(referring)
    after = latest(referring)
    assert (after.state, after.last_update_status) == (State.INACTIVE, UpdateStatus.FAILED)


async def test_an_inactive_function_is_not_published(referring: Registry, objects: Objects) -> None:
    await referring.functions.update_configuration(KEY, Settings(timeout_s=5), None)
    await settle(referring)
    await lose(referring, objects)
    with pytest.raises(ResourceConflict, match="following state: Inactive"):
        await referring.versions.publish(KEY)


async def test_what_changed_during_the_look_is_left_alone(
    referring: Registry, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(reference: S3Object) -> None:
        await referring.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
        await settle_update()
        raise InvalidParameterValue(GONE)

    async def settle_update() -> None:
        await referring._activations.wait(KEY, "$LATEST", 5)

    monkeypatch.setattr(objects, "check", check)
    await referring.references.look()
    assert states(referring) == ["Active", "Inactive"]


async def test_a_function_keeps_what_it_has_of_a_lost_layer(
    referring: Registry, objects: Objects
) -> None:
    layer = await referring.layers.publish(
        NewLayerVersion(
            key=(*KEY[:2], "tools"), package=make_zip({"python/a.py": "A = 1"}), reference=LAYER
        )
    )
    layers: Any = Settings(layers=(layer.arn,))
    await referring.functions.update_configuration(KEY, layers, None)
    await settle(referring)
    objects.lost = {LAYER}
    await referring.references.look()
    assert states(referring) == ["Active", "Active"]
    await referring.functions.update_configuration(KEY, Settings(timeout_s=5), None)
    await settle(referring)
    await referring.functions.update_code(NewCode(key=KEY, package=ZIP))
    await settle(referring)
    with pytest.raises(InvalidParameterValue, match="NoSuchKey"):
        await referring.functions.update_configuration(KEY, layers, None)
    assert latest(referring).layers[0].arn == layer.arn
