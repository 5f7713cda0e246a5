"""Names, ARNs and qualifiers of every form, made by hypothesis: understood alike or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conformance.samples import MODEL
from running_platform import ACCOUNT, REGION, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

OTHER_ACCOUNT = "111111111111"
OTHER_REGION = "ap-southeast-1"
CODE = "def handler(event, context): return event"
VIA_HTTP = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NAMES = st.from_regex(r"[a-zA-Z0-9-_]{1,64}", fullmatch=True).filter(
    lambda name: name != "function"
)
QUALIFIERS = st.one_of(st.just("$LATEST"), st.from_regex(r"[a-zA-Z0-9-_]{1,20}", fullmatch=True))
# What may be sent in a path; a dot segment never leaves the client.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=160).filter(
    lambda text: text not in (".", "..")
)


@pytest.fixture(scope="module")
def function(platform: Platform) -> Iterator[str]:
    deployer = Deployer(platform)
    yield deployer(CODE)
    deployer.close()


def pattern_of(shape: str) -> re.Pattern[str]:
    return re.compile(MODEL.shape_for(shape).metadata["pattern"], re.ASCII)


def refusal(platform: Platform, operation: str, **params: Any) -> tuple[int, str, str]:
    """Status, code and sentence; every call here is to be refused."""
    with pytest.raises(ClientError) as refused:
        getattr(platform.client("lambda", is_strict=False), operation)(**params)
    response = refused.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


@VIA_HTTP
@given(region=st.booleans(), account=st.booleans(), function_word=st.booleans(), full=st.booleans())
def test_all_forms_of_a_name_are_one_function(
    platform: Platform,
    function: str,
    *,
    region: bool,
    account: bool,
    function_word: bool,
    full: bool,
) -> None:
    if full:
        name = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    else:
        needs_word = function_word or region or account
        parts = [REGION] * region + [ACCOUNT] * account + ["function"] * needs_word
        name = ":".join([*parts, function])
    found = platform.client("lambda").get_function_configuration(FunctionName=name)
    assert found["FunctionArn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"


@VIA_HTTP
@given(name=NAMES, qualifier=st.none() | QUALIFIERS, is_separate=st.booleans())
def test_a_function_that_is_not_there_is_named_with_its_qualifier(
    platform: Platform, name: str, qualifier: str | None, is_separate: bool
) -> None:
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    qualified = arn if qualifier is None else f"{arn}:{qualifier}"
    params = {"FunctionName": qualified}
    if qualifier is not None and is_separate:
        params = {"FunctionName": arn, "Qualifier": qualifier}
    assert refusal(platform, "get_function", **params) == (
        404,
        "ResourceNotFoundException",
        f"Function not found: {qualified}",
    )


@VIA_HTTP
@given(name=NAMES, first=QUALIFIERS, second=QUALIFIERS)
def test_two_qualifiers_must_agree(platform: Platform, name: str, first: str, second: str) -> None:
    status, code, sentence = refusal(
        platform, "get_function", FunctionName=f"{name}:{first}", Qualifier=second
    )
    if first == second:
        assert (status, code) == (404, "ResourceNotFoundException")
    else:
        assert (status, code) == (400, "InvalidParameterValueException")
        assert sentence == (
            "The derived qualifier from the function name does not match the specified qualifier."
        )


@VIA_HTTP
@given(name=NAMES)
def test_functions_of_other_worlds_are_out_of_reach(platform: Platform, name: str) -> None:
    there = f"arn:aws:lambda:{OTHER_REGION}:{ACCOUNT}:function:{name}"
    assert refusal(platform, "get_function", FunctionName=there) == (
        404,
        "ResourceNotFoundException",
        f"Functions from '{OTHER_REGION}' are not reachable in this region ('{REGION}')",
    )
    theirs = f"arn:aws:lambda:{REGION}:{OTHER_ACCOUNT}:function:{name}"
    status, code, _ = refusal(platform, "get_function", FunctionName=theirs)
    assert (status, code) == (403, "AccessDeniedException")


@VIA_HTTP
@given(text=TEXTS)
@example("a/b")
@example("a%2Fb")
@example("arn:aws:lambda:us-east-1:000000000000:layer:a")
@example("function:")
@example("a:b:c:d")
def test_any_text_as_a_name_is_decided_by_the_model(platform: Platform, text: str) -> None:
    status, code, sentence = refusal(platform, "get_function", FunctionName=text)
    shape = MODEL.operation_model("GetFunction").input_shape.members["FunctionName"]
    keeps = pattern_of(shape.name).fullmatch(text) and len(text) <= shape.metadata["max"]
    if keeps:
        assert status in (400, 403, 404)
        assert code != "ValidationException"
    else:
        assert (status, code) == (400, "ValidationException")
        assert " at 'functionName' failed to satisfy constraint: " in sentence


@VIA_HTTP
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=140))
@example("")
@example("$LATEST.PUBLISHED")
def test_any_text_as_a_qualifier_is_decided_by_the_model(
    platform: Platform, function: str, text: str
) -> None:
    shape = MODEL.operation_model("GetFunction").input_shape.members["Qualifier"]
    keeps = pattern_of(shape.name).fullmatch(text) and len(text) <= shape.metadata["max"]
    if text == "$LATEST":
        return
    status, code, _ = refusal(platform, "get_function", FunctionName=function, Qualifier=text)
    expected = (404, "ResourceNotFoundException") if keeps else (400, "ValidationException")
    assert (status, code) == expected


@VIA_HTTP
@given(text=TEXTS)
@example(f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:a:b")
@example(f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:x")
@example(f"arn:aws:lambda:{REGION}:{ACCOUNT}:capacity-provider:x")
def test_any_text_as_an_arn_of_tags_is_decided_by_the_model(platform: Platform, text: str) -> None:
    shape = MODEL.operation_model("ListTags").input_shape.members["Resource"]
    status, code, _ = refusal(platform, "list_tags", Resource=text)
    if pattern_of(shape.name).fullmatch(text):
        assert status in (400, 404)
        assert code in ("InvalidParameterValueException", "ResourceNotFoundException")
    else:
        assert (status, code) == (400, "ValidationException")
