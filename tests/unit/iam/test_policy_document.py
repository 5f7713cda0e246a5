from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.iam.errors import MalformedPolicyDocument
from firelet.iam.managed_policies import MANAGED_POLICIES
from firelet.iam.policy_document import (
    check_identity_policy,
    check_trust_policy,
    counted_size,
)

TRUST = {
    "Effect": "Allow",
    "Principal": {"Service": "lambda.amazonaws.com"},
    "Action": "sts:AssumeRole",
}
ALLOW = {"Effect": "Allow", "Action": ["logs:*"], "Resource": "*"}


def policy(*statements: object, **members: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **members})


def test_a_trust_policy_for_lambda_is_accepted() -> None:
    check_trust_policy(policy(TRUST))


def test_a_single_statement_may_stand_without_a_list() -> None:
    check_trust_policy(json.dumps({"Statement": TRUST}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "This policy contains invalid Json"),
        (" {}", "JSON strings must not have leading spaces"),
        ("[]", "Syntax errors in policy."),
        ("{}", "Syntax errors in policy."),
        (policy(), "Syntax errors in policy."),
        (policy("text"), "Syntax errors in policy."),
        (policy(ALLOW, Extra=1), "Syntax errors in policy."),
        (policy({**ALLOW, "Effect": "Maybe"}), "Syntax errors in policy."),
        (policy({**ALLOW, "NotAction": "s3:*"}), "Syntax errors in policy."),
        (policy({**ALLOW, "Condition": {"Bool": 1}}), "Syntax errors in policy."),
        (policy({**ALLOW, "Action": [1]}), "Syntax errors in policy."),
        (policy(ALLOW, Version="2020"), "Policy document must be version 2012-10-17 or greater."),
        (policy({**ALLOW, "Action": []}), "Policy statement must contain actions."),
        (policy({"Effect": "Allow", "Action": "s3:*"}), "Policy statement must contain resources."),
        (policy({**ALLOW, **TRUST}), "Policy document should not specify a principal."),
        (policy({**ALLOW, "Resource": "x"}), 'Resource x must be in ARN format or "*".'),
        (
            policy({**ALLOW, "Action": "everything"}),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            policy({**ALLOW, "Sid": "A"}, {**ALLOW, "Sid": "A"}),
            "Statement IDs (SID) in a single policy must be unique.",
        ),
    ],
)
def test_a_wrong_identity_policy_is_refused_with_iams_sentence(text: str, sentence: str) -> None:
    with pytest.raises(MalformedPolicyDocument) as refused:
        check_identity_policy(text)
    assert refused.value.message == sentence


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        (ALLOW, "Missing required field Principal"),
        ({**TRUST, "Resource": "*"}, "Has prohibited field Resource"),
        (
            {**TRUST, "Action": "s3:Get"},
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        ({**TRUST, "Principal": {"Robot": "x"}}, 'Invalid principal in policy: "Robot"'),
        ({**TRUST, "Principal": {"AWS": 1}}, "Invalid principal in policy."),
        ({**TRUST, "Principal": "lambda"}, "Invalid principal in policy."),
    ],
)
def test_a_wrong_trust_policy_is_refused_with_iams_sentence(
    statement: object, sentence: str
) -> None:
    with pytest.raises(MalformedPolicyDocument) as refused:
        check_trust_policy(policy(statement))
    assert refused.value.message == sentence


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Version", "Statement", "Effect", "Action", "Principal", "Resource"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_either_accepted_or_malformed(value: object) -> None:
    for check in (check_identity_policy, check_trust_policy):
        with contextlib.suppress(MalformedPolicyDocument):
            check(json.dumps(value))


def test_white_space_does_not_count_towards_the_size() -> None:
    assert counted_size('{ "a" :\n 1 }') == 7


def test_every_aws_managed_policy_has_a_valid_document() -> None:
    for managed in MANAGED_POLICIES.values():
        check_identity_policy(managed.document)
