"""Published versions: when there is a new one, how it is numbered, when it can go."""

from __future__ import annotations

import pytest

from firelet.control.configuration import Settings
from firelet.control.functions import NewCode
from firelet.control.registry import Registry
from firelet.model.arn import FunctionRef
from firelet.model.errors import (
    InvalidParameterValue,
    InvalidRuntime,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.function import State
from firelet.store.blobs import BlobStore
from registry_parts import (
    ACCOUNT,
    ARN,
    KEY,
    OTHER_ZIP,
    REGION,
    FakeActivator,
    new_function,
    settle,
)


async def test_a_version_is_active_in_the_answer(
    deployed: Registry, activator: FakeActivator
) -> None:
    version = await deployed.versions.publish(KEY, description="first")
    assert (version.version, version.state, version.description) == ("1", State.ACTIVE, "first")
    assert deployed.functions.version(KEY, "1") is version
    assert [v.version for v in activator.activated] == ["$LATEST", "1"]


async def test_publishing_again_without_a_change_gives_the_same_version(
    deployed: Registry,
) -> None:
    first = await deployed.versions.publish(KEY, description="a")
    again = await deployed.versions.publish(KEY, description="b")
    assert (again.version, again.description) == (first.version, "a")


async def test_a_change_of_code_or_configuration_makes_a_new_version(deployed: Registry) -> None:
    await deployed.versions.publish(KEY)
    await deployed.functions.update_configuration(KEY, Settings(description="new"), None)
    await settle(deployed)
    assert (await deployed.versions.publish(KEY)).version == "2"
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP, publish=True))
    await settle(deployed)
    assert [v.version for v in deployed.versions.all(KEY)] == ["$LATEST", "1", "2", "3"]


async def test_code_that_changes_nothing_publishes_no_other_version(deployed: Registry) -> None:
    code = NewCode(key=KEY, package=OTHER_ZIP, publish=True)
    first = await deployed.functions.update_code(code)
    await settle(deployed)
    again = await deployed.functions.update_code(code)
    assert (first.version, again.version) == ("1", "1")
    assert again.state is State.ACTIVE
    await settle(deployed)
    await deployed.versions.delete(KEY, "1")
    assert (await deployed.functions.update_code(code)).version == "2"


async def test_a_published_version_does_not_follow_latest(deployed: Registry) -> None:
    await deployed.versions.publish(KEY)
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=60), None)
    await settle(deployed)
    assert deployed.functions.version(KEY, "1").timeout_s == 3


async def test_create_with_publish_makes_version_1_at_once(registry: Registry) -> None:
    created = await registry.functions.create(new_function(publish=True))
    assert (created.version, created.state) == ("1", State.PENDING)
    await settle(registry)
    assert registry.resolve(*KEY[:2], FunctionRef("greeter", "1")).version.version == "1"
    assert (await registry.versions.publish(KEY)).version == "1"


async def test_numbers_are_never_used_again(deployed: Registry) -> None:
    await deployed.versions.publish(KEY)
    await deployed.versions.delete(KEY, "1")
    assert (await deployed.versions.publish(KEY)).version == "2"
    await deployed.functions.delete(KEY)
    await deployed.functions.create(new_function())
    await settle(deployed)
    assert (await deployed.versions.publish(KEY)).version == "3"


async def test_the_expected_code_and_revision_are_preconditions(deployed: Registry) -> None:
    latest = deployed.functions.version(KEY)
    with pytest.raises(InvalidParameterValue) as caught:
        await deployed.versions.publish(KEY, code_sha256="no")
    assert caught.value.message == (
        "CodeSHA256 (no) is different from current CodeSHA256 in $LATEST"
        f" ({latest.code.sha256}). Please try again with the CodeSHA256 in $LATEST."
    )
    with pytest.raises(PreconditionFailed):
        await deployed.versions.publish(KEY, revision_id="no")
    await deployed.versions.publish(
        KEY, code_sha256=latest.code.sha256, revision_id=latest.revision_id
    )


async def test_a_failed_function_cannot_be_published(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.failures.append(InvalidRuntime("no"))
    await registry.functions.create(new_function())
    await settle(registry)
    with pytest.raises(ResourceConflict, match="following state: Failed"):
        await registry.versions.publish(KEY)


async def test_a_version_with_an_alias_cannot_be_deleted(deployed: Registry) -> None:
    await deployed.versions.publish(KEY)
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle(deployed)
    await deployed.versions.publish(KEY)
    await deployed.aliases.create(KEY, "live", "1", weights={"2": 0.1})
    for number in ("1", "2"):
        with pytest.raises(ResourceConflict, match=r"following aliases reference it: \[live\]"):
            await deployed.versions.delete(KEY, number)
    await deployed.aliases.delete(KEY, "live")
    await deployed.versions.delete(KEY, "1")
    assert [v.version for v in deployed.versions.all(KEY)] == ["$LATEST", "2"]


async def test_a_deleted_version_is_retired_and_releases_its_code(
    deployed: Registry, activator: FakeActivator, blobs: BlobStore
) -> None:
    await deployed.versions.publish(KEY)
    digest = deployed.functions.version(KEY).code.digest
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    await settle(deployed)
    assert blobs.contains(digest)
    await deployed.versions.delete(KEY, "1")
    await settle(deployed)
    assert (KEY, "1") in activator.retired
    assert not blobs.contains(digest)


@pytest.mark.parametrize(
    ("qualifier", "error", "sentence"),
    [
        ("$LATEST", InvalidParameterValue, "cannot be deleted without deleting the function"),
        ("live", InvalidParameterValue, "Deletion of aliases is not currently supported."),
        ("7", ResourceNotFound, f"Function not found: {ARN}:7$"),
    ],
)
async def test_what_is_not_a_published_version_cannot_be_deleted(
    deployed: Registry, qualifier: str, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        await deployed.versions.delete(KEY, qualifier)


async def test_versions_of_an_unknown_function_are_not_found(registry: Registry) -> None:
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}$"):
        registry.versions.all(KEY)
    with pytest.raises(ResourceNotFound):
        await registry.versions.publish((ACCOUNT, REGION, "nobody"))
