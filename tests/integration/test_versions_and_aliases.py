"""Versions, aliases and every way to name a function, through boto3."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from running_platform import ACCOUNT, REGION, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

VALUE = (
    "def handler(event, context):\n"
    "    return [{!r}, context.function_version, context.invoked_function_arn]\n"
)


@pytest.fixture
def two_versions(deploy: Deployer, lambda_client: Any) -> str:
    """Version 1 says one, version 2 says two, $LATEST says three."""
    name = deploy(VALUE.format("one"), Timeout=6)
    for text in ("two", "three"):
        lambda_client.publish_version(FunctionName=name)
        deploy.update(name, VALUE.format(text))
    return name


def test_published_versions_keep_their_code_and_configuration(
    two_versions: str, platform: Platform, lambda_client: Any, deploy: Deployer
) -> None:
    lambda_client.update_function_configuration(FunctionName=two_versions, Timeout=7)
    deploy.settle(two_versions)

    said = {
        version: platform.invoke(two_versions, Qualifier=version).json[0]
        for version in ("1", "2", "$LATEST")
    }

    assert said == {"1": "one", "2": "two", "$LATEST": "three"}
    old = lambda_client.get_function_configuration(FunctionName=two_versions, Qualifier="1")
    assert (old["Version"], old["Timeout"]) == ("1", 6)
    assert old["FunctionArn"].endswith(f":{two_versions}:1")


def test_publishing_without_a_change_gives_the_same_version(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy(VALUE.format("one"), Timeout=6)

    versions = [lambda_client.publish_version(FunctionName=name)["Version"] for _ in range(2)]

    assert versions == ["1", "1"]


def test_create_with_publish_answers_version_1(deploy: Deployer, platform: Platform) -> None:
    name = deploy.name()

    created = deploy.create(name, VALUE.format("one"), Publish=True)
    deploy.settle(name)

    assert created["Version"] == "1"
    assert platform.invoke(name, Qualifier="1").version == "1"


def test_versions_are_listed_latest_first_then_ascending(
    two_versions: str, lambda_client: Any
) -> None:
    pages = lambda_client.get_paginator("list_versions_by_function").paginate(
        FunctionName=two_versions, PaginationConfig={"PageSize": 2}
    )

    assert [item["Version"] for page in pages for item in page["Versions"]] == ["$LATEST", "1", "2"]


def test_an_alias_serves_the_version_it_points_to(
    two_versions: str, platform: Platform, lambda_client: Any
) -> None:
    created = lambda_client.create_alias(
        FunctionName=two_versions, Name="live", FunctionVersion="1"
    )
    before = platform.invoke(two_versions, Qualifier="live")
    lambda_client.update_alias(FunctionName=two_versions, Name="live", FunctionVersion="2")
    after = platform.invoke(two_versions, Qualifier="live")

    assert (before.json[0], before.version) == ("one", "1")
    assert (after.json[0], after.version) == ("two", "2")
    assert before.json[2] == created["AliasArn"], "the context tells the ARN as it was invoked"


def test_a_weighted_alias_serves_both_versions(
    two_versions: str, platform: Platform, lambda_client: Any
) -> None:
    lambda_client.create_alias(
        FunctionName=two_versions,
        Name="canary",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}},
    )

    answers = [platform.invoke(two_versions, Qualifier="canary") for _ in range(60)]

    counted = Counter(answer.version for answer in answers)
    assert set(counted) == {"1", "2"}
    assert all(answer.json[1] == answer.version for answer in answers)


def test_an_alias_that_a_version_is_needed_for_protects_it(
    two_versions: str, lambda_client: Any
) -> None:
    lambda_client.create_alias(FunctionName=two_versions, Name="live", FunctionVersion="1")

    with pytest.raises(lambda_client.exceptions.ResourceConflictException):
        lambda_client.delete_function(FunctionName=two_versions, Qualifier="1")

    lambda_client.delete_alias(FunctionName=two_versions, Name="live")
    lambda_client.delete_function(FunctionName=two_versions, Qualifier="1")
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_function(FunctionName=two_versions, Qualifier="1")


@pytest.mark.parametrize(
    "form",
    [
        "{name}",
        "{name}:$LATEST",
        "function:{name}",
        "{account}:function:{name}",
        "arn:aws:lambda:{region}:{account}:function:{name}",
        "arn:aws:lambda:{region}:{account}:function:{name}:$LATEST",
    ],
)
def test_a_function_answers_to_every_form_of_its_name(
    deploy: Deployer, platform: Platform, form: str
) -> None:
    name = deploy(VALUE.format("me"))

    answer = platform.invoke(form.format(name=name, account=ACCOUNT, region=REGION))

    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    qualified = form.endswith("$LATEST")
    assert answer.json == ["me", "$LATEST", arn + (":$LATEST" if qualified else "")]
    assert answer.version == "$LATEST"


def test_qualifiers_that_contradict_each_other_are_refused(
    deploy: Deployer, lambda_client: Any
) -> None:
    name = deploy(VALUE.format("me"))

    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        lambda_client.invoke(FunctionName=f"{name}:$LATEST", Qualifier="live")

    assert caught.value.response["Error"]["Message"] == (
        "The derived qualifier from the function name does not match the specified qualifier."
    )


@pytest.mark.parametrize(("qualifier", "suffix"), [(None, "$LATEST"), ("9", "9"), ("no", "no")])
def test_what_cannot_be_invoked_is_404_with_the_qualified_arn(
    lambda_client: Any, deploy: Deployer, qualifier: str | None, suffix: str
) -> None:
    name = "no-such-function" if qualifier is None else deploy(VALUE.format("me"))
    options = {} if qualifier is None else {"Qualifier": qualifier}

    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException) as caught:
        lambda_client.invoke(FunctionName=name, **options)

    assert caught.value.response["Error"]["Message"] == (
        f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:{suffix}"
    )


def test_an_unknown_alias_is_404_with_its_arn(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(VALUE.format("me"))

    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException) as caught:
        lambda_client.get_alias(FunctionName=name, Name="noalias")

    assert caught.value.response["Error"]["Message"] == (
        f"Cannot find alias arn: arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:noalias"
    )


def test_versions_with_the_same_code_have_environments_of_their_own(
    deploy: Deployer, platform: Platform, lambda_client: Any
) -> None:
    counter = "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n"
    name = deploy(pack({"app.py": counter}))
    lambda_client.publish_version(FunctionName=name)

    counts = [platform.invoke(name, Qualifier=q).json for q in ("$LATEST", "$LATEST", "1")]

    assert counts == [1, 2, 1]
