"""Permissions: the statements that AddPermission writes into a function's resource policy.

Pure: from what a caller grants to the statement, byte for byte as AWS writes it. What it is not:
evaluation of a policy, or its storage (``control.policies``).
Source: docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html; recorded answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firelet.model.errors import InvalidParameterValue

_INVOKE_URL = "lambda:InvokeFunctionUrl"
# Alexa's services are below amazon.com.
_SERVICE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.amazon(aws)?\.com(\.cn)?")
_ACCOUNT = re.compile(r"\d{12}")
_IDENTITY = re.compile(r"arn:aws[a-z-]*:(iam|sts)::(\d{12}|cloudfront):.+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What one statement grants, and under which conditions. None: no such condition."""

    statement_id: str
    action: str
    principal: str
    source_arn: str | None = None
    source_account: str | None = None
    organization_id: str | None = None
    event_source_token: str | None = None
    url_auth_type: str | None = None
    is_via_url: bool | None = None

    def statement(self, resource: str) -> dict[str, Any]:
        """As it stands in the policy, members in AWS's order. InvalidParameterValue."""
        if self.url_auth_type is not None and self.action != _INVOKE_URL:
            raise InvalidParameterValue(
                f"FunctionUrlAuthType is only supported for {_INVOKE_URL} action"
            )
        statement: dict[str, Any] = {
            "Sid": self.statement_id,
            "Effect": "Allow",
            "Principal": _format_principal(self.principal),
            "Action": self.action,
            "Resource": resource,
        }
        condition = self._condition()
        if condition:
            statement["Condition"] = condition
        return statement

    def _condition(self) -> dict[str, Any]:
        equal = {
            "lambda:FunctionUrlAuthType": self.url_auth_type,
            "aws:PrincipalOrgID": self.organization_id,
            "AWS:SourceAccount": self.source_account,
            "lambda:EventSourceToken": self.event_source_token,
        }
        via_url = None if self.is_via_url is None else str(self.is_via_url).lower()
        operators = {
            "StringEquals": equal,
            "Bool": {"lambda:InvokedViaFunctionUrl": via_url},
            "ArnLike": {"AWS:SourceArn": self.source_arn},
        }
        given = {
            operator: {key: value for key, value in operands.items() if value}
            for operator, operands in operators.items()
        }
        return {operator: operands for operator, operands in given.items() if operands}


def format_policy(statements: Sequence[Mapping[str, Any]]) -> str:
    """The document that AWS makes of added permissions."""
    return format_json({"Version": "2012-10-17", "Id": "default", "Statement": list(statements)})


def format_json(value: Any) -> str:
    """JSON as AWS writes it: without blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _format_principal(principal: str) -> str | dict[str, str]:
    if principal == "*":
        return principal
    if _SERVICE.fullmatch(principal):
        return {"Service": principal}
    if _ACCOUNT.fullmatch(principal):
        return {"AWS": f"arn:aws:iam::{principal}:root"}
    if _IDENTITY.fullmatch(principal):
        return {"AWS": principal}
    raise InvalidParameterValue(
        "The provided principal was invalid. Please check the principal and try again."
    )
