from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime

import pytest

from firelet.iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    InvalidInput,
    LimitExceeded,
    MalformedPolicyDocument,
    NoSuchEntity,
    UnmodifiableEntity,
)
from firelet.iam.roles import POLICIES_PER_ROLE
from unit.iam.catalogue import ACCOUNT, ALLOW_LOGS, BASIC, TRUST, Catalogue, open_catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    return open_catalogue()


async def test_a_new_role_has_an_id_and_an_arn_with_its_path(catalogue: Catalogue) -> None:
    role = await catalogue.roles.create(ACCOUNT, "worker", TRUST, path="/service/")
    assert re.fullmatch(r"AROA[A-Z2-7]{17}", role.role_id)
    assert role.arn == f"arn:aws:iam::{ACCOUNT}:role/service/worker"
    assert role.created == datetime.fromtimestamp(1_800_000_000, UTC)
    assert catalogue.roles.find_by_arn(role.arn) is role


async def test_an_arn_with_another_path_names_no_role(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    assert catalogue.roles.find_by_arn(f"arn:aws:iam::{ACCOUNT}:role/other/worker") is None
    assert catalogue.roles.find_by_arn("worker") is None


async def test_a_name_is_taken_whatever_its_case(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    with pytest.raises(EntityAlreadyExists, match=r"Role with name Worker already exists\."):
        await catalogue.roles.create(ACCOUNT, "Worker", TRUST)


async def test_of_two_creations_at_once_one_wins(catalogue: Catalogue) -> None:
    outcomes = await asyncio.gather(
        *(catalogue.roles.create(ACCOUNT, "worker", TRUST) for _ in range(2)),
        return_exceptions=True,
    )
    assert sorted(isinstance(outcome, EntityAlreadyExists) for outcome in outcomes) == [False, True]


async def test_accounts_do_not_see_each_others_roles(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    with pytest.raises(NoSuchEntity, match=r"The role with name worker cannot be found\."):
        catalogue.roles.get("000000000000", "worker")


async def test_a_role_without_a_valid_trust_policy_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(MalformedPolicyDocument):
        await catalogue.roles.create(ACCOUNT, "worker", "{}")
    assert catalogue.roles.of_account(ACCOUNT) == []


async def test_a_long_trust_policy_is_over_the_quota(catalogue: Catalogue) -> None:
    padded = TRUST.replace("lambda.amazonaws.com", "x" * 2_048)
    with pytest.raises(LimitExceeded, match="ACLSizePerRole: 2048"):
        await catalogue.roles.create(ACCOUNT, "worker", padded)


async def test_a_role_survives_a_restart_with_all_that_it_has(catalogue: Catalogue) -> None:
    await catalogue.roles.create(
        ACCOUNT,
        "worker",
        TRUST,
        description="works",
        max_session_s=7_200,
        permissions_boundary=BASIC,
        tags=[{"Key": "team", "Value": "a"}],
    )
    await catalogue.roles.put_inline(ACCOUNT, "worker", "logs", ALLOW_LOGS)
    await catalogue.roles.attach(ACCOUNT, "worker", BASIC)
    restarted = open_catalogue(catalogue.documents)
    assert restarted.roles.get(ACCOUNT, "worker") == catalogue.roles.get(ACCOUNT, "worker")
    assert restarted.policies.attachments(ACCOUNT, BASIC) == 1


async def test_a_role_goes_only_when_its_policies_are_gone(catalogue: Catalogue) -> None:
    roles = catalogue.roles
    await roles.create(ACCOUNT, "worker", TRUST)
    await roles.attach(ACCOUNT, "worker", BASIC)
    await roles.put_inline(ACCOUNT, "worker", "logs", ALLOW_LOGS)
    with pytest.raises(DeleteConflict, match=r"must detach all policies first\."):
        await roles.delete(ACCOUNT, "worker")
    await roles.detach(ACCOUNT, "worker", BASIC)
    with pytest.raises(DeleteConflict, match=r"must delete policies first\."):
        await roles.delete(ACCOUNT, "worker")
    await roles.delete_inline(ACCOUNT, "worker", "logs")
    await roles.delete(ACCOUNT, "worker")
    assert open_catalogue(catalogue.documents).roles.of_account(ACCOUNT) == []


async def test_an_update_changes_only_what_is_given(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST, description="old", max_session_s=7_200)
    role = await catalogue.roles.update(ACCOUNT, "worker", description="")
    assert (role.description, role.max_session_s) == ("", 7_200)
    role = await catalogue.roles.update(ACCOUNT, "worker", max_session_s=3_600)
    assert (role.description, role.max_session_s) == ("", 3_600)


async def test_a_policy_that_does_not_exist_cannot_be_attached(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    with pytest.raises(NoSuchEntity, match="does not exist or is not attachable"):
        await catalogue.roles.attach(ACCOUNT, "worker", "arn:aws:iam::aws:policy/Nothing")


async def test_attaching_twice_attaches_once(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    for _ in range(2):
        await catalogue.roles.attach(ACCOUNT, "worker", BASIC)
    assert catalogue.roles.get(ACCOUNT, "worker").attached == (BASIC,)
    assert catalogue.policies.attachments(ACCOUNT, BASIC) == 1
    await catalogue.roles.detach(ACCOUNT, "worker", BASIC)
    with pytest.raises(NoSuchEntity):
        await catalogue.roles.detach(ACCOUNT, "worker", BASIC)


async def test_the_number_of_attached_policies_is_limited(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    for number in range(POLICIES_PER_ROLE):
        policy = await catalogue.policies.create(ACCOUNT, f"p{number}", ALLOW_LOGS)
        await catalogue.roles.attach(ACCOUNT, "worker", policy.arn)
    with pytest.raises(LimitExceeded, match="PoliciesPerRole"):
        await catalogue.roles.attach(ACCOUNT, "worker", BASIC)


async def test_inline_policies_together_are_limited_in_size(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    long = ALLOW_LOGS.replace("*", "x" * 6_000, 1)
    await catalogue.roles.put_inline(ACCOUNT, "worker", "one", long)
    with pytest.raises(LimitExceeded, match="10240 bytes exceeded for role worker"):
        await catalogue.roles.put_inline(ACCOUNT, "worker", "two", long)


async def test_tags_are_added_replaced_and_removed_whatever_their_case(
    catalogue: Catalogue,
) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST, tags=[{"Key": "Team", "Value": "a"}])
    await catalogue.roles.tag(ACCOUNT, "worker", [{"Key": "team", "Value": "b"}])
    assert catalogue.roles.get(ACCOUNT, "worker").tags == {"team": "b"}
    await catalogue.roles.untag(ACCOUNT, "worker", ["TEAM", "other"])
    assert catalogue.roles.get(ACCOUNT, "worker").tags == {}


@pytest.mark.parametrize("keys", [("a", "A"), ("aws:x",)])
async def test_duplicate_and_reserved_tag_keys_are_refused(
    catalogue: Catalogue, keys: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput):
        await catalogue.roles.create(
            ACCOUNT, "worker", TRUST, tags=[{"Key": key, "Value": ""} for key in keys]
        )


async def test_a_boundary_is_set_and_removed(catalogue: Catalogue) -> None:
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    await catalogue.roles.set_boundary(ACCOUNT, "worker", BASIC)
    assert catalogue.roles.get(ACCOUNT, "worker").permissions_boundary == BASIC
    await catalogue.roles.set_boundary(ACCOUNT, "worker", None)
    with pytest.raises(NoSuchEntity):
        await catalogue.roles.set_boundary(ACCOUNT, "worker", None)


async def test_a_service_linked_role_changes_only_by_its_service(catalogue: Catalogue) -> None:
    path = "/aws-service-role/lambda.amazonaws.com/"
    await catalogue.roles.create(ACCOUNT, "AWSServiceRoleForLambda", TRUST, path=path)
    with pytest.raises(UnmodifiableEntity, match="protected role"):
        await catalogue.roles.delete(ACCOUNT, "AWSServiceRoleForLambda")
    await catalogue.roles.delete_service_linked(ACCOUNT, "AWSServiceRoleForLambda")
    assert catalogue.roles.of_account(ACCOUNT) == []


async def test_a_role_that_was_never_created_has_a_stable_id(catalogue: Catalogue) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/imagined"
    assert catalogue.roles.role_id_of(arn) == catalogue.roles.role_id_of(arn)
    assert re.fullmatch(r"AROA[A-Z2-7]{17}", catalogue.roles.role_id_of(arn))
