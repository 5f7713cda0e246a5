"""Statements, byte for byte as AWS writes them."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.model.errors import InvalidParameterValue
from firelet.model.permission import Permission, format_json, format_policy

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f"


def statement(**changes: Any) -> str:
    given = {
        "statement_id": "s3",
        "action": "lambda:InvokeFunction",
        "principal": "s3.amazonaws.com",
        **changes,
    }
    return format_json(Permission(**given).statement(ARN))


def test_a_statement_has_the_members_and_the_order_of_aws() -> None:
    assert statement() == (
        '{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},'
        f'"Action":"lambda:InvokeFunction","Resource":"{ARN}"}}'
    )


@pytest.mark.parametrize(
    ("principal", "written"),
    [
        ("*", '"*"'),
        ("sns.amazonaws.com", '{"Service":"sns.amazonaws.com"}'),
        ("logs.eu-west-1.amazonaws.com", '{"Service":"logs.eu-west-1.amazonaws.com"}'),
        ("alexa-appkit.amazon.com", '{"Service":"alexa-appkit.amazon.com"}'),
        ("123456789012", '{"AWS":"arn:aws:iam::123456789012:root"}'),
        (
            "arn:aws:iam::123456789012:role/caller",
            '{"AWS":"arn:aws:iam::123456789012:role/caller"}',
        ),
    ],
)
def test_every_form_of_a_principal(principal: str, written: str) -> None:
    assert f'"Principal":{written},' in statement(principal=principal)


@pytest.mark.parametrize(
    "principal", ["invalid.nonaws.com", "1234", "amazonaws.com.example", "arn:aws:s3:::bucket"]
)
def test_who_is_nobody_cannot_be_a_principal(principal: str) -> None:
    with pytest.raises(InvalidParameterValue, match=r"^The provided principal was invalid\."):
        statement(principal=principal)


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        ({"source_arn": "arn:aws:s3:::b"}, '{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}'),
        ({"source_account": "1" * 12}, '{"StringEquals":{"AWS:SourceAccount":"111111111111"}}'),
        (
            {"organization_id": "o-1234567890"},
            '{"StringEquals":{"aws:PrincipalOrgID":"o-1234567890"}}',
        ),
        ({"event_source_token": "t"}, '{"StringEquals":{"lambda:EventSourceToken":"t"}}'),
        (
            {"url_auth_type": "NONE", "action": "lambda:InvokeFunctionUrl"},
            '{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}',
        ),
        ({"is_via_url": True}, '{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}'),
        (
            {"source_arn": "arn:aws:s3:::b", "source_account": "1" * 12},
            '{"StringEquals":{"AWS:SourceAccount":"111111111111"},'
            '"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}',
        ),
    ],
)
def test_each_source_becomes_its_condition(given: dict[str, Any], condition: str) -> None:
    assert statement(**given).endswith(f',"Condition":{condition}}}')


def test_an_auth_type_is_of_function_urls_only() -> None:
    with pytest.raises(InvalidParameterValue, match="only supported for lambda:InvokeFunctionUrl"):
        statement(url_auth_type="NONE")


def test_a_policy_is_a_document_with_the_id_default() -> None:
    assert format_policy([{"Sid": "a"}]) == (
        '{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"a"}]}'
    )
