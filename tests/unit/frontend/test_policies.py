"""Resource policies: rules, sentences and what they hang on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firelet.control.registry import Registry
from firelet.frontend.aliases import AliasOperations
from firelet.frontend.policies import PolicyOperations
from firelet.model import limits
from firelet.model.errors import (
    AccessDenied,
    InvalidParameterValue,
    PolicyLengthExceeded,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
    ValidationError,
)
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from lambda_api import LambdaApi
from registry_parts import ARN, KEY, FakeActivator

GRANT = {"StatementId": "s3", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com"}
STALE = "The Revision Id provided does not match the latest Revision Id. Call the {} API"
OLD_REVISION = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def api(published: Registry) -> LambdaApi:
    return LambdaApi(published, PolicyOperations, AliasOperations)


def document(arn: str = ARN, **changes: Any) -> str:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "lambda:InvokeFunction",
        "Resource": arn,
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=1)


async def test_a_permission_is_in_the_policy_as_it_was_answered(api: LambdaApi) -> None:
    added = await api.call("AddPermission", **GRANT)
    found = await api.call("GetPolicy")
    assert found["Policy"] == (
        f'{{"Version":"2012-10-17","Id":"default","Statement":[{added["Statement"]}]}}'
    )
    assert json.loads(added["Statement"])["Resource"] == ARN


@pytest.mark.parametrize("qualifier", ["1", "live"])
async def test_versions_and_aliases_have_policies_of_their_own(
    api: LambdaApi, qualifier: str
) -> None:
    await api.call("AddPermission", **GRANT)
    added = await api.call("AddPermission", **GRANT, Qualifier=qualifier)
    assert json.loads(added["Statement"])["Resource"] == f"{ARN}:{qualifier}"
    found = await api.call("GetPolicy", FunctionName=f"greeter:{qualifier}")
    assert len(json.loads(found["Policy"])["Statement"]) == 1
    assert await api.call("RemovePermission", StatementId="s3", Qualifier=qualifier) == 204
    with pytest.raises(ResourceNotFound, match=r"^The resource you requested does not exist\.$"):
        await api.call("GetPolicy", Qualifier=qualifier)
    assert await api.call("GetPolicy")


async def test_the_revision_is_that_of_what_the_policy_hangs_on(
    api: LambdaApi, published: Registry
) -> None:
    before = published.functions.get(KEY)
    await api.call("AddPermission", **GRANT)
    await api.call("AddPermission", **GRANT, Qualifier="live")
    after = published.functions.get(KEY)
    assert before.latest.revision_id != after.latest.revision_id
    assert before.versions == after.versions
    found = await api.call("GetPolicy", Qualifier="live")
    assert found["RevisionId"] == after.aliases["live"].revision_id
    await api.call(
        "AddPermission", **{**GRANT, "StatementId": "b"}, RevisionId=after.latest.revision_id
    )


async def test_a_change_needs_the_latest_revision_if_it_names_one(api: LambdaApi) -> None:
    with pytest.raises(PreconditionFailed, match=STALE.format("GetPolicy")):
        await api.call("AddPermission", **GRANT, RevisionId=OLD_REVISION)
    await api.call("AddPermission", **GRANT)
    with pytest.raises(PreconditionFailed, match=STALE.format("GetFunction/GetAlias")):
        await api.call("RemovePermission", StatementId="s3", RevisionId=OLD_REVISION)
    with pytest.raises(PreconditionFailed, match=STALE.format("GetResourcePolicy")):
        await api.call("DeleteResourcePolicy", ResourceArn=ARN, RevisionId=OLD_REVISION)


async def test_a_statement_id_is_used_once_in_each_policy(api: LambdaApi) -> None:
    await api.call("AddPermission", **GRANT)
    with pytest.raises(ResourceConflict) as caught:
        await api.call("AddPermission", **GRANT)
    assert caught.value.message == (
        "The statement id (s3) provided already exists. Please provide a new statement id, or"
        " remove the existing statement."
    )


@pytest.mark.parametrize(
    ("operation", "params", "error", "sentence"),
    [
        (
            "AddPermission",
            {**GRANT, "Qualifier": "$LATEST"},
            InvalidParameterValue,
            "We currently do not support adding policies for $LATEST.",
        ),
        (
            "AddPermission",
            {**GRANT, "FunctionName": "nobody"},
            ResourceNotFound,
            f"Function not found: {ARN.replace('greeter', 'nobody')}",
        ),
        (
            "AddPermission",
            {**GRANT, "Qualifier": "9"},
            ResourceNotFound,
            f"Function not found: {ARN}:9",
        ),
        (
            "AddPermission",
            {**GRANT, "Qualifier": "with-$"},
            ResourceNotFound,
            f"Function not found: {ARN}:with-$",
        ),
        (
            "AddPermission",
            {**GRANT, "Qualifier": "no"},
            ResourceNotFound,
            f"Cannot find alias arn: {ARN}:no",
        ),
        (
            "AddPermission",
            {**GRANT, "FunctionName": "greeter:live", "Qualifier": "1"},
            InvalidParameterValue,
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        (
            "AddPermission",
            {**GRANT, "StatementId": "example.com"},
            ValidationError,
            "1 validation error detected: Value 'example.com' at 'statementId' failed to satisfy"
            " constraint: Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)",
        ),
        (
            "GetPolicy",
            {"FunctionName": "nobody"},
            ResourceNotFound,
            f"Function not found: {ARN.replace('greeter', 'nobody')}",
        ),
        (
            "GetPolicy",
            {"Qualifier": "9"},
            ResourceNotFound,
            "The resource you requested does not exist.",
        ),
        (
            "RemovePermission",
            {"StatementId": "s3", "FunctionName": "nobody"},
            ResourceNotFound,
            f"No policy found for: {ARN.replace('greeter', 'nobody')}",
        ),
        (
            "RemovePermission",
            {"StatementId": "s3", "Qualifier": "no"},
            ResourceNotFound,
            f"Cannot find alias arn: {ARN}:no",
        ),
        (
            "RemovePermission",
            {"StatementId": "s3"},
            ResourceNotFound,
            "No policy is associated with the given resource.",
        ),
        (
            "DeleteResourcePolicy",
            {"ResourceArn": ARN},
            ResourceNotFound,
            "No policy is associated with the given resource.",
        ),
        (
            "GetResourcePolicy",
            {"ResourceArn": ARN.replace(":function:greeter", ":runtime/mine")},
            ResourceNotFound,
            "The resource you requested does not exist.",
        ),
        (
            "PutResourcePolicy",
            {"ResourceArn": f"{ARN}:$LATEST", "Policy": document(f"{ARN}:$LATEST")},
            InvalidParameterValue,
            "We currently do not support adding policies for $LATEST.",
        ),
    ],
)
async def test_what_aws_refuses_is_refused_in_its_words(
    api: LambdaApi, operation: str, params: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        await api.call(operation, **params)
    assert str(caught.value) == sentence


async def test_an_unknown_statement_is_named(api: LambdaApi) -> None:
    await api.call("AddPermission", **GRANT)
    with pytest.raises(ResourceNotFound, match=r"^Statement no is not found in resource policy\.$"):
        await api.call("RemovePermission", StatementId="no")


async def test_a_policy_has_a_greatest_size(api: LambdaApi) -> None:
    source = "arn:aws:s3:::" + "b" * 9_000
    for number in range(2):
        await api.call("AddPermission", **{**GRANT, "StatementId": str(number)}, SourceArn=source)
    with pytest.raises(PolicyLengthExceeded, match=rf"limit \({limits.POLICY_MAX_BYTES}\)\.$"):
        await api.call("AddPermission", **GRANT, SourceArn=source)


async def test_a_whole_document_replaces_what_was_there_and_is_kept_as_it_is(
    api: LambdaApi,
) -> None:
    await api.call("AddPermission", **GRANT)
    put = await api.call("PutResourcePolicy", ResourceArn=ARN, Policy=document())
    assert put["Policy"] == document()
    assert (
        await api.call("GetResourcePolicy", ResourceArn=ARN) == put == await api.call("GetPolicy")
    )
    await api.call("AddPermission", **GRANT)
    both = json.loads((await api.call("GetPolicy"))["Policy"])["Statement"]
    assert [statement["Effect"] for statement in both] == ["Deny", "Allow"]
    assert await api.call("DeleteResourcePolicy", ResourceArn=ARN) == 204
    with pytest.raises(ResourceNotFound):
        await api.call("GetResourcePolicy", ResourceArn=ARN)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "This policy contains invalid Json"),
        (document(Principal=None), "Invalid principal in policy."),
        (document(Action="s3:GetObject"), "may only specify Lambda actions"),
        (document(Effect="Perhaps"), "Syntax errors in policy."),
        (document(f"{ARN}:live"), f"must be the resource of the policy: {ARN}$"),
    ],
)
async def test_a_document_that_is_no_policy_is_refused(
    api: LambdaApi, text: str, sentence: str
) -> None:
    with pytest.raises(InvalidParameterValue, match=sentence):
        await api.call("PutResourcePolicy", ResourceArn=ARN, Policy=text)


async def test_the_policy_of_another_account_is_not_ours_to_write(api: LambdaApi) -> None:
    arn = "arn:aws:lambda:eu-central-1:999999999999:function:greeter"
    with pytest.raises(AccessDenied, match="lambda:PutResourcePolicy"):
        await api.call("PutResourcePolicy", ResourceArn=arn, Policy=document(arn))


async def test_policies_survive_a_restart_and_go_with_what_they_hang_on(
    api: LambdaApi, published: Registry, documents: MemoryDocuments, tmp_path: Any
) -> None:
    for qualifier in ({}, {"Qualifier": "1"}, {"Qualifier": "live"}):
        await api.call("AddPermission", **GRANT, **qualifier)
    again = Registry(documents, BlobStore(tmp_path / "blobs"), activator=FakeActivator())
    await again.load()
    assert again.policies.get(KEY, "live") == published.policies.get(KEY, "live")
    assert again.policies.get(KEY, None) == published.policies.get(KEY, None)
    await published.aliases.delete(KEY, "live")
    await published.aliases.create(KEY, "live", "1")
    await published.aliases.delete(KEY, "live")
    await published.versions.delete(KEY, "1")
    assert set(published.functions.get(KEY).policies) == {"$LATEST"}
