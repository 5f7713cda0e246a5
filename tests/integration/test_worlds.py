"""Accounts and regions: worlds that do not see each other."""

from __future__ import annotations

from typing import Any

import pytest

from running_platform import PYTHON, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

WORLDS = [
    ("111111111111", "us-east-1"),
    ("222222222222", "us-east-1"),
    ("111111111111", "eu-west-1"),
]


def create(platform: Platform, account: str, region: str) -> Any:
    client = platform.client("lambda", account=account, region=region)
    client.create_function(
        FunctionName="same-name",
        Runtime=PYTHON,
        Handler="app.handler",
        Role=platform.make_role(account=account),
        Code={
            "ZipFile": pack(
                {
                    "app.py": "import os\ndef handler(event, context):\n    return ["
                    f"'{account}', '{region}', context.invoked_function_arn,"
                    " os.environ['AWS_REGION']]\n"
                }
            )
        },
    )
    wait_until(
        lambda: client.get_function_configuration(FunctionName="same-name")["State"] == "Active",
        "it is active",
    )
    return client


def test_the_same_name_is_another_function_in_each_account_and_region(platform: Platform) -> None:
    clients = [create(platform, account, region) for account, region in WORLDS]

    for client, (account, region) in zip(clients, WORLDS, strict=True):
        answer = platform.invoke("same-name", client=client)
        arn = f"arn:aws:lambda:{region}:{account}:function:same-name"
        assert answer.json == [account, region, arn, region]
        listed = client.list_functions()["Functions"]
        assert [item["FunctionArn"] for item in listed] == [arn]

    clients[0].delete_function(FunctionName="same-name")
    for client in clients[1:]:
        assert client.get_function(FunctionName="same-name")
        client.delete_function(FunctionName="same-name")


def test_a_caller_is_told_its_account(platform: Platform) -> None:
    for account, region in WORLDS:
        sts = platform.client("sts", account=account, region=region)
        assert sts.get_caller_identity()["Account"] == account


def test_an_arn_of_another_region_is_not_reachable(platform: Platform) -> None:
    client = platform.client("lambda", account="111111111111", region="us-east-1")

    with pytest.raises(client.exceptions.ResourceNotFoundException) as caught:
        client.get_function(FunctionName="arn:aws:lambda:eu-west-1:111111111111:function:f")

    assert caught.value.response["Error"]["Message"] == (
        "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    )


def test_roles_belong_to_an_account_and_to_all_its_regions(platform: Platform) -> None:
    platform.make_role("only-here", account="111111111111")
    here = platform.client("iam", account="111111111111", region="eu-west-1")
    there = platform.client("iam", account="222222222222")

    assert here.get_role(RoleName="only-here")["Role"]["RoleName"] == "only-here"
    with pytest.raises(there.exceptions.NoSuchEntityException):
        there.get_role(RoleName="only-here")
