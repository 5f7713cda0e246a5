"""boto3 against a real server with stub handlers: nothing is lost on the way there or back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from firelet.frontend.operations import Call, Operations, Reply
from firelet.frontend.router import Router
from firelet.model.errors import ResourceNotFound, TooManyRequests
from firelet.wire.aws.model import load_services
from firelet.wire.http1 import HttpServer

ROLE = "arn:aws:iam::111111111111:role/service/r"


class Stubs:
    """A server whose handlers answer from a table, and the calls that they got."""

    def __init__(self) -> None:
        self.operations = Operations()
        self.calls: list[Call] = []
        self.endpoint = ""

    def answer(
        self, service: str, operation: str, output: Reply | Mapping[str, Any] | Exception | None
    ) -> None:
        async def handler(call: Call) -> Reply | Mapping[str, Any] | None:
            self.calls.append(call)
            if isinstance(output, Exception):
                raise output
            return output

        self.operations.add(service, operation, handler)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="eu-west-1",
            aws_access_key_id="111111111111",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )

    async def call(self, service: str, method: str, **params: Any) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            client = self.client(service)
            try:
                call: Callable[..., dict[str, Any]] = getattr(client, method)
                return call(**params)
            finally:
                client.close()

        return await asyncio.to_thread(run)


@pytest.fixture
async def stubs() -> AsyncIterator[Stubs]:
    stubs = Stubs()
    router = Router(stubs.operations, load_services(), is_strict=True)
    server = HttpServer(router, on_reject=router.reject, body_limit=router.body_limit)
    host, port = await server.listen("127.0.0.1", 0)
    stubs.endpoint = f"http://{host}:{port}"
    yield stubs
    await server.close()


async def test_create_function_goes_there_and_back(stubs: Stubs) -> None:
    stubs.answer("lambda", "CreateFunction", {"FunctionName": "f", "Timeout": 3})
    package = bytes(range(256)) * 20_000
    answer = await stubs.call(
        "lambda",
        "create_function",
        FunctionName="f",
        Runtime="python3.12",
        Role=ROLE,
        Handler="app.handler",
        Code={"ZipFile": package},
        Environment={"Variables": {"NAME": "größe"}},
        Tags={"a": "b"},
    )
    (call,) = stubs.calls
    assert call.params["Code"] == {"ZipFile": package}
    assert call.params["Environment"] == {"Variables": {"NAME": "größe"}}
    assert (call.account, call.region) == ("111111111111", "eu-west-1")
    assert call.base_url == stubs.endpoint
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["ResponseMetadata"]["RequestId"] == call.request_id
    assert answer["FunctionName"] == "f"


async def test_an_arn_survives_the_path(stubs: Stubs) -> None:
    arn = "arn:aws:lambda:eu-west-1:111111111111:function:f"
    stubs.answer("lambda", "ListTags", {"Tags": {"a": "1"}})
    stubs.answer("lambda", "UntagResource", None)
    assert (await stubs.call("lambda", "list_tags", Resource=arn))["Tags"] == {"a": "1"}
    await stubs.call("lambda", "untag_resource", Resource=arn, TagKeys=["a", "b c+d"])
    assert stubs.calls[0].params == {"Resource": arn}
    assert stubs.calls[1].params == {"Resource": arn, "TagKeys": ["a", "b c+d"]}


async def test_invoke_is_raw_bytes_both_ways(stubs: Stubs) -> None:
    reply = {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": b'{"a": 1}'}
    stubs.answer("lambda", "Invoke", reply)

    def run() -> tuple[dict[str, Any], bytes]:
        client = stubs.client("lambda")
        answer = client.invoke(FunctionName="f", Payload=b"\x00raw", LogType="Tail")
        payload = answer["Payload"].read()
        client.close()
        return answer, payload

    answer, payload = await asyncio.to_thread(run)
    assert stubs.calls[0].params == {"FunctionName": "f", "Payload": b"\x00raw", "LogType": "Tail"}
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert payload == b'{"a": 1}'


async def test_errors_are_the_clients_own_exceptions(stubs: Stubs) -> None:
    stubs.answer("lambda", "GetFunction", ResourceNotFound("Function not found: x"))
    stubs.answer("lambda", "GetPolicy", TooManyRequests("CallerRateLimitExceeded"))
    with pytest.raises(ClientError) as caught:
        await stubs.call("lambda", "get_function", FunctionName="x")
    assert type(caught.value).__name__ == "ResourceNotFoundException"
    assert caught.value.response["Error"]["Message"] == "Function not found: x"
    assert caught.value.response["Type"] == "User"
    with pytest.raises(ClientError) as caught:
        await stubs.call("lambda", "get_policy", FunctionName="x")
    assert type(caught.value).__name__ == "TooManyRequestsException"
    assert caught.value.response["Reason"] == "CallerRateLimitExceeded"


async def test_an_operation_that_is_not_there_yet_says_so(stubs: Stubs) -> None:
    with pytest.raises(ClientError) as caught:
        await stubs.call("lambda", "list_functions")
    assert caught.value.response["Error"] == {
        "Code": "NotImplementedException",
        "Message": "firelet does not implement lambda:ListFunctions yet",
    }


async def test_iam_goes_there_and_back(stubs: Stubs) -> None:
    created = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
    role = {
        "Path": "/service/",
        "RoleName": "r",
        "RoleId": "AROA0000000000000000",
        "Arn": ROLE,
        "CreateDate": created,
        "Tags": [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": " 2+2 "}],
    }
    stubs.answer("iam", "CreateRole", {"Role": role})
    stubs.answer("iam", "GetRole", ResourceNotFound("No role x.", code="NoSuchEntity"))
    answer = await stubs.call(
        "iam",
        "create_role",
        RoleName="r",
        Path="/service/",
        AssumeRolePolicyDocument="{}",
        Tags=role["Tags"],
    )
    assert answer["Role"] == role
    assert stubs.calls[0].params["Tags"] == role["Tags"]
    with pytest.raises(ClientError) as caught:
        await stubs.call("iam", "get_role", RoleName="x")
    assert type(caught.value).__name__ == "NoSuchEntityException"
    assert caught.value.response["Error"]["Message"] == "No role x."
    assert caught.value.response["ResponseMetadata"]["RequestId"]


async def test_logs_goes_there_and_back(stubs: Stubs) -> None:
    stubs.answer("logs", "DescribeLogGroups", {"logGroups": [{"logGroupName": "/aws/lambda/f"}]})
    stubs.answer("logs", "CreateLogGroup", None)
    answer = await stubs.call("logs", "describe_log_groups", logGroupNamePrefix="/aws", limit=5)
    assert answer["logGroups"] == [{"logGroupName": "/aws/lambda/f"}]
    assert stubs.calls[0].params == {"logGroupNamePrefix": "/aws", "limit": 5}
    await stubs.call("logs", "create_log_group", logGroupName="g")
    with pytest.raises(ClientError) as caught:
        await stubs.call("logs", "create_log_group", logGroupName="no blanks")
    assert type(caught.value).__name__ == "InvalidParameterException"


async def test_sts_goes_there_and_back(stubs: Stubs) -> None:
    stubs.answer("sts", "GetCallerIdentity", {"Account": "1", "Arn": "a", "UserId": "u"})
    answer = await stubs.call("sts", "get_caller_identity")
    assert (answer["Account"], answer["Arn"], answer["UserId"]) == ("1", "a", "u")
