"""The IAM API: roles, policies, and the little that an account says about itself.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from firelet.frontend.iam_policies import IamPolicyOperations
from firelet.frontend.iam_roles import IamRoleOperations
from firelet.frontend.operations import Call, Operations
from firelet.iam.credentials import SessionCredentials, root_arn
from firelet.iam.errors import IamValidationError, NoSuchEntity
from firelet.iam.policies import Policies
from firelet.iam.roles import Roles

# An account is there from the start; IAM's API version stands in for the day it was opened.
_ACCOUNT_OPENED = datetime(2010, 5, 8, tzinfo=UTC)


class IamOperations:
    """All of IAM that firelet serves."""

    def __init__(self, roles: Roles, policies: Policies, sessions: SessionCredentials) -> None:
        self._sessions = sessions
        self._families = (
            IamRoleOperations(roles, policies),
            IamPolicyOperations(roles, policies),
        )

    def register(self, operations: Operations) -> None:
        for family in self._families:
            family.register(operations)
        operations.add("iam", "GetUser", self.get_user)
        operations.add("iam", "ListAccountAliases", self.list_account_aliases)

    async def get_user(self, call: Call) -> Mapping[str, Any]:
        """The caller, who is the account's root: firelet has no users of its own."""
        name = call.params.get("UserName")
        if name is not None:
            raise NoSuchEntity(f"The user with name {name} cannot be found.")
        identity = self._sessions.lookup(call.access_key) if call.access_key else None
        if identity is not None and identity.role_arn is not None:
            raise IamValidationError("Must specify userName when calling with non-User credentials")
        user = {
            "Path": "/",
            "UserName": "root",
            "UserId": call.account,
            "Arn": root_arn(call.account),
            "CreateDate": _ACCOUNT_OPENED,
        }
        return {"User": user}

    async def list_account_aliases(self, call: Call) -> Mapping[str, Any]:
        return {"AccountAliases": [], "IsTruncated": False}
