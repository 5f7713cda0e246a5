"""The STS API: who a caller is, and temporary credentials for roles.

What it is: operations over ``iam.credentials``. What it is not: authorization; a role's trust
policy is not evaluated here, only its existence is checked.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.frontend.operations import Call, Operations
from firelet.iam.accounts import account_of_access_key
from firelet.iam.credentials import Credentials, Identity, SessionCredentials, root_arn
from firelet.iam.errors import IamValidationError
from firelet.iam.roles import SESSION_DEFAULT_S, Roles
from firelet.model.errors import AccessDenied

Output = Mapping[str, Any]

CHAINED_SESSION_MAX_S = 3_600  # source: API reference of AssumeRole, "role chaining"
SESSION_TOKEN_DEFAULT_S = 43_200  # source: API reference of GetSessionToken


class StsOperations:
    """Identity of callers and sessions of roles."""

    def __init__(self, roles: Roles, sessions: SessionCredentials) -> None:
        self._roles = roles
        self._sessions = sessions

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("GetCallerIdentity", self.get_caller_identity),
            ("AssumeRole", self.assume_role),
            ("GetSessionToken", self.get_session_token),
            ("GetAccessKeyInfo", self.get_access_key_info),
        ):
            operations.add("sts", name, handler)

    async def get_caller_identity(self, call: Call) -> Output:
        identity = self._caller(call)
        if identity is None:
            return {
                "UserId": call.account,
                "Account": call.account,
                "Arn": root_arn(call.account),
            }
        return {"UserId": identity.user_id, "Account": identity.account, "Arn": identity.arn}

    async def assume_role(self, call: Call) -> Output:
        params = call.params
        role_arn, session_name = params["RoleArn"], params["RoleSessionName"]
        caller = self._caller(call)
        role = self._roles.find_by_arn(role_arn)
        if role is None:
            # AWS does not tell a stranger whether the role exists.
            who = root_arn(call.account) if caller is None else caller.arn
            raise AccessDenied(
                f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
                code="AccessDenied",
            )
        duration_s = params.get("DurationSeconds", SESSION_DEFAULT_S)
        if duration_s > role.max_session_s:
            raise IamValidationError(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            )
        is_chained = caller is not None and caller.role_arn is not None
        if is_chained and duration_s > CHAINED_SESSION_MAX_S:
            raise IamValidationError(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed"
                " by role chaining."
            )
        credentials = self._sessions.issue(role_arn, session_name, duration_s)
        arn = f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{session_name}"
        output: dict[str, Any] = {
            "Credentials": _format_credentials(credentials),
            "AssumedRoleUser": {"AssumedRoleId": f"{role.role_id}:{session_name}", "Arn": arn},
        }
        if "SourceIdentity" in params:
            output["SourceIdentity"] = params["SourceIdentity"]
        return output

    async def get_session_token(self, call: Call) -> Output:
        caller = self._caller(call)
        if caller is not None:
            raise AccessDenied(
                "Cannot call GetSessionToken with session credentials", code="AccessDenied"
            )
        duration_s = call.params.get("DurationSeconds", SESSION_TOKEN_DEFAULT_S)
        credentials = self._sessions.issue_for_account(call.account, duration_s)
        return {"Credentials": _format_credentials(credentials)}

    async def get_access_key_info(self, call: Call) -> Output:
        return {"Account": account_of_access_key(call.params["AccessKeyId"])}

    def _caller(self, call: Call) -> Identity | None:
        return None if call.access_key is None else self._sessions.lookup(call.access_key)


def _format_credentials(credentials: Credentials) -> dict[str, Any]:
    return {
        "AccessKeyId": credentials.access_key,
        "SecretAccessKey": credentials.secret_key,
        "SessionToken": credentials.session_token,
        "Expiration": credentials.expiration,
    }
