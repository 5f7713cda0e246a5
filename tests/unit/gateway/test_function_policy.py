"""What the resource policy of a function says of one use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firelet.gateway.function_policy import Use, Verdict, judge

ARN = "arn:aws:lambda:us-east-1:111122223333:function:f"
STATEMENT = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "lambda:InvokeFunction",
    "Resource": ARN,
}
API = "arn:aws:execute-api:us-east-1:111122223333:abc/$default/GET/pets"


def verdict(*statements: dict[str, Any], **use: Any) -> Verdict:
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return judge(policy, Use(**{"action": "lambda:InvokeFunction", "resource": ARN, **use}))


def test_no_policy_says_nothing() -> None:
    assert judge(None, Use(action="lambda:InvokeFunction", resource=ARN)) is Verdict.SILENT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Verdict.ALLOW),
        ({"Action": "lambda:*"}, Verdict.ALLOW),
        ({"Action": ["LAMBDA:invokefunction"]}, Verdict.ALLOW),
        ({"Action": "lambda:InvokeFunctionUrl"}, Verdict.SILENT),
        ({"Action": "lambda:Invoke?unction"}, Verdict.ALLOW),
        ({"Resource": "*"}, Verdict.ALLOW),
        ({"Resource": "arn:aws:lambda:*:function:*f"}, Verdict.ALLOW),
        ({"Resource": f"{ARN}*f"}, Verdict.SILENT),
        ({"Resource": f"{ARN}:live"}, Verdict.SILENT),
        ({"Resource": ARN.upper()}, Verdict.SILENT),
        ({"Principal": {"AWS": "*"}}, Verdict.ALLOW),
        ({"Principal": {"AWS": "111122223333"}}, Verdict.SILENT),
        ({"Principal": {"Service": "apigateway.amazonaws.com"}}, Verdict.SILENT),
        ({"Principal": "apigateway.amazonaws.com"}, Verdict.SILENT),
    ],
)
def test_anonymous_callers(change: dict[str, Any], expected: Verdict) -> None:
    assert verdict({**STATEMENT, **change}) is expected


def test_a_deny_wins_wherever_it_stands() -> None:
    deny = {**STATEMENT, "Effect": "Deny"}
    assert verdict(STATEMENT, deny) is Verdict.DENY
    assert verdict(deny, STATEMENT) is Verdict.DENY


def test_negated_elements() -> None:
    negated = {"Effect": "Allow", "Principal": "*", "NotAction": "lambda:Get*", "Resource": ARN}
    assert verdict(negated) is Verdict.ALLOW
    assert verdict(negated, action="lambda:GetFunction") is Verdict.SILENT


def test_identities_of_a_caller() -> None:
    named = {**STATEMENT, "Principal": {"AWS": ["arn:aws:iam::444455556666:root"]}}
    root = frozenset(("444455556666", "arn:aws:iam::444455556666:root"))
    assert verdict(named, identities=root) is Verdict.ALLOW
    assert verdict(named, identities=frozenset(("444455556667",))) is Verdict.SILENT


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"ArnLike": {"AWS:SourceArn": f"{API[:-13]}*"}}, Verdict.ALLOW),
        ({"ArnLike": {"aws:SourceArn": ["arn:other", API]}}, Verdict.ALLOW),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:execute-api:*:*:xyz/*"}}, Verdict.SILENT),
        ({"StringEquals": {"aws:SourceAccount": "111122223333"}}, Verdict.ALLOW),
        ({"StringEquals": {"aws:SourceAccount": "1"}}, Verdict.SILENT),
        ({"StringNotEquals": {"aws:SourceAccount": "1"}}, Verdict.ALLOW),
        ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, Verdict.SILENT),
        ({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1"}}, Verdict.ALLOW),
        ({"Bool": {"lambda:InvokedViaFunctionUrl": True}}, Verdict.SILENT),
        ({"Null": {"lambda:InvokedViaFunctionUrl": "true"}}, Verdict.ALLOW),
        ({"NumericLessThan": {"aws:SourceAccount": "1"}}, Verdict.SILENT),
        (
            {
                "StringEquals": {"aws:SourceAccount": "111122223333"},
                "ArnLike": {"aws:SourceArn": "arn:other"},
            },
            Verdict.SILENT,
        ),
    ],
)
def test_services_and_their_conditions(condition: dict[str, Any], expected: Verdict) -> None:
    statement = {
        **STATEMENT,
        "Principal": {"Service": "apigateway.amazonaws.com"},
        "Condition": condition,
    }
    context = {"aws:sourcearn": API, "aws:sourceaccount": "111122223333"}
    use = {"service": "apigateway.amazonaws.com", "context": context}
    assert verdict(statement, **use) is expected


def test_a_deny_with_a_condition_that_is_not_known_denies() -> None:
    odd = {**STATEMENT, "Effect": "Deny", "Condition": {"DateLessThan": {"aws:CurrentTime": "x"}}}
    assert verdict(STATEMENT, odd) is Verdict.DENY


def test_patterns_of_stars_are_matched_in_reasonable_time() -> None:
    evil = {**STATEMENT, "Resource": "*a" * 12 + "*b"}
    assert verdict(evil, resource="a" * 40) is Verdict.SILENT
