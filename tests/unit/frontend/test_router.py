"""The router: requests to handlers, and whatever they do to answers."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from firelet.frontend.failures import INTERNAL_MESSAGE
from firelet.frontend.operations import Call, Operations, Reply
from firelet.frontend.router import FastRoute, Router, Sites
from firelet.model import limits
from firelet.model.errors import ResourceNotFound, TooManyRequests
from firelet.wire.aws.model import load_services
from firelet.wire.http1 import App, Rejection, RejectionReason, Request, Response

SERVICES = load_services()
FUNCTION = b"/2015-03-31/functions/f"
INVOKE = FUNCTION + b"/invocations"
FORM = {b"content-type": b"application/x-www-form-urlencoded"}


def signed(access_key: str, region: str, service: str = "lambda") -> dict[bytes, bytes]:
    scope = f"{access_key}/20261124/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00"
    return {b"authorization": text.encode()}


class Recorder:
    """A handler that keeps its call and does as it is told."""

    def __init__(self, answer: Reply | Mapping[str, Any] | Exception | None = None) -> None:
        self._answer = answer
        self.call: Call | None = None

    async def __call__(self, call: Call) -> Reply | Mapping[str, Any] | None:
        self.call = call
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def make_router(
    handlers: Mapping[tuple[str, str], Recorder] | None = None,
    *,
    fast: list[FastRoute] | None = None,
    pages: Mapping[bytes, App] | None = None,
    sites: Sequence[Sites] = (),
    is_strict: bool = True,
) -> Router:
    operations = Operations()
    for (service, operation), handler in (handlers or {}).items():
        operations.add(service, operation, handler)
    return Router(
        operations, SERVICES, fast=fast or (), pages=pages, sites=sites, is_strict=is_strict
    )


async def ask(
    router: Router,
    method: bytes,
    target: bytes,
    headers: Mapping[bytes, bytes] | None = None,
    body: bytes = b"",
) -> Response:
    answer = router(Request(method, target, dict(headers or {}), body, "127.0.0.1"))
    return answer if isinstance(answer, Response) else await answer


def header(response: Response, name: str) -> str | None:
    found = [value for key, value in response.headers if key.decode().lower() == name]
    assert len(found) <= 1
    return found[0].decode() if found else None


async def test_a_handler_gets_the_parsed_call_and_its_members_are_the_answer() -> None:
    handler = Recorder({"Configuration": {"FunctionName": "f", "MemorySize": 128}})
    router = make_router({("lambda", "GetFunction"): handler})
    headers = signed("123456789012", "eu-west-1") | {b"host": b"localhost:4566"}
    response = await ask(router, b"GET", FUNCTION + b"?Qualifier=%24LATEST", headers)

    assert handler.call is not None
    assert handler.call.params == {"FunctionName": "f", "Qualifier": "$LATEST"}
    assert handler.call.account == "123456789012"
    assert handler.call.region == "eu-west-1"
    assert handler.call.access_key == "123456789012"
    assert handler.call.base_url == "http://localhost:4566"
    assert response.status == 200
    assert orjson.loads(response.body) == {
        "Configuration": {"FunctionName": "f", "MemorySize": 128}
    }
    assert header(response, "x-amzn-requestid") == handler.call.request_id
    assert header(response, "content-type") == "application/json"


async def test_an_unsigned_call_has_the_default_account_and_region() -> None:
    handler = Recorder({})
    await ask(make_router({("lambda", "ListFunctions"): handler}), b"GET", FUNCTION[:-2])
    assert handler.call is not None
    assert (handler.call.account, handler.call.region) == ("000000000000", "us-east-1")
    assert handler.call.access_key is None


async def test_a_reply_may_change_status_and_headers() -> None:
    handler = Recorder(Reply(output={}, status=202, headers={"X-Extra": "1"}))
    response = await ask(make_router({("lambda", "GetFunction"): handler}), b"GET", FUNCTION)
    assert (response.status, header(response, "x-extra")) == (202, "1")


@pytest.mark.parametrize("answer", [Reply(status=204), {"StatusCode": 204}])
async def test_an_answer_without_content_has_no_body(answer: Reply | dict[str, int]) -> None:
    router = make_router({("lambda", "DeleteFunction"): Recorder(answer)})
    response = await ask(router, b"DELETE", FUNCTION)
    assert (response.status, response.body) == (204, b"")


async def test_the_status_of_the_model_is_the_default() -> None:
    router = make_router({("lambda", "CreateAlias"): Recorder({})})
    body = b'{"Name":"a","FunctionVersion":"1"}'
    assert (await ask(router, b"POST", FUNCTION + b"/aliases", body=body)).status == 201


async def test_an_error_is_told_in_body_and_header() -> None:
    error = ResourceNotFound("Function not found: x")
    router = make_router({("lambda", "GetFunction"): Recorder(error)})
    response = await ask(router, b"GET", FUNCTION)
    assert response.status == 404
    assert header(response, "x-amzn-errortype") == "ResourceNotFoundException"
    assert header(response, "x-amzn-requestid")
    assert orjson.loads(response.body) == {
        "Type": "User",
        "message": "Function not found: x",
        "Message": "Function not found: x",
    }


async def test_fields_and_headers_of_an_error_are_sent() -> None:
    error = TooManyRequests("CallerRateLimitExceeded")
    error.headers = {"Retry-After": "1"}
    router = make_router({("lambda", "GetFunction"): Recorder(error)})
    response = await ask(router, b"GET", FUNCTION)
    assert response.status == 429
    assert header(response, "retry-after") == "1"
    assert orjson.loads(response.body)["Reason"] == "CallerRateLimitExceeded"


async def test_a_line_break_in_an_error_begins_no_header() -> None:
    error = ResourceNotFound("gone", headers={"X-A": "b\r\nSet-Cookie: c"})
    router = make_router({("lambda", "GetFunction"): Recorder(error)})
    response = await ask(router, b"GET", FUNCTION)
    assert header(response, "x-a") == "b  Set-Cookie: c"


async def test_an_unforeseen_exception_is_logged_once_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = make_router({("lambda", "GetFunction"): Recorder(ZeroDivisionError("secret"))})
    with caplog.at_level(logging.ERROR):
        response = await ask(router, b"GET", FUNCTION)
    assert response.status == 500
    assert header(response, "x-amzn-errortype") == "ServiceException"
    assert orjson.loads(response.body)["message"] == INTERNAL_MESSAGE
    assert b"secret" not in response.body
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is not None


async def test_an_output_member_that_the_shape_lacks_fails_a_strict_router(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers = {("lambda", "GetFunction"): Recorder({"Configuration": {"Nonsense": 1}})}
    with caplog.at_level(logging.ERROR):
        strict = await ask(make_router(handlers), b"GET", FUNCTION)
        lenient = await ask(make_router(handlers, is_strict=False), b"GET", FUNCTION)
    assert strict.status == 500
    assert (lenient.status, lenient.body) == (200, b'{"Configuration":{}}')
    assert len(caplog.records) == 2
    assert "Configuration.Nonsense" in caplog.text


async def test_an_operation_without_a_handler_is_named() -> None:
    response = await ask(make_router(), b"GET", b"/2025-11-30/capacity-providers")
    assert response.status == 501
    assert header(response, "x-amzn-errortype") == "NotImplementedException"
    assert orjson.loads(response.body)["message"] == (
        "firelet does not implement lambda:ListCapacityProviders yet"
    )


async def test_an_unknown_path_is_an_unknown_operation() -> None:
    response = await ask(make_router(), b"GET", b"/nothing")
    assert response.status == 404
    assert header(response, "x-amzn-errortype") == "UnknownOperationException"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"Name":1,"FunctionVersion":"1"}', "NUMBER_VALUE can not be converted to a String"),
        (b'{"Name":true,"FunctionVersion":"1"}', "TRUE_VALUE can not be converted to a String"),
        (b'{"Name":[],"FunctionVersion":"1"}', "Start of list found where not expected"),
        (
            b'{"Name":{},"FunctionVersion":"1"}',
            "Start of structure or map found where not expected",
        ),
        (b'{"Name":"a","RoutingConfig":1}', "Expected map or null"),
        (b"[]", "Start of list found where not expected"),
    ],
)
async def test_a_wrong_json_type_is_a_serialization_error(body: bytes, message: str) -> None:
    router = make_router({("lambda", "CreateAlias"): Recorder({})})
    response = await ask(router, b"POST", FUNCTION + b"/aliases", body=body)
    assert response.status == 400
    assert header(response, "x-amzn-errortype") == "SerializationException"
    assert orjson.loads(response.body)["message"] == message


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"Name":"\\ud800"}', b"{}{}", b"NaN"])
async def test_a_malformed_body_is_a_serialization_error(body: bytes) -> None:
    router = make_router({("lambda", "CreateAlias"): Recorder({})})
    response = await ask(router, b"POST", FUNCTION + b"/aliases", body=body)
    assert (response.status, header(response, "x-amzn-errortype")) == (
        400,
        "SerializationException",
    )


async def test_nulls_and_unknown_members_are_ignored() -> None:
    handler = Recorder({})
    router = make_router({("lambda", "CreateAlias"): handler})
    body = b'{"Name":"a","FunctionVersion":"1","Description":null,"Whatever":{"x":1}}'
    await ask(router, b"POST", FUNCTION + b"/aliases", body=body)
    assert handler.call is not None
    assert handler.call.params == {"FunctionName": "f", "Name": "a", "FunctionVersion": "1"}


async def test_numbers_may_be_given_as_text() -> None:
    handler = Recorder({})
    router = make_router({("lambda", "UpdateFunctionConfiguration"): handler})
    body = b'{"MemorySize":"256","Timeout":3.0}'
    await ask(router, b"PUT", FUNCTION + b"/configuration", body=body)
    assert handler.call is not None
    assert handler.call.params == {"FunctionName": "f", "MemorySize": 256, "Timeout": 3}


@pytest.mark.parametrize("memory", [b"256.5", b'"x"', b"1e30", b"99999999999", b"true"])
async def test_what_is_no_integer_is_refused(memory: bytes) -> None:
    router = make_router({("lambda", "UpdateFunctionConfiguration"): Recorder({})})
    body = b'{"MemorySize":' + memory + b"}"
    response = await ask(router, b"PUT", FUNCTION + b"/configuration", body=body)
    assert header(response, "x-amzn-errortype") == "SerializationException"
    assert b"can not be converted to an Integer" in response.body


async def test_a_failed_constraint_is_a_validation_error() -> None:
    router = make_router({("lambda", "UpdateFunctionConfiguration"): Recorder({})})
    response = await ask(router, b"PUT", FUNCTION + b"/configuration", body=b'{"Timeout":0}')
    assert (response.status, header(response, "x-amzn-errortype")) == (
        400,
        "ValidationException",
    )


async def test_a_large_package_arrives_whole() -> None:
    handler = Recorder({})
    router = make_router({("lambda", "UpdateFunctionCode"): handler})
    package = bytes(range(256)) * 8_192
    body = orjson.dumps({"ZipFile": base64.b64encode(package).decode()})
    await ask(router, b"PUT", FUNCTION + b"/code", body=body)
    assert handler.call is not None
    assert handler.call.params["ZipFile"] == package


async def test_text_that_is_not_base64_is_refused() -> None:
    router = make_router({("lambda", "UpdateFunctionCode"): Recorder({})})
    response = await ask(router, b"PUT", FUNCTION + b"/code", body=b'{"ZipFile":"!"}')
    assert header(response, "x-amzn-errortype") == "SerializationException"


async def test_the_query_protocol_answers_in_xml() -> None:
    output = {"Account": "1", "Arn": "a<b>&c", "UserId": "u"}
    router = make_router({("sts", "GetCallerIdentity"): Recorder(output)})
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    response = await ask(router, b"POST", b"/", FORM, body)
    text = response.body.decode()
    assert header(response, "content-type") == "text/xml"
    assert text.startswith(
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<GetCallerIdentityResult><UserId>u</UserId><Account>1</Account>"
        "<Arn>a&lt;b&gt;&amp;c</Arn></GetCallerIdentityResult><ResponseMetadata><RequestId>"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=GetCallerIdentity&Version=2011-06-15", "NoSuchEntity"),
        (b"Action=Nothing&Version=2011-06-15", "InvalidAction"),
        (b"Action=AssumeRole&Version=2011-06-15", "NotImplementedException"),
    ],
)
async def test_the_query_protocol_tells_errors_in_xml(body: bytes, code: str) -> None:
    error = ResourceNotFound("No <role>", code="NoSuchEntity")
    router = make_router({("sts", "GetCallerIdentity"): Recorder(error)})
    response = await ask(router, b"POST", b"/", FORM, body)
    text = response.body.decode()
    assert text.startswith("<ErrorResponse xmlns=")
    assert f"<Code>{code}</Code>" in text
    assert "<role>" not in text
    assert header(response, "x-amzn-requestid") in text


async def test_a_json_service_tells_errors_by_type() -> None:
    error = ResourceNotFound("The specified log group does not exist.")
    router = make_router({("logs", "DeleteLogGroup"): Recorder(error)})
    headers = {b"x-amz-target": b"Logs_20140328.DeleteLogGroup"}
    response = await ask(router, b"POST", b"/", headers, b'{"logGroupName":"x"}')
    assert response.status == 400
    assert header(response, "content-type") == "application/x-amz-json-1.1"
    assert orjson.loads(response.body)["__type"] == "ResourceNotFoundException"


async def test_a_json_service_answers_an_operation_without_output_with_no_body() -> None:
    router = make_router({("logs", "DeleteLogGroup"): Recorder(None)})
    headers = {b"x-amz-target": b"Logs_20140328.DeleteLogGroup"}
    response = await ask(router, b"POST", b"/", headers, b'{"logGroupName":"x"}')
    assert (response.status, response.body) == (200, b"")


async def test_a_fast_route_is_asked_first_and_may_decline() -> None:
    asked: list[bytes] = []
    waiting: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def declines(request: Request) -> None:
        asked.append(request.target)

    def takes_invoke(request: Request) -> asyncio.Future[Response] | None:
        return waiting if request.target == INVOKE else None

    router = make_router(fast=[declines, takes_invoke])
    # The very Future is handed on, so that the server needs no task for it.
    assert router(Request(b"POST", INVOKE, {}, b"", "")) is waiting
    assert (await ask(router, b"GET", b"/nothing")).status == 404
    assert asked == [INVOKE, b"/nothing"]


async def test_an_error_of_a_fast_route_is_told_like_any_other() -> None:
    def refuses(request: Request) -> None:
        raise ResourceNotFound("no such function")

    response = await ask(make_router(fast=[refuses]), b"POST", INVOKE)
    assert (response.status, header(response, "x-amzn-errortype")) == (
        404,
        "ResourceNotFoundException",
    )


async def test_pages_are_served_by_prefix() -> None:
    page = Response(200, b"ok")
    router = make_router(pages={b"/_firelet/": lambda request: page})
    assert await ask(router, b"GET", b"/_firelet/health") is page


@pytest.mark.parametrize(
    ("method", "target", "limit"),
    [
        (b"POST", INVOKE, limits.PAYLOAD_SYNC_MAX_BYTES),
        (b"POST", INVOKE + b"?Qualifier=1", limits.PAYLOAD_SYNC_MAX_BYTES),
        (
            b"POST",
            b"/2021-11-15/functions/f/response-streaming-invocations",
            limits.PAYLOAD_SYNC_MAX_BYTES,
        ),
        (b"POST", b"/2015-03-31/functions", limits.CONTROL_REQUEST_MAX_BYTES),
        (b"POST", b"/", limits.CONTROL_REQUEST_MAX_BYTES),
        (b"POST", b"/nothing", limits.CONTROL_REQUEST_MAX_BYTES),
    ],
)
def test_payloads_have_a_limit_of_their_own(method: bytes, target: bytes, limit: int) -> None:
    router = make_router()
    # Asked twice, since the calls of a function are remembered.
    assert [router.body_limit(method, target, {}) for _ in range(2)] == [limit, limit]


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        (
            INVOKE,
            "RequestTooLargeException",
            "Request must be smaller than 6291456 bytes for the InvokeFunction operation",
        ),
        (
            b"/2015-03-31/functions",
            "RequestEntityTooLargeException",
            "Request must be smaller than 70167211 bytes for the CreateFunction operation",
        ),
    ],
)
def test_a_body_over_the_limit_is_refused_by_operation(
    target: bytes, code: str, message: str
) -> None:
    router = make_router()
    limit = router.body_limit(b"POST", target, {})
    rejection = Rejection(RejectionReason.BODY_TOO_LARGE, b"POST", target, limit)
    response = router.reject(rejection)
    assert (response.status, header(response, "x-amzn-errortype")) == (413, code)
    assert orjson.loads(response.body)["message"] == message


@pytest.mark.parametrize("reason", RejectionReason)
def test_every_rejection_has_an_answer_with_its_status(reason: RejectionReason) -> None:
    response = make_router().reject(Rejection(reason))
    assert response.status == reason.value
    assert orjson.loads(response.body)["message"]


class Addresses:
    """Addresses of ``mine``, whatever their path."""

    def body_limit(self, target: bytes, headers: Mapping[bytes, bytes]) -> int | None:
        return 7 if headers.get(b"host") == b"mine" else None

    def refuse_body(self, request: Request) -> Response | None:
        mine = request.headers.get(b"host") == b"mine"
        return Response(413, b"mine " + request.peer.encode()) if mine else None


def test_sites_have_limits_and_refusals_of_their_own_at_paths_of_the_api_too() -> None:
    router = make_router(sites=[Addresses()])
    for host, limit in ((b"other", limits.PAYLOAD_SYNC_MAX_BYTES), (b"mine", 7)):
        # Asked twice, since the calls of a function are remembered.
        for _ in range(2):
            assert router.body_limit(b"POST", INVOKE, {b"host": host}) == limit
    bodies = [
        router.reject(
            Rejection(RejectionReason.BODY_TOO_LARGE, b"POST", INVOKE, 7, {b"host": host}, "::1")
        ).body
        for host in (b"mine", b"other")
    ]
    assert bodies[0] == b"mine ::1"
    assert b"InvokeFunction" in bodies[1]
