"""Resolving references, tags, reservations, and what survives a restart."""

from __future__ import annotations

import asyncio

import pytest

from firelet.control.configuration import Settings
from firelet.control.functions import NewCode
from firelet.control.registry import Registry, format_last_modified
from firelet.model.arn import FunctionRef
from firelet.model.errors import (
    AccessDenied,
    InvalidParameterValue,
    InvalidRuntime,
    ResourceNotFound,
)
from firelet.model.function import State, UpdateStatus
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
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


async def restart(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> Registry:
    registry = Registry(documents, blobs, activator=activator)
    await registry.load()
    return registry


async def test_a_reference_resolves_to_what_runs_and_the_arn_as_it_was_written(
    deployed: Registry,
) -> None:
    await deployed.versions.publish(KEY)
    await deployed.aliases.create(KEY, "live", "1")
    await deployed.concurrency.reserve(KEY, 5)
    for qualifier, version in (
        (None, "$LATEST"),
        ("$LATEST", "$LATEST"),
        ("1", "1"),
        ("live", "1"),
    ):
        resolved = deployed.resolve(ACCOUNT, REGION, FunctionRef("greeter", qualifier))
        assert resolved.version.version == version
        assert resolved.invoked_arn == (ARN if qualifier is None else f"{ARN}:{qualifier}")
        assert resolved.reserved_concurrency == 5
        assert resolved.function_key == KEY


async def test_what_was_resolved_once_is_the_same_object_until_something_changes(
    deployed: Registry,
) -> None:
    first = deployed.resolve(ACCOUNT, REGION, FunctionRef("greeter"))
    assert deployed.resolve(ACCOUNT, REGION, FunctionRef("greeter")) is first
    await deployed.concurrency.reserve(KEY, 7)
    assert deployed.resolve(ACCOUNT, REGION, FunctionRef("greeter")).reserved_concurrency == 7


@pytest.mark.parametrize(
    ("ref", "error", "sentence"),
    [
        (FunctionRef("nobody"), ResourceNotFound, r"function:nobody:\$LATEST$"),
        (FunctionRef("greeter", "9"), ResourceNotFound, f"Function not found: {ARN}:9$"),
        (
            FunctionRef("greeter", region="us-east-1"),
            ResourceNotFound,
            rf"^Functions from 'us-east-1' are not reachable in this region \('{REGION}'\)$",
        ),
        (FunctionRef("greeter", account="999999999999"), AccessDenied, "lambda:InvokeFunction on"),
    ],
)
async def test_references_to_nothing_are_refused_in_the_words_of_aws(
    deployed: Registry, ref: FunctionRef, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        deployed.resolve(ACCOUNT, REGION, ref)


async def test_the_weights_of_an_alias_are_drawn_per_call(
    deployed: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed.versions.publish(KEY)
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle(deployed)
    await deployed.versions.publish(KEY)
    await deployed.aliases.create(KEY, "live", "1", weights={"2": 0.25})
    draws = iter([0.0, 0.24, 0.25, 0.99])
    monkeypatch.setattr("random.random", lambda: next(draws))
    ref = FunctionRef("greeter", "live")
    drawn = [deployed.resolve(ACCOUNT, REGION, ref) for _ in range(4)]
    assert [resolved.version.version for resolved in drawn] == ["2", "2", "1", "1"]
    assert {resolved.invoked_arn for resolved in drawn} == {f"{ARN}:live"}


async def test_tags_are_added_and_removed_and_change_the_revision(deployed: Registry) -> None:
    before = deployed.functions.version(KEY).revision_id
    await deployed.tags.add(KEY, {"a": "1", "b": "2"})
    await deployed.tags.add(KEY, {"a": "3"})
    await deployed.tags.remove(KEY, ["b", "c"])
    assert deployed.tags.all(KEY) == {"a": "3"}
    assert deployed.functions.version(KEY).revision_id != before


async def test_tags_have_rules(deployed: Registry) -> None:
    many = {f"k{number}": "v" for number in range(50)}
    await deployed.tags.add(KEY, many)
    with pytest.raises(InvalidParameterValue, match="Number of tags exceeds"):
        await deployed.tags.add(KEY, {"one more": "v"})
    with pytest.raises(InvalidParameterValue, match="aws:"):
        await deployed.tags.add(KEY, {"aws:mine": "v"})
    with pytest.raises(InvalidParameterValue, match="cannot be processed"):
        await deployed.tags.add(KEY, {})
    too_many = new_function((ACCOUNT, REGION, "other"), tags={**many, "one more": "v"})
    with pytest.raises(InvalidParameterValue, match="tag limit"):
        await deployed.functions.create(too_many)


async def test_a_hundred_must_stay_unreserved(deployed: Registry) -> None:
    other = (ACCOUNT, REGION, "other")
    await deployed.functions.create(new_function(other))
    await deployed.concurrency.reserve(KEY, 500)
    await deployed.concurrency.reserve(other, 400)
    with pytest.raises(InvalidParameterValue, match=r"below its minimum value of \[100\]"):
        await deployed.concurrency.reserve(other, 401)
    await deployed.concurrency.reserve(KEY, 499)
    assert deployed.reserved_total(ACCOUNT, REGION) == 899
    assert deployed.concurrency.usage(ACCOUNT, REGION).unreserved_concurrency == 101
    await deployed.concurrency.reserve(KEY, None)
    assert deployed.concurrency.get(KEY) is None
    assert deployed.reserved_total(ACCOUNT, "us-east-1") == 0


async def test_reservations_of_two_functions_at_once_cannot_pass_the_limit_together(
    deployed: Registry,
) -> None:
    other = (ACCOUNT, REGION, "other")
    await deployed.functions.create(new_function(other))
    results = await asyncio.gather(
        deployed.concurrency.reserve(KEY, 600),
        deployed.concurrency.reserve(other, 600),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 1


async def test_everything_survives_a_restart(
    deployed: Registry, documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    await deployed.functions.update_configuration(
        KEY, Settings(environment={"A": "b"}, extras={"KMSKeyArn": "arn:aws:kms:x"}), None
    )
    await settle(deployed)
    for timeout in range(10, 21):
        await deployed.functions.update_configuration(KEY, Settings(timeout_s=timeout), None)
        await settle(deployed)
        await deployed.versions.publish(KEY)
    await deployed.versions.delete(KEY, "3")
    await deployed.aliases.create(KEY, "live", "1", weights={"2": 0.5})
    await deployed.tags.add(KEY, {"team": "blue"})
    await deployed.concurrency.reserve(KEY, 9)
    await settle(deployed)
    activated = len(activator.activated)
    again = await restart(documents, blobs, activator)
    assert again.functions.get(KEY) == deployed.functions.get(KEY)
    assert [v.version for v in again.versions.all(KEY)] == [
        v.version for v in deployed.versions.all(KEY)
    ]
    usage = again.concurrency.usage(ACCOUNT, REGION)
    assert usage == deployed.concurrency.usage(ACCOUNT, REGION)
    assert len(activator.activated) == activated
    await again.functions.delete(KEY)
    await settle(again)
    final = await restart(documents, blobs, activator)
    assert list(final.functions.all(ACCOUNT, REGION)) == []
    await final.functions.create(new_function(publish=True))
    assert final.functions.get(KEY).next_version == 13
    await settle(final)


async def test_what_a_crash_left_unfinished_is_activated_again(
    registry: Registry, documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await registry.functions.create(new_function(publish=True))
    second = FakeActivator()
    again = await restart(documents, blobs, second)
    await settle(again)
    assert sorted(version.version for version in second.activated) == ["$LATEST", "1"]
    assert again.functions.version(KEY).state is State.ACTIVE
    assert again.functions.version(KEY, "1").state is State.ACTIVE


async def test_an_update_that_a_crash_interrupted_is_finished_with_the_old_code_serving_till_then(
    deployed: Registry, documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    old = deployed.functions.version(KEY).code.digest
    activator.gate.clear()
    await deployed.functions.update_code(NewCode(key=KEY, package=OTHER_ZIP))
    second = FakeActivator()
    second.gate.clear()
    again = await restart(documents, blobs, second)
    assert again.resolve(ACCOUNT, REGION, FunctionRef("greeter")).version.code.digest == old
    second.gate.set()
    await settle(again)
    assert again.resolve(ACCOUNT, REGION, FunctionRef("greeter")).version.code.digest != old
    assert again.functions.version(KEY).last_update_status is UpdateStatus.SUCCESSFUL


async def test_a_runtime_that_was_installed_meanwhile_is_used_after_a_restart(
    registry: Registry, documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> None:
    activator.failures.append(InvalidRuntime("not installed"))
    await registry.functions.create(new_function())
    await settle(registry)
    again = await restart(documents, blobs, activator)
    await settle(again)
    assert again.functions.version(KEY).state is State.ACTIVE


async def test_the_registry_tells_which_code_is_needed(deployed: Registry) -> None:
    digest = deployed.functions.version(KEY).code.digest
    assert deployed.is_code_needed(digest)
    await deployed.functions.delete(KEY)
    assert not deployed.is_code_needed(digest)


async def test_settled_returns_when_a_pending_version_has_become_active(
    registry: Registry, activator: FakeActivator
) -> None:
    activator.gate.clear()
    await registry.functions.create(new_function())
    resolved = registry.resolve(ACCOUNT, REGION, FunctionRef("greeter"))
    await registry.settled(resolved, timeout_s=0)
    assert registry.functions.version(KEY).state is State.PENDING
    activator.gate.set()
    await registry.settled(resolved, timeout_s=60)
    assert registry.functions.version(KEY).state is State.ACTIVE


def test_last_modified_is_the_string_that_clients_parse() -> None:
    assert format_last_modified(1_795_417_200.9876) == "2026-11-23T07:00:00.987+0000"
