"""Every Lambda operation against AWS's own model: calls that keep it, and calls that break it.

Generated: an operation that gets a handler is tested from then on without a change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError

from conformance.samples import (
    MODEL,
    OPERATIONS,
    Breach,
    make_breaches,
    make_params,
    sort_enum_sets,
)
from firelet.app.parity import Standing, list_coverage
from running_platform import PYTHON, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

COVERAGE = {item.operation: item for item in list_coverage()}
SERVED = [name for name in OPERATIONS if COVERAGE[name].standing is not Standing.MISSING]
MISSING = [name for name in OPERATIONS if COVERAGE[name].standing is Standing.MISSING]
# These are served before the model is looked at; their own tests hold their sentences.
FAST = ("Invoke", "InvokeWithResponseStream")
MODELLED = [name for name in SERVED if name not in FAST]
BREACHES = [breach for name in MODELLED for breach in make_breaches(MODEL.operation_model(name))]
CODE = "def handler(event, context): return event"
# Refusals that AWS sends and that no operation declares. Source: recorded answers.
UNDECLARED = {"AccessDeniedException", "RequestEntityTooLargeException"}


def call(platform: Platform, operation: str, params: Mapping[str, Any]) -> Any:
    """Sends what boto3 itself would refuse, too."""
    client = platform.client("lambda", is_strict=False)
    answer = getattr(client, xform_name(operation))(**params)
    if "EventStream" in answer:
        answer["EventStream"] = list(answer["EventStream"])
    return answer


def outcome(platform: Platform, operation: str, params: Mapping[str, Any]) -> tuple[int, Any]:
    """Status, and the code of a refusal or None."""
    try:
        answer = call(platform, operation, params)
    except ClientError as error:
        answer = error.response
    code = answer.get("Error", {}).get("Code")
    return answer["ResponseMetadata"]["HTTPStatusCode"], code


def refuse(platform: Platform, operation: str, params: Mapping[str, Any]) -> tuple[int, str, str]:
    """Status, code and sentence of a refusal."""
    with pytest.raises(ClientError) as refused:
        call(platform, operation, params)
    response = refused.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


def known_values(name: str, role: str) -> dict[str, Any]:
    """Members that name something: the function of the test, and what it is made of."""
    return {
        "FunctionName": name,
        "Role": role,
        "Runtime": PYTHON,
        "Handler": "app.handler",
        "Code": {"ZipFile": pack({"app.py": CODE})},
        "ZipFile": pack({"app.py": CODE}),
        "Resource": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
    }


def test_the_model_has_the_operations_that_firelet_counts() -> None:
    assert tuple(COVERAGE) == OPERATIONS
    assert len(OPERATIONS) == 91


@pytest.mark.parametrize("operation", MISSING)
def test_what_is_not_served_says_so(platform: Platform, operation: str) -> None:
    params = make_params(MODEL.operation_model(operation), {}, is_full=False)
    status, code, sentence = refuse(platform, operation, params)
    assert (status, code) == (501, "NotImplementedException")
    assert sentence == f"firelet does not implement lambda:{operation} yet"


@pytest.mark.parametrize("is_full", [False, True], ids=["minimal", "full"])
@pytest.mark.parametrize("operation", SERVED)
def test_a_call_that_keeps_the_model_is_understood(
    platform: Platform, deploy: Deployer, operation: str, is_full: bool
) -> None:
    """It succeeds, or is refused with an error that the operation declares. An operation that is
    served partly may say what it does not serve."""
    name = deploy.name() if operation == "CreateFunction" else deploy(CODE)
    model = MODEL.operation_model(operation)
    params = make_params(model, known_values(name, platform.make_role()), is_full=is_full)
    status, code = outcome(platform, operation, params)
    declared = {shape.name for shape in model.error_shapes}
    if status == 501:
        assert COVERAGE[operation].standing is Standing.PARTLY
    elif code is None:
        assert 200 <= status < 300
    else:
        assert 400 <= status < 500
        assert code in declared | UNDECLARED


@pytest.mark.parametrize("breach", BREACHES, ids=str)
def test_a_broken_constraint_gets_the_sentence_of_aws(platform: Platform, breach: Breach) -> None:
    params = make_params(MODEL.operation_model(breach.operation), {}, is_full=False)
    params.pop(breach.member, None)
    if breach.value is not None:
        params[breach.member] = breach.value
    status, code, sentence = refuse(platform, breach.operation, params)
    assert sort_enum_sets(sentence) == breach.sentence
    expected = "InvalidParameterValueException" if breach.is_late else "ValidationException"
    assert (status, code) == (400, expected)
