"""The settings of asynchronous invocation: shapes, rules and sentences."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from firelet.control.registry import Registry
from firelet.frontend.event_invoke import EventInvokeOperations
from firelet.model.errors import InvalidParameterValue, ResourceNotFound
from lambda_api import LambdaApi
from registry_parts import ACCOUNT, ARN, KEY, REGION, new_function, settle

OTHER = ARN.replace("greeter", "other")
STRANGER = f"arn:aws:lambda:{REGION}:999999999999:function:other"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
BUCKET = "arn:aws:s3:::bucket"


def to(success: str | None = None, failure: str | None = None) -> dict[str, Any]:
    sides = {"OnSuccess": success, "OnFailure": failure}
    return {
        "DestinationConfig": {
            side: {"Destination": arn} for side, arn in sides.items() if arn is not None
        }
    }


@pytest.fixture
async def api(published: Registry) -> LambdaApi:
    for account in (ACCOUNT, "999999999999"):
        await published.functions.create(new_function((account, REGION, "other")))
    await settle(published)
    return LambdaApi(published, EventInvokeOperations)


async def test_an_answer_has_both_destinations_and_only_what_was_set(api: LambdaApi) -> None:
    put = await api.call("PutFunctionEventInvokeConfig", MaximumRetryAttempts=0)
    assert put == {
        "LastModified": datetime(2026, 11, 23, 7, tzinfo=UTC),
        "FunctionArn": f"{ARN}:$LATEST",
        "DestinationConfig": {"OnSuccess": {}, "OnFailure": {}},
        "MaximumRetryAttempts": 0,
    }
    assert await api.call("GetFunctionEventInvokeConfig", Qualifier="$LATEST") == put


async def test_put_replaces_everything(api: LambdaApi) -> None:
    await api.call("PutFunctionEventInvokeConfig", MaximumEventAgeInSeconds=60, **to(OTHER))
    put = await api.call("PutFunctionEventInvokeConfig", MaximumRetryAttempts=1)
    assert "MaximumEventAgeInSeconds" not in put
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}


async def test_update_merges(api: LambdaApi) -> None:
    await api.call("PutFunctionEventInvokeConfig", MaximumEventAgeInSeconds=60, **to(OTHER))
    updated = await api.call(
        "UpdateFunctionEventInvokeConfig", MaximumRetryAttempts=0, **to(failure=BUCKET)
    )
    assert (updated["MaximumEventAgeInSeconds"], updated["MaximumRetryAttempts"]) == (60, 0)
    assert updated["DestinationConfig"] == {
        "OnSuccess": {"Destination": OTHER},
        "OnFailure": {"Destination": BUCKET},
    }
    cleared = await api.call("UpdateFunctionEventInvokeConfig", **to(success=""))
    assert cleared["DestinationConfig"]["OnSuccess"] == {}


async def test_each_qualifier_has_its_own_and_the_list_has_pages(api: LambdaApi) -> None:
    for name in ("greeter", "greeter:1", f"{ARN}:live"):
        await api.call("PutFunctionEventInvokeConfig", FunctionName=name, MaximumRetryAttempts=1)
    pages = await api.pages(
        "ListFunctionEventInvokeConfigs", "FunctionEventInvokeConfigs", MaxItems=2
    )
    assert [[config["FunctionArn"] for config in page] for page in pages] == [
        [f"{ARN}:$LATEST", f"{ARN}:1"],
        [f"{ARN}:live"],
    ]
    assert await api.call("DeleteFunctionEventInvokeConfig", Qualifier="1") == 204
    with pytest.raises(ResourceNotFound, match=r":1 doesn't have an EventInvokeConfig$"):
        await api.call("GetFunctionEventInvokeConfig", Qualifier="1")


async def test_settings_go_with_their_alias(api: LambdaApi) -> None:
    await api.call("PutFunctionEventInvokeConfig", Qualifier="live", MaximumRetryAttempts=1)
    await api.registry.aliases.delete(KEY, "live")
    assert await api.call("ListFunctionEventInvokeConfigs") == {"FunctionEventInvokeConfigs": []}


@pytest.mark.parametrize(
    "name",
    [{"FunctionName": "nobody"}, {"Qualifier": "no"}, {"Qualifier": "9"}],
)
@pytest.mark.parametrize("operation", ["Put", "Update"])
async def test_settings_are_of_what_exists(
    api: LambdaApi, operation: str, name: dict[str, str]
) -> None:
    with pytest.raises(ResourceNotFound, match=r"^The function doesn't exist\.$"):
        await api.call(f"{operation}FunctionEventInvokeConfig", MaximumRetryAttempts=1, **name)


@pytest.mark.parametrize("operation", ["Get", "Delete", "Update"])
async def test_what_has_no_settings_is_named(api: LambdaApi, operation: str) -> None:
    params = {"MaximumRetryAttempts": 1} if operation == "Update" else {"FunctionName": "nobody"}
    name = params.get("FunctionName", "greeter")
    with pytest.raises(ResourceNotFound) as caught:
        await api.call(f"{operation}FunctionEventInvokeConfig", **params)
    arn = ARN.replace("greeter", str(name))
    assert caught.value.message == f"The function {arn}:$LATEST doesn't have an EventInvokeConfig"


async def test_a_list_is_of_a_function_that_exists(api: LambdaApi) -> None:
    with pytest.raises(ResourceNotFound, match=r"^The function doesn't exist\.$"):
        await api.call("ListFunctionEventInvokeConfigs", FunctionName="nobody")


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({}, "You must specify at least one of error handling or destination setting."),
        (to(f"{ARN}:1"), "You can't specify the function as a destination for itself."),
        (to(f"{OTHER}x"), f"The destination ARN {OTHER}x is invalid."),
        (to(f"{OTHER}:no"), f"The destination ARN {OTHER}:no is invalid."),
        (to(STRANGER), f"The destination ARN {STRANGER} is invalid."),
        (to(f"{QUEUE}.fifo"), f"The destination ARN {QUEUE}.fifo is invalid."),
        (
            to(f"arn:aws:iam:{REGION}:{ACCOUNT}:function:greeter"),
            "The provided destination config DestinationConfig(onSuccess=OnSuccess("
            f"destination=arn:aws:iam:{REGION}:{ACCOUNT}:function:greeter), onFailure=null)"
            " is invalid.",
        ),
        (
            to(BUCKET, QUEUE),
            f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination="
            f"{BUCKET}), onFailure=OnFailure(destination={QUEUE})) is invalid.",
        ),
    ],
)
async def test_what_aws_refuses_is_refused_in_its_words(
    api: LambdaApi, params: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        await api.call("PutFunctionEventInvokeConfig", **params)
    assert caught.value.message == sentence


@pytest.mark.parametrize(
    "config",
    [
        to(OTHER, QUEUE),
        to(f"{OTHER}:$LATEST"),
        to(f"arn:aws:sns:{REGION}:{ACCOUNT}:topic", BUCKET),
        to(f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/default"),
        {"DestinationConfig": {"OnSuccess": {}}},
        {"DestinationConfig": {}},
    ],
)
async def test_every_kind_of_destination_is_kept(api: LambdaApi, config: dict[str, Any]) -> None:
    put = await api.call("PutFunctionEventInvokeConfig", **config)
    given = config["DestinationConfig"]
    assert put["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}, **given}
