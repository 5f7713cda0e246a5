"""The grammar of policy documents: what IAM refuses at the moment a policy is written.

What it is: a check of JSON text, with IAM's sentences. What it is not: evaluation, which asks
whether a policy allows a call. Called by ``iam.roles``, ``iam.policies`` and
``control.policies``.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from firelet.iam.errors import MalformedPolicyDocument

_VERSIONS = ("2012-10-17", "2008-10-17")
_DOCUMENT_FIELDS = frozenset({"Version", "Id", "Statement"})
_STATEMENT_FIELDS = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
_ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_TRUST_ACTION = re.compile(r"sts:(\*|[A-Za-z*?]+)", re.IGNORECASE)
_LAMBDA_ACTION = re.compile(r"\*|lambda:(\*|[A-Za-z*?]+)", re.IGNORECASE)
_WHITESPACE = re.compile(r"\s+")


def check_identity_policy(text: str) -> None:
    """Checks a policy that says what its holder may do (inline or managed)."""
    for statement in _parse_statements(text):
        if "Principal" in statement or "NotPrincipal" in statement:
            raise MalformedPolicyDocument("Policy document should not specify a principal.")
        resources = _one_of(statement, "Resource", "NotResource", "resources")
        for resource in resources:
            if resource != "*" and not resource.startswith("arn:") and "${" not in resource:
                raise MalformedPolicyDocument(f'Resource {resource} must be in ARN format or "*".')
        for action in _one_of(statement, "Action", "NotAction", "actions"):
            if not _ACTION.fullmatch(action):
                raise MalformedPolicyDocument(
                    "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."
                )


def check_trust_policy(text: str) -> None:
    """Checks a policy that says who may assume a role."""
    for statement in _parse_statements(text):
        if "Principal" not in statement and "NotPrincipal" not in statement:
            raise MalformedPolicyDocument("Missing required field Principal")
        for field in ("Resource", "NotResource"):
            if field in statement:
                raise MalformedPolicyDocument(f"Has prohibited field {field}")
        _check_principal(statement.get("Principal", statement.get("NotPrincipal")))
        for action in _one_of(statement, "Action", "NotAction", "actions"):
            if not _TRUST_ACTION.fullmatch(action):
                raise MalformedPolicyDocument(
                    "AssumeRole policy may only specify STS AssumeRole actions."
                )


def check_resource_policy(text: str) -> list[Mapping[str, Any]]:
    """Checks a policy that says who may use one Lambda resource; its statements."""
    statements = _parse_statements(text)
    for statement in statements:
        if "Principal" not in statement and "NotPrincipal" not in statement:
            raise MalformedPolicyDocument("Missing required field Principal")
        _check_principal(statement.get("Principal", statement.get("NotPrincipal")))
        _one_of(statement, "Resource", "NotResource", "resources")
        for action in _one_of(statement, "Action", "NotAction", "actions"):
            if not _LAMBDA_ACTION.fullmatch(action):
                raise MalformedPolicyDocument(
                    "The policy of a Lambda resource may only specify Lambda actions."
                )
    return statements


def counted_size(text: str) -> int:
    """Characters that count towards a size quota: all but white space."""
    return len(_WHITESPACE.sub("", text))


def _parse_statements(text: str) -> list[Mapping[str, Any]]:
    if text[:1].isspace():
        raise MalformedPolicyDocument("JSON strings must not have leading spaces")
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise MalformedPolicyDocument("This policy contains invalid Json") from None
    if not isinstance(document, dict) or not _DOCUMENT_FIELDS.issuperset(document):
        raise _syntax_error()
    if document.get("Version", _VERSIONS[1]) not in _VERSIONS:
        raise MalformedPolicyDocument("Policy document must be version 2012-10-17 or greater.")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise _syntax_error()
    for statement in statements:
        _check_statement(statement)
    sids = [statement["Sid"] for statement in statements if statement.get("Sid")]
    if len(sids) != len(set(sids)):
        raise MalformedPolicyDocument("Statement IDs (SID) in a single policy must be unique.")
    return statements


def _check_statement(statement: object) -> None:
    """What identity and trust policies have in common."""
    if not isinstance(statement, dict) or not _STATEMENT_FIELDS.issuperset(statement):
        raise _syntax_error()
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise _syntax_error()
    if not isinstance(statement.get("Sid", ""), str):
        raise _syntax_error()
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, dict) or not all(
        isinstance(c, dict) for c in conditions.values()
    ):
        raise _syntax_error()


def _check_principal(principal: object) -> None:
    if principal == "*":
        return
    if not isinstance(principal, dict) or not principal:
        raise MalformedPolicyDocument("Invalid principal in policy.")
    for kind, names in principal.items():
        listed = [names] if isinstance(names, str) else names
        if kind not in ("AWS", "Service", "Federated", "CanonicalUser"):
            raise MalformedPolicyDocument(f'Invalid principal in policy: "{kind}"')
        if not isinstance(listed, list) or not all(isinstance(n, str) and n for n in listed):
            raise MalformedPolicyDocument("Invalid principal in policy.")


def _one_of(statement: Mapping[str, Any], field: str, negated: str, what: str) -> list[str]:
    """The values of exactly one of two fields, as a list of strings."""
    if (field in statement) == (negated in statement):
        if field in statement:
            raise _syntax_error()
        raise MalformedPolicyDocument(f"Policy statement must contain {what}.")
    values = statement.get(field, statement.get(negated))
    listed = [values] if isinstance(values, str) else values
    if not isinstance(listed, list) or not all(isinstance(value, str) for value in listed):
        raise _syntax_error()
    if not listed:
        raise MalformedPolicyDocument(f"Policy statement must contain {what}.")
    return listed


def _syntax_error() -> MalformedPolicyDocument:
    return MalformedPolicyDocument("Syntax errors in policy.")
