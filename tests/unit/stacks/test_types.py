"""Types of resources as API calls: those whose operations have tests of their own elsewhere.

The calls are checked against AWS's model by botocore itself, and answered by its stub.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from firelet.stacks.calls import LenientClient
from firelet.stacks.resource_types import ResourceType
from firelet.stacks.sam import LOCAL_BUCKET
from firelet.stacks.stack import make_types

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l:3"
ADDRESS = "https://abcdefghijklmnopqrstuvwxyz012345.lambda-url.us-east-1.on.aws/"
URL = {"FunctionArn": ARN, "FunctionUrl": ADDRESS, "AuthType": "NONE"}
MOMENT = "2026-11-23T07:00:00.000+0000"


class Api:
    """The types on a client that answers as it was told."""

    def __init__(self, client: Any, stubber: Stubber) -> None:
        self.stubber = stubber
        self.types = make_types(lambda service: client, {"key": b"PK"})

    def __getitem__(self, name: str) -> ResourceType:
        return self.types[f"AWS::Lambda::{name}"]

    def expect(self, operation: str, params: dict[str, Any], **answer: Any) -> None:
        self.stubber.add_response(operation, answer, params)


@pytest.fixture
def api() -> Iterator[Api]:
    client = boto3.client(
        "lambda", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stubber:
        yield Api(client, stubber)
        stubber.assert_no_pending_responses()


def test_a_permission_is_a_statement_of_a_policy(api: Api) -> None:
    properties = {
        "FunctionName": "f",
        "Action": "lambda:InvokeFunction",
        "Principal": "sns.amazonaws.com",
    }
    api.expect("add_permission", {"StatementId": "s-1", **properties}, Statement="{}")
    made = api["Permission"].create("s-1", properties)
    assert made.physical_id == "s-1"
    api.expect("remove_permission", {"StatementId": "s-1", "FunctionName": "f"})
    api["Permission"].delete("s-1", properties)
    schema = api["Permission"].schema
    assert schema.fixed == schema.properties


def test_a_url_is_that_of_a_function_or_alias(api: Api) -> None:
    target = {"FunctionName": ARN, "Qualifier": "live"}
    properties = {"TargetFunctionArn": ARN, "Qualifier": "live", "AuthType": "NONE"}
    cors = {"AllowOrigins": ["*"]}
    api.expect(
        "create_function_url_config",
        {**target, "AuthType": "NONE", "Cors": cors},
        **URL,
        CreationTime=MOMENT,
    )
    made = api["Url"].create("n", {**properties, "Cors": cors})
    assert made.attributes == {"FunctionArn": ARN, "FunctionUrl": ADDRESS}
    api.expect(
        "update_function_url_config",
        {**target, "AuthType": "NONE", "Cors": {}},
        **URL,
        CreationTime=MOMENT,
        LastModifiedTime=MOMENT,
    )
    api["Url"].update(ARN, {**properties, "Cors": cors}, properties)
    api.expect("delete_function_url_config", target)
    api["Url"].delete(ARN, properties)


def test_an_event_invoke_config_is_put_whole(api: Api) -> None:
    properties = {"FunctionName": "f", "Qualifier": "$LATEST", "MaximumRetryAttempts": "1"}
    sent = {**properties, "MaximumRetryAttempts": 1}
    named = {"FunctionName": "f", "Qualifier": "$LATEST"}
    api.stubber.add_client_error(
        "get_function_event_invoke_config", "ResourceNotFoundException", expected_params=named
    )
    api.expect("put_function_event_invoke_config", sent)
    made = api["EventInvokeConfig"].create("n", properties)
    assert made.physical_id == "f|$LATEST"
    api.expect("put_function_event_invoke_config", {**sent, "MaximumRetryAttempts": 2})
    after = {**properties, "MaximumRetryAttempts": 2}
    assert api["EventInvokeConfig"].update(made.physical_id, properties, after) == made
    api.expect("delete_function_event_invoke_config", named)
    api["EventInvokeConfig"].delete(made.physical_id, properties)


def test_a_layer_takes_its_content_from_a_path(api: Api) -> None:
    content = {"S3Bucket": LOCAL_BUCKET, "S3Key": "key"}
    api.expect(
        "publish_layer_version",
        {"LayerName": "n", "Content": {"ZipFile": b"PK"}, "CompatibleRuntimes": ["python3.13"]},
        LayerVersionArn=LAYER,
    )
    properties = {"Content": content, "CompatibleRuntimes": ["python3.13"]}
    assert api["LayerVersion"].create("n", properties).physical_id == LAYER
    api.expect("delete_layer_version", {"LayerName": LAYER.removesuffix(":3"), "VersionNumber": 3})
    api["LayerVersion"].delete(LAYER, properties)


def test_an_alias_has_weights_and_provisioned_concurrency(api: Api) -> None:
    before = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1"}
    after = {
        **before,
        "FunctionVersion": "2",
        "RoutingConfig": {
            "AdditionalVersionWeights": [{"FunctionVersion": 1, "FunctionWeight": "0.5"}]
        },
        "ProvisionedConcurrencyConfig": {"ProvisionedConcurrentExecutions": "4"},
    }
    api.expect(
        "update_alias",
        {
            "FunctionName": "f",
            "Name": "live",
            "FunctionVersion": "2",
            "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}},
        },
        AliasArn=f"{ARN}:live",
    )
    qualified = {"FunctionName": "f", "Qualifier": "live"}
    api.expect(
        "put_provisioned_concurrency_config", {**qualified, "ProvisionedConcurrentExecutions": 4}
    )
    assert api["Alias"].update(f"{ARN}:live", before, after).physical_id == f"{ARN}:live"


def test_a_client_takes_texts_for_numbers_and_the_other_way_round(api: Api) -> None:
    client = boto3.client(
        "lambda", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stubber:
        sent = {
            "FunctionName": "7",
            "Timeout": 5,
            "Environment": {"Variables": {"A": "1", "B": "true"}},
        }
        stubber.add_response("update_function_configuration", {}, sent)
        LenientClient(client).update_function_configuration(
            FunctionName=7, Timeout="5", Environment={"Variables": {"A": 1, "B": True}}
        )
    assert LenientClient(client).get_waiter("function_active_v2") is not None
