from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pytest

from firelet.frontend.iam import IamOperations
from firelet.frontend.operations import Call, Operations, Reply
from firelet.iam.credentials import SessionCredentials
from firelet.iam.errors import IamValidationError, InvalidInput, NoSuchEntity
from unit.iam.catalogue import ACCOUNT, ALLOW_LOGS, BASIC, TRUST, open_catalogue


class Iam:
    """Calls operations by name, as the router does."""

    def __init__(self) -> None:
        catalogue = open_catalogue()
        self.sessions = SessionCredentials(catalogue.roles.role_id_of)
        self.operations = Operations()
        IamOperations(catalogue.roles, catalogue.policies, self.sessions).register(self.operations)

    async def __call__(
        self, operation: str, access_key: str | None = None, **params: Any
    ) -> Mapping[str, Any]:
        handler = self.operations.find("iam", operation)
        assert handler is not None, operation
        call = Call(
            service="iam",
            operation=operation,
            account=ACCOUNT,
            region="us-east-1",
            request_id="1",
            params=params,
            base_url="http://127.0.0.1:4566",
            access_key=access_key,
        )
        output = await handler(call)
        assert not isinstance(output, Reply)
        return output or {}


@pytest.fixture
def iam() -> Iam:
    return Iam()


async def test_a_role_is_described_as_it_was_created(iam: Iam) -> None:
    created = await iam(
        "CreateRole",
        RoleName="worker",
        Path="/a/",
        AssumeRolePolicyDocument=TRUST,
        Description="works",
        PermissionsBoundary=BASIC,
        Tags=[{"Key": "t", "Value": "1"}],
    )
    role = (await iam("GetRole", RoleName="worker"))["Role"]
    assert role == {**created["Role"], "RoleLastUsed": {}}
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/a/worker"
    assert role["Tags"] == [{"Key": "t", "Value": "1"}]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BASIC
    assert role["MaxSessionDuration"] == 3_600


async def test_documents_are_percent_encoded_in_answers(iam: Iam) -> None:
    await iam("CreateRole", RoleName="worker", AssumeRolePolicyDocument=TRUST)
    await iam("PutRolePolicy", RoleName="worker", PolicyName="p", PolicyDocument=ALLOW_LOGS)
    answer = await iam("GetRolePolicy", RoleName="worker", PolicyName="p")
    assert answer["PolicyDocument"].startswith("%7B%22Version%22%3A%222012-10-17%22")
    assert unquote(answer["PolicyDocument"]) == ALLOW_LOGS


async def test_a_list_of_roles_comes_in_pages_that_miss_none(iam: Iam) -> None:
    names = [f"role{number}" for number in range(5)]
    for name in names:
        await iam("CreateRole", RoleName=name, AssumeRolePolicyDocument=TRUST)
    seen: list[str] = []
    paging: dict[str, Any] = {}
    while True:
        answer = await iam("ListRoles", MaxItems=2, **paging)
        seen += [role["RoleName"] for role in answer["Roles"]]
        if not answer["IsTruncated"]:
            break
        paging = {"Marker": answer["Marker"]}
    assert seen == names


async def test_a_marker_that_firelet_did_not_make_is_refused(iam: Iam) -> None:
    with pytest.raises(IamValidationError):
        await iam("ListRoles", Marker="?!")


async def test_listed_roles_carry_no_tags(iam: Iam) -> None:
    await iam(
        "CreateRole",
        RoleName="worker",
        AssumeRolePolicyDocument=TRUST,
        Tags=[{"Key": "t", "Value": "1"}],
    )
    (listed,) = (await iam("ListRoles", PathPrefix="/"))["Roles"]
    assert "Tags" not in listed
    assert (await iam("ListRoles", PathPrefix="/none/"))["Roles"] == []


async def test_a_roles_life_as_terraform_leads_it(iam: Iam) -> None:
    """The calls of aws_iam_role, its policy and its attachment, from create to destroy."""
    await iam("CreateRole", RoleName="worker", AssumeRolePolicyDocument=TRUST)
    await iam("PutRolePolicy", RoleName="worker", PolicyName="p", PolicyDocument=ALLOW_LOGS)
    await iam("AttachRolePolicy", RoleName="worker", PolicyArn=BASIC)
    assert (await iam("ListRolePolicies", RoleName="worker"))["PolicyNames"] == ["p"]
    attached = (await iam("ListAttachedRolePolicies", RoleName="worker"))["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": BASIC}]
    await iam("UpdateAssumeRolePolicy", RoleName="worker", PolicyDocument=TRUST)
    await iam("UpdateRole", RoleName="worker", Description="new", MaxSessionDuration=7_200)
    await iam("TagRole", RoleName="worker", Tags=[{"Key": "a", "Value": "b"}])
    assert (await iam("ListRoleTags", RoleName="worker"))["Tags"] == [{"Key": "a", "Value": "b"}]
    await iam("UntagRole", RoleName="worker", TagKeys=["a"])
    assert (await iam("ListInstanceProfilesForRole", RoleName="worker"))["InstanceProfiles"] == []
    await iam("DetachRolePolicy", RoleName="worker", PolicyArn=BASIC)
    await iam("DeleteRolePolicy", RoleName="worker", PolicyName="p")
    await iam("DeleteRole", RoleName="worker")
    with pytest.raises(NoSuchEntity):
        await iam("GetRole", RoleName="worker")


async def test_a_policys_life_with_versions_and_holders(iam: Iam) -> None:
    created = (await iam("CreatePolicy", PolicyName="p", PolicyDocument=ALLOW_LOGS))["Policy"]
    arn = created["Arn"]
    await iam("CreateRole", RoleName="worker", AssumeRolePolicyDocument=TRUST)
    await iam("AttachRolePolicy", RoleName="worker", PolicyArn=arn)
    assert (await iam("GetPolicy", PolicyArn=arn))["Policy"]["AttachmentCount"] == 1
    holders = await iam("ListEntitiesForPolicy", PolicyArn=arn)
    assert [role["RoleName"] for role in holders["PolicyRoles"]] == ["worker"]
    added = await iam(
        "CreatePolicyVersion", PolicyArn=arn, PolicyDocument=ALLOW_LOGS, SetAsDefault=True
    )
    assert added["PolicyVersion"]["VersionId"] == "v2"
    versions = (await iam("ListPolicyVersions", PolicyArn=arn))["Versions"]
    assert [(v["VersionId"], v["IsDefaultVersion"]) for v in versions] == [
        ("v2", True),
        ("v1", False),
    ]
    document = (await iam("GetPolicyVersion", PolicyArn=arn, VersionId="v1"))["PolicyVersion"]
    assert unquote(document["Document"]) == ALLOW_LOGS
    await iam("SetDefaultPolicyVersion", PolicyArn=arn, VersionId="v1")
    await iam("DeletePolicyVersion", PolicyArn=arn, VersionId="v2")
    await iam("TagPolicy", PolicyArn=arn, Tags=[{"Key": "a", "Value": "b"}])
    assert (await iam("ListPolicyTags", PolicyArn=arn))["Tags"] == [{"Key": "a", "Value": "b"}]
    await iam("UntagPolicy", PolicyArn=arn, TagKeys=["a"])
    attached = (await iam("ListPolicies", OnlyAttached=True))["Policies"]
    assert [policy["PolicyName"] for policy in attached] == ["p"]
    await iam("DetachRolePolicy", RoleName="worker", PolicyArn=arn)
    await iam("DeletePolicy", PolicyArn=arn)
    with pytest.raises(NoSuchEntity):
        await iam("GetPolicy", PolicyArn=arn)


async def test_a_service_linked_role_is_made_once_and_deleted_by_its_own_call(iam: Iam) -> None:
    service = "lambda.application-autoscaling.amazonaws.com"
    role = (await iam("CreateServiceLinkedRole", AWSServiceName=service))["Role"]
    assert role["RoleName"] == "AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"
    assert role["Path"] == f"/aws-service-role/{service}/"
    with pytest.raises(InvalidInput, match="has been taken in this account"):
        await iam("CreateServiceLinkedRole", AWSServiceName=service)
    task = await iam("DeleteServiceLinkedRole", RoleName=role["RoleName"])
    status = await iam("GetServiceLinkedRoleDeletionStatus", **task)
    assert status == {"Status": "SUCCEEDED"}


async def test_the_caller_without_a_session_is_root(iam: Iam) -> None:
    user = (await iam("GetUser"))["User"]
    assert user["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    with pytest.raises(NoSuchEntity, match=r"The user with name eve cannot be found\."):
        await iam("GetUser", UserName="eve")
    assert (await iam("ListAccountAliases"))["AccountAliases"] == []


async def test_a_role_session_is_no_user(iam: Iam) -> None:
    key = iam.sessions.issue(f"arn:aws:iam::{ACCOUNT}:role/worker", "s", 900).access_key
    with pytest.raises(IamValidationError, match="non-User credentials"):
        await iam("GetUser", access_key=key)
