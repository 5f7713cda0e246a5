"""Aliases: what they may point to, and every error that AWS was seen to answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from firelet.control.aliases import AliasChange
from firelet.control.configuration import Settings
from firelet.control.registry import Registry
from firelet.model.errors import (
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from registry_parts import ARN, KEY, settle


@pytest.fixture
async def published(deployed: Registry) -> Registry:
    """``greeter`` with the versions 1 and 2."""
    await deployed.versions.publish(KEY)
    await deployed.functions.update_configuration(KEY, Settings(timeout_s=9), None)
    await settle(deployed)
    await deployed.versions.publish(KEY)
    await settle(deployed)
    return deployed


async def test_an_alias_is_created_read_updated_listed_and_deleted(published: Registry) -> None:
    aliases = published.aliases
    created = await aliases.create(KEY, "live", "1", "stable", {"2": 0.25})
    assert aliases.get(KEY, "live") == created
    change = AliasChange(version="2", weights={}, revision_id=created.revision_id)
    updated = await aliases.update(KEY, "live", change)
    assert (updated.version, updated.description, updated.weights) == ("2", "stable", {})
    assert updated.revision_id != created.revision_id
    await aliases.create(KEY, "beta", "$LATEST")
    assert [alias.name for alias in aliases.all(KEY)] == ["beta", "live"]
    assert [alias.name for alias in aliases.all(KEY, "2")] == ["live"]
    await aliases.delete(KEY, "live")
    await aliases.delete(KEY, "live")
    assert [alias.name for alias in aliases.all(KEY)] == ["beta"]


async def test_an_update_leaves_what_it_does_not_mention(published: Registry) -> None:
    await published.aliases.create(KEY, "live", "1", "stable", {"2": 0.25})
    updated = await published.aliases.update(KEY, "live", AliasChange(description=""))
    assert (updated.version, updated.description, updated.weights) == ("1", "", {"2": 0.25})


@pytest.mark.parametrize(
    ("version", "weights", "error", "sentence"),
    [
        ("7", {}, ResourceNotFound, f"Function not found: {ARN}:7"),
        ("1", {"7": 0.5}, ResourceNotFound, f"Function not found: {ARN}:7"),
        (
            "1",
            {"1": 0.5},
            InvalidParameterValue,
            "Invalid function version 1. Function version 1 is already included in routing"
            " configuration.",
        ),
        (
            "1",
            {"2": 0.5, "3": 0.1},
            InvalidParameterValue,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
        ),
        (
            "$LATEST",
            {"1": 0.5},
            InvalidParameterValue,
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
    ],
)
async def test_routing_that_aws_refuses_is_refused_on_create_and_update(
    published: Registry,
    version: str,
    weights: Mapping[str, float],
    error: type[InvalidParameterValue],
    sentence: str,
) -> None:
    with pytest.raises(error) as caught:
        await published.aliases.create(KEY, "live", version, weights=weights)
    assert caught.value.message == sentence
    await published.aliases.create(KEY, "live", "2")
    with pytest.raises(error) as caught:
        await published.aliases.update(KEY, "live", AliasChange(version=version, weights=weights))
    assert caught.value.message == sentence


async def test_names_are_taken_once_and_unknown_ones_are_not_found(published: Registry) -> None:
    await published.aliases.create(KEY, "live", "1")
    with pytest.raises(ResourceConflict, match=f"Alias already exists: {ARN}:live"):
        await published.aliases.create(KEY, "live", "1")
    with pytest.raises(ResourceNotFound, match=f"Cannot find alias arn: {ARN}:none"):
        published.aliases.get(KEY, "none")
    with pytest.raises(ResourceNotFound, match=f"Alias not found: {ARN}:none"):
        await published.aliases.update(KEY, "none", AliasChange())
    with pytest.raises(PreconditionFailed):
        await published.aliases.update(KEY, "live", AliasChange(revision_id="stale"))


async def test_aliases_of_an_unknown_function_are_not_found(registry: Registry) -> None:
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}:1$"):
        await registry.aliases.create(KEY, "live", "1")


async def test_the_version_is_looked_for_before_the_alias(published: Registry) -> None:
    await published.aliases.create(KEY, "live", "1")
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}:7$"):
        await published.aliases.create(KEY, "live", "7")
    with pytest.raises(ResourceConflict, match="Alias already exists"):
        await published.aliases.create(KEY, "live", "2", weights={"2": 0.5})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"role": "arn:aws:iam::123456789012:role/other"}, "the same execution role"),
        (
            {"extras": {"DeadLetterConfig": {"TargetArn": "arn:aws:sqs:eu-central-1:1:q"}}},
            "the same dead-letter queue",
        ),
    ],
)
async def test_versions_that_share_an_alias_have_role_and_dead_letter_queue_in_common(
    published: Registry, settings: dict[str, Any], sentence: str
) -> None:
    await published.functions.update_configuration(KEY, Settings(**settings), None)
    await settle(published)
    await published.versions.publish(KEY)
    with pytest.raises(InvalidParameterValue, match=sentence):
        await published.aliases.create(KEY, "live", "2", weights={"3": 0.5})
    await published.aliases.create(KEY, "live", "1", weights={"2": 0.5})
