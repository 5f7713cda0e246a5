from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from firelet.frontend.operations import Call, Operations, Reply
from firelet.frontend.sts import StsOperations
from firelet.iam.credentials import SessionCredentials
from firelet.iam.errors import IamValidationError
from firelet.model.errors import AccessDenied
from unit.iam.catalogue import ACCOUNT, NOW, TRUST, Catalogue, open_catalogue

ROLE = f"arn:aws:iam::{ACCOUNT}:role/worker"


class Sts:
    """Calls operations by name, as the router does."""

    def __init__(self) -> None:
        self.catalogue: Catalogue = open_catalogue()
        self.operations = Operations()
        sessions = SessionCredentials(self.catalogue.roles.role_id_of, clock=lambda: NOW)
        StsOperations(self.catalogue.roles, sessions).register(self.operations)

    async def __call__(
        self, operation: str, access_key: str | None = None, **params: Any
    ) -> Mapping[str, Any]:
        handler = self.operations.find("sts", operation)
        assert handler is not None, operation
        call = Call(
            service="sts",
            operation=operation,
            account=ACCOUNT,
            region="us-east-1",
            request_id="1",
            params=params,
            base_url="http://127.0.0.1:4566",
            access_key=access_key,
        )
        output = await handler(call)
        assert output is not None
        assert not isinstance(output, Reply)
        return output


@pytest.fixture
def sts() -> Sts:
    return Sts()


async def test_an_unknown_key_is_the_accounts_root(sts: Sts) -> None:
    assert await sts("GetCallerIdentity", access_key="test") == {
        "UserId": ACCOUNT,
        "Account": ACCOUNT,
        "Arn": f"arn:aws:iam::{ACCOUNT}:root",
    }


async def test_an_assumed_role_is_the_caller_under_its_keys(sts: Sts) -> None:
    role = await sts.catalogue.roles.create(ACCOUNT, "worker", TRUST)
    assumed = await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job")
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/job"
    assert assumed["AssumedRoleUser"] == {"AssumedRoleId": f"{role.role_id}:job", "Arn": arn}
    assert assumed["Credentials"]["Expiration"].timestamp() == int(NOW) + 3_600
    key = assumed["Credentials"]["AccessKeyId"]
    identity = await sts("GetCallerIdentity", access_key=key)
    assert identity == {"UserId": f"{role.role_id}:job", "Account": ACCOUNT, "Arn": arn}


async def test_a_role_that_does_not_exist_cannot_be_assumed(sts: Sts) -> None:
    with pytest.raises(AccessDenied) as refused:
        await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job")
    assert refused.value.code == "AccessDenied"
    assert refused.value.message == (
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: sts:AssumeRole on"
        f" resource: {ROLE}"
    )


async def test_a_session_lasts_no_longer_than_the_role_allows(sts: Sts) -> None:
    await sts.catalogue.roles.create(ACCOUNT, "worker", TRUST, max_session_s=7_200)
    with pytest.raises(IamValidationError, match="MaxSessionDuration"):
        await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job", DurationSeconds=7_201)
    await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job", DurationSeconds=7_200)


async def test_a_chained_session_lasts_an_hour_at_most(sts: Sts) -> None:
    await sts.catalogue.roles.create(ACCOUNT, "worker", TRUST, max_session_s=7_200)
    first = await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job")
    with pytest.raises(IamValidationError, match="role chaining"):
        await sts(
            "AssumeRole",
            access_key=first["Credentials"]["AccessKeyId"],
            RoleArn=ROLE,
            RoleSessionName="job",
            DurationSeconds=3_601,
        )


async def test_a_session_token_is_for_the_account_and_not_for_sessions(sts: Sts) -> None:
    token = await sts("GetSessionToken", access_key="test")
    key = token["Credentials"]["AccessKeyId"]
    identity = await sts("GetCallerIdentity", access_key=key)
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    with pytest.raises(AccessDenied):
        await sts("GetSessionToken", access_key=key)


async def test_a_key_tells_its_account(sts: Sts) -> None:
    await sts.catalogue.roles.create(ACCOUNT, "worker", TRUST)
    assumed = await sts("AssumeRole", RoleArn=ROLE, RoleSessionName="job")
    key = assumed["Credentials"]["AccessKeyId"]
    assert await sts("GetAccessKeyInfo", AccessKeyId=key) == {"Account": ACCOUNT}
