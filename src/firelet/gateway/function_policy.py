"""Whether the resource policy of a function lets a gateway's caller use it. Pure.

What it is: principals, actions, resources and the condition operators that such policies have in
practice. A statement with a condition that is not known here allows nothing, and denies if it
denies. What it is not: identity policies.
Source: docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html and
docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

import orjson

from firelet.gateway.wildcards import matches

_POLICIES_REMEMBERED = 1_024
_IF_EXISTS = "ifexists"


class Verdict(Enum):
    """What a policy says of one use."""

    ALLOW = "a statement allows it and none denies it"
    DENY = "a statement denies it"
    SILENT = "no statement is about it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One action on one resource by somebody.

    ``service`` is the principal when an AWS service acts; ``identities`` are the ARN of the caller,
    its account and the account's root; both are empty for an anonymous caller. ``context`` has
    condition keys in lower case.
    """

    action: str
    resource: str
    service: str | None = None
    identities: frozenset[str] = frozenset()
    context: Mapping[str, str] = field(default_factory=dict)


def judge(policy: str | None, use: Use) -> Verdict:
    """``policy`` is a document's JSON text, or None when there is none."""
    verdict = Verdict.SILENT
    if policy is None:
        return verdict
    for statement in _parse(policy):
        is_deny = statement.get("Effect") == "Deny"
        if _is_about(statement, use, is_deny):
            if is_deny:
                return Verdict.DENY
            verdict = Verdict.ALLOW
    return verdict


@lru_cache(_POLICIES_REMEMBERED)
def _parse(policy: str) -> tuple[dict[str, Any], ...]:
    statements = orjson.loads(policy).get("Statement", [])
    return tuple(statements if isinstance(statements, list) else [statements])


def _is_about(statement: Mapping[str, Any], use: Use, is_deny: bool) -> bool:
    return (
        _has_one(statement, "Principal", lambda value: _is_principal(value, use))
        and _has_one(statement, "Action", lambda value: _matches_any(value, use.action, fold=True))
        and _has_one(statement, "Resource", lambda value: _matches_any(value, use.resource))
        and _conditions_hold(statement.get("Condition", {}), use.context, default=is_deny)
    )


def _has_one(statement: Mapping[str, Any], name: str, test: Callable[[Any], bool]) -> bool:
    """Whether the element, or its negation (``NotAction`` …), fits."""
    if name in statement:
        return test(statement[name])
    negated = f"Not{name}"
    return negated in statement and not test(statement[negated])


def _is_principal(stated: Any, use: Use) -> bool:
    if stated == "*":
        return True
    if not isinstance(stated, Mapping):
        return False
    if use.service is not None:
        return use.service in _listed(stated.get("Service"))
    named = _listed(stated.get("AWS"))
    return "*" in named or not use.identities.isdisjoint(named)


def _conditions_hold(
    conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str], default: bool
) -> bool:
    for operator, operands in conditions.items():
        name = operator.lower()
        is_optional = name.endswith(_IF_EXISTS)
        test = _OPERATORS.get(name.removesuffix(_IF_EXISTS))
        if test is None:
            return default
        for key, expected in operands.items():
            actual = context.get(key.lower())
            if actual is None and is_optional:
                continue
            if not test(_listed(expected), actual):
                return False
    return True


def _matches_any(patterns: Any, text: str, *, fold: bool = False) -> bool:
    return any(matches(pattern, text, fold=fold) for pattern in _listed(patterns))


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    return [str(one).lower() if isinstance(one, bool) else str(one) for one in values]


def _equal(expected: list[str], actual: str | None) -> bool:
    return actual in expected


def _equal_folded(expected: list[str], actual: str | None) -> bool:
    return actual is not None and actual.lower() in [one.lower() for one in expected]


def _like(expected: list[str], actual: str | None) -> bool:
    return actual is not None and any(matches(pattern, actual) for pattern in expected)


def _null(expected: list[str], actual: str | None) -> bool:
    return str(actual is None).lower() in expected


def _negate(
    test: Callable[[list[str], str | None], bool],
) -> Callable[[list[str], str | None], bool]:
    return lambda expected, actual: not test(expected, actual)


_OPERATORS: Mapping[str, Callable[[list[str], str | None], bool]] = {
    "stringequals": _equal,
    "stringnotequals": _negate(_equal),
    "stringequalsignorecase": _equal_folded,
    "stringlike": _like,
    "stringnotlike": _negate(_like),
    "arnequals": _like,
    "arnlike": _like,
    "arnnotlike": _negate(_like),
    "arnnotequals": _negate(_like),
    "bool": _equal_folded,
    "null": _null,
}
