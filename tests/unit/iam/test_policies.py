from __future__ import annotations

import re

import pytest

from firelet.iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    LimitExceeded,
    MalformedPolicyDocument,
    NoSuchEntity,
)
from firelet.model.errors import AccessDenied
from unit.iam.catalogue import ACCOUNT, ALLOW_LOGS, BASIC, TRUST, Catalogue, open_catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    return open_catalogue()


async def test_a_new_policy_has_one_version_which_is_the_default(catalogue: Catalogue) -> None:
    policy = await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS, path="/team/")
    assert re.fullmatch(r"ANPA[A-Z2-7]{17}", policy.policy_id)
    assert policy.arn == f"arn:aws:iam::{ACCOUNT}:policy/team/logs"
    assert policy.default_version == "v1"
    assert policy.version("v1").document == ALLOW_LOGS


async def test_a_policys_name_is_taken_under_any_path_and_case(catalogue: Catalogue) -> None:
    await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS, path="/team/")
    with pytest.raises(EntityAlreadyExists, match=r"A policy called Logs already exists\."):
        await catalogue.policies.create(ACCOUNT, "Logs", ALLOW_LOGS)


async def test_a_document_that_is_no_policy_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(MalformedPolicyDocument):
        await catalogue.policies.create(ACCOUNT, "logs", TRUST)


async def test_a_document_over_the_quota_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(LimitExceeded, match="PolicySize: 6144"):
        await catalogue.policies.create(ACCOUNT, "p", ALLOW_LOGS.replace("*", "x" * 6_144, 1))


async def test_aws_managed_policies_are_seen_by_all_and_changed_by_none(
    catalogue: Catalogue,
) -> None:
    policy = catalogue.policies.get(ACCOUNT, BASIC)
    assert policy.name == "AWSLambdaBasicExecutionRole"
    with pytest.raises(AccessDenied):
        await catalogue.policies.delete(ACCOUNT, BASIC)


async def test_another_accounts_policy_is_not_found(catalogue: Catalogue) -> None:
    policy = await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS)
    with pytest.raises(NoSuchEntity, match=r"was not found\."):
        catalogue.policies.get("000000000000", policy.arn)


async def test_lists_are_cut_by_scope_and_path(catalogue: Catalogue) -> None:
    await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS, path="/team/")
    names = [p.name for p in catalogue.policies.visible_to(ACCOUNT, "Local")]
    assert names == ["logs"]
    assert catalogue.policies.visible_to(ACCOUNT, "Local", "/other/") == []
    assert BASIC in {p.arn for p in catalogue.policies.visible_to(ACCOUNT, "AWS")}


async def test_version_numbers_are_never_used_again(catalogue: Catalogue) -> None:
    policies = catalogue.policies
    arn = (await policies.create(ACCOUNT, "logs", ALLOW_LOGS)).arn
    version_id, _ = await policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=False)
    await policies.delete_version(ACCOUNT, arn, version_id)
    version_id, policy = await policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=True)
    assert version_id == policy.default_version == "v3"


async def test_a_policy_has_five_versions_at_most(catalogue: Catalogue) -> None:
    arn = (await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS)).arn
    for _ in range(4):
        await catalogue.policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=False)
    with pytest.raises(LimitExceeded, match="up to 5 versions"):
        await catalogue.policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=False)


async def test_the_default_version_cannot_be_deleted(catalogue: Catalogue) -> None:
    arn = (await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS)).arn
    await catalogue.policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=False)
    with pytest.raises(DeleteConflict, match="default version"):
        await catalogue.policies.delete_version(ACCOUNT, arn, "v1")
    await catalogue.policies.set_default_version(ACCOUNT, arn, "v2")
    await catalogue.policies.delete_version(ACCOUNT, arn, "v1")
    with pytest.raises(NoSuchEntity):
        await catalogue.policies.set_default_version(ACCOUNT, arn, "v1")


async def test_a_policy_in_use_or_with_versions_cannot_be_deleted(catalogue: Catalogue) -> None:
    arn = (await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS)).arn
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    await catalogue.roles.attach(ACCOUNT, "worker", arn)
    await catalogue.policies.add_version(ACCOUNT, arn, ALLOW_LOGS, is_default=False)
    with pytest.raises(DeleteConflict, match="attached to entities"):
        await catalogue.policies.delete(ACCOUNT, arn)
    await catalogue.roles.detach(ACCOUNT, "worker", arn)
    with pytest.raises(DeleteConflict, match="more than one version"):
        await catalogue.policies.delete(ACCOUNT, arn)
    await catalogue.policies.delete_version(ACCOUNT, arn, "v2")
    await catalogue.policies.delete(ACCOUNT, arn)
    assert open_catalogue(catalogue.documents).policies.visible_to(ACCOUNT, "Local") == []


async def test_a_policy_survives_a_restart(catalogue: Catalogue) -> None:
    arn = (await catalogue.policies.create(ACCOUNT, "logs", ALLOW_LOGS)).arn
    await catalogue.policies.tag(ACCOUNT, arn, [{"Key": "a", "Value": "1"}])
    restarted = open_catalogue(catalogue.documents)
    assert restarted.policies.get(ACCOUNT, arn) == catalogue.policies.get(ACCOUNT, arn)
    await restarted.policies.untag(ACCOUNT, arn, ["a"])
    assert restarted.policies.get(ACCOUNT, arn).tags == {}
