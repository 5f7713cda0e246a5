"""The hot path in front of the control plane: what it accepts, refuses and answers."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.invoke import AsyncInvocation, InvokeEndpoint
from firelet.iam.accounts import Accounts
from firelet.model import limits
from firelet.model.arn import FunctionRef
from firelet.model.errors import ResourceNotFound, TooManyRequests
from firelet.model.function import FunctionVersion
from firelet.model.invocation import Invocation, Outcome
from firelet.model.lineage import lineage_id
from firelet.wire.http1 import Request, Response
from unit.versions import make_version

ARN = "arn:aws:lambda:us-east-1:000000000000:function:hello"
IDENTITY = lineage_id(make_version().unqualified_arn)


@dataclass
class Platform:
    """Registry, invoker and queue in one, and the endpoint in front of them."""

    outcome: Outcome = field(
        default_factory=lambda: Outcome(payload=b'"done"', executed_version="$LATEST")
    )
    error: Exception | None = None
    version: FunctionVersion = field(default_factory=make_version)
    gate: asyncio.Event | None = None
    refs: list[tuple[str, str, FunctionRef]] = field(default_factory=list)
    invocations: list[Invocation] = field(default_factory=list)
    events: list[AsyncInvocation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.endpoint = InvokeEndpoint(self, self, self, Callers(Accounts()))  # type: ignore[arg-type]

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved:
        self.refs.append((account, region, ref))
        if ref.name == "missing":
            raise ResourceNotFound(f"Function not found: {ARN}")
        version = self.version
        return Resolved(version, ARN, None, (version.account, version.region, version.name))

    async def invoke(self, invocation: Invocation, key: Any, reserved: int | None) -> Outcome:
        self.invocations.append(invocation)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.outcome

    async def put(self, event: AsyncInvocation) -> None:
        self.events.append(event)

    async def call(self, name: str = "hello", query: str = "", **options: Any) -> Response:
        answer = self.endpoint.match(request(name, query, **options))
        assert answer is not None
        return await answer


def request(name: str = "hello", query: str = "", body: bytes = b"{}", **headers: str) -> Request:
    target = f"/2015-03-31/functions/{name}/invocations"
    return Request(
        method=b"POST",
        target=(f"{target}?{query}" if query else target).encode(),
        headers={key.replace("_", "-").encode(): value.encode() for key, value in headers.items()},
        body=body,
        peer="127.0.0.1",
    )


@pytest.fixture
def platform() -> Platform:
    return Platform()


def header(response: Response, name: str) -> str | None:
    return next(
        (value.decode() for key, value in response.headers if key.decode().lower() == name), None
    )


def error_of(response: Response) -> tuple[int, str | None, str]:
    return (
        response.status,
        header(response, "x-amzn-errortype"),
        json.loads(response.body)["message"],
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"/2015-03-31/functions/f/invocations"),
        (b"POST", b"/2015-03-31/functions/f/versions"),
        (b"POST", b"/2015-03-31/functions/a/b/invocations"),
        (b"POST", b"/2014-11-13/functions/f/invoke-async"),
    ],
)
def test_other_requests_are_left_to_the_router(
    platform: Platform, method: bytes, target: bytes
) -> None:
    other = Request(method=method, target=target, headers={}, body=b"", peer="")
    assert platform.endpoint.match(other) is None


async def test_the_result_comes_back_as_it_is(platform: Platform) -> None:
    platform.outcome = Outcome(payload=b'{ "a" : 1 }', executed_version="7")
    response = await platform.call()
    assert (response.status, response.body) == (200, b'{ "a" : 1 }')
    assert header(response, "x-amz-executed-version") == "7"
    assert header(response, "x-amzn-requestid") == platform.invocations[0].request_id
    assert header(response, "x-amz-function-error") is None


async def test_every_call_has_a_random_uuid_of_its_own(platform: Platform) -> None:
    texts = [header(await platform.call(), "x-amzn-requestid") or "" for _ in range(64)]
    ids = [uuid.UUID(text) for text in texts]
    assert [str(request_id) for request_id in ids] == texts
    assert {(request_id.version, request_id.variant) for request_id in ids} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 64


async def test_a_name_that_was_seen_before_means_the_same_and_errors_stay(
    platform: Platform,
) -> None:
    for _ in range(2):
        await platform.call("hello:live")
        await platform.call("hello", "Qualifier=7")
        assert (await platform.call("no/name".replace("/", "%2F"))).status == 400
    refs = [ref for _, _, ref in platform.refs]
    assert refs == [FunctionRef("hello", "live"), FunctionRef("hello", "7")] * 2


async def test_an_error_of_the_function_is_a_success_with_a_header(platform: Platform) -> None:
    platform.outcome = Outcome(
        payload=b"{}", executed_version="1", function_error="Unhandled", log_tail=b"the log"
    )
    response = await platform.call(x_amz_log_type="Tail")
    assert response.status == 200
    assert header(response, "x-amz-function-error") == "Unhandled"
    assert base64.b64decode(header(response, "x-amz-log-result") or "") == b"the log"
    assert platform.invocations[0].wants_tail


@pytest.mark.parametrize(
    ("name", "query", "ref"),
    [
        ("hello", "", FunctionRef("hello")),
        ("hello%3A7", "", FunctionRef("hello", "7")),
        ("hello", "Qualifier=live", FunctionRef("hello", "live")),
        ("hello", "Qualifier=%24LATEST", FunctionRef("hello", "$LATEST")),
        (
            ARN.replace(":", "%3A"),
            "",
            FunctionRef("hello", None, "000000000000", "us-east-1"),
        ),
    ],
)
async def test_names_come_in_every_form_of_aws(
    platform: Platform, name: str, query: str, ref: FunctionRef
) -> None:
    await platform.call(name, query)
    assert platform.refs == [("000000000000", "us-east-1", ref)]


async def test_the_signature_says_whose_world_it_is(platform: Platform) -> None:
    scope = "Credential=123456789012/20261124/eu-west-1/lambda/aws4_request"
    for _ in range(2):
        await platform.call(
            authorization=f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"
        )
    assert {ref[:2] for ref in platform.refs} == {("123456789012", "eu-west-1")}


@pytest.mark.parametrize(
    ("name", "query", "what"),
    [
        ("a%20b", "", "'a b' at 'functionName'"),
        ("hello", "Qualifier=a%20b", "'a b' at 'qualifier'"),
    ],
)
async def test_a_name_out_of_pattern_is_a_validation_error(
    platform: Platform, name: str, query: str, what: str
) -> None:
    status, code, message = error_of(await platform.call(name, query))
    assert (status, code) == (400, "ValidationException")
    assert message.startswith(f"1 validation error detected: Value {what} failed to satisfy")


async def test_two_qualifiers_must_agree(platform: Platform) -> None:
    status, _, message = error_of(await platform.call("hello%3A7", "Qualifier=8"))
    assert status == 400
    assert message.startswith("The derived qualifier from the function name does not match")


@pytest.mark.parametrize(
    ("headers", "member"),
    [
        ({"x_amz_invocation_type": "Later"}, "invocationType"),
        ({"x_amz_log_type": "All"}, "logType"),
    ],
)
async def test_unknown_choices_are_validation_errors(
    platform: Platform, headers: dict[str, str], member: str
) -> None:
    status, code, message = error_of(await platform.call(**headers))
    assert (status, code) == (400, "ValidationException")
    assert f"at '{member}' failed to satisfy constraint: Member must satisfy enum" in message


async def test_an_empty_payload_is_an_empty_object(platform: Platform) -> None:
    await platform.call(body=b"")
    assert platform.invocations[0].payload == b"{}"


@pytest.mark.parametrize("body", [b"{", b"nope", b"'a'", b"\xff", b'{"a":1}}', b"NaN"])
async def test_a_payload_that_is_not_json_is_refused(platform: Platform, body: bytes) -> None:
    status, code, message = error_of(await platform.call(body=body))
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload")
    assert platform.invocations == []


async def test_sizes_are_checked_before_anything_is_run(platform: Platform) -> None:
    fits = b'"' + b"a" * (limits.PAYLOAD_ASYNC_MAX_BYTES - 2) + b'"'
    accepted = await platform.call(body=fits, x_amz_invocation_type="Event")
    assert accepted.status == 202
    refused = await platform.call(body=fits + b" ", x_amz_invocation_type="Event")
    assert error_of(refused) == (
        413,
        "RequestTooLargeException",
        "Request must be smaller than 1048576 bytes for the InvokeFunction operation",
    )
    assert len(platform.events) == 1


async def test_an_event_is_queued_and_answered_without_a_version(platform: Platform) -> None:
    response = await platform.call(
        query="Qualifier=live", body=b"[1]", x_amz_invocation_type="Event"
    )
    assert (response.status, response.body) == (202, b"")
    assert header(response, "x-amz-executed-version") is None
    (event,) = platform.events
    assert (event.payload, event.ref.qualifier, event.invoked_arn) == (b"[1]", "live", ARN)
    assert event.request_id == header(response, "x-amzn-requestid")
    assert platform.invocations == []


async def test_a_dry_run_runs_nothing(platform: Platform) -> None:
    response = await platform.call(x_amz_invocation_type="DryRun")
    assert (response.status, response.body) == (204, b"")
    assert (platform.invocations, platform.events) == ([], [])


async def test_a_client_context_becomes_one_line_of_json(platform: Platform) -> None:
    context = base64.b64encode(b'{\n "custom": {"k": "\xc3\xa9"}\n}').decode()
    await platform.call(x_amz_client_context=context)
    told = platform.invocations[0].client_context
    assert told is not None
    assert "\n" not in told
    assert json.loads(told) == {"custom": {"k": "é"}}


@pytest.mark.parametrize("context", ["%%%", base64.b64encode(b"not json").decode()])
async def test_a_client_context_that_cannot_be_read_is_refused(
    platform: Platform, context: str
) -> None:
    status, code, _ = error_of(await platform.call(x_amz_client_context=context))
    assert (status, code) == (400, "InvalidRequestContentException")


PER_TENANT = {"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
async def test_a_tenant_is_passed_on(platform: Platform, kind: str) -> None:
    platform.version = make_version(extras=PER_TENANT)
    tenant = "blue/1:x=y+z-@ ."
    answer = await platform.call(x_amz_tenant_id=tenant, x_amz_invocation_type=kind)
    assert answer.status in (200, 202)
    assert [one.tenant_id for one in (*platform.invocations, *platform.events)] == [tenant]


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
@pytest.mark.parametrize(
    ("extras", "headers", "sentence"),
    [
        (
            PER_TENANT,
            {},
            "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in"
            " your request and try again.",
        ),
        (
            {},
            {"x_amz_tenant_id": "blue"},
            "The invoked function is not enabled with tenancy configuration. Remove the tenant ID"
            " from your request and try again.",
        ),
    ],
)
async def test_a_tenant_is_named_where_tenants_are_kept_apart_and_only_there(
    platform: Platform, kind: str, extras: Any, headers: dict[str, str], sentence: str
) -> None:
    platform.version = make_version(extras=extras)
    answer = await platform.call(x_amz_invocation_type=kind, **headers)
    assert error_of(answer) == (400, "InvalidParameterValueException", sentence)
    assert platform.invocations == platform.events == []


@pytest.mark.parametrize(
    ("tenant", "rule"),
    [
        ("", "have length greater than or equal to 1"),
        ("x" * 257, "have length less than or equal to 256"),
        ("a,b", r"satisfy regular expression pattern: [a-zA-Z0-9\._:\/=+\-@ ]+"),
    ],
)
async def test_a_tenant_out_of_pattern_is_a_validation_error(
    platform: Platform, tenant: str, rule: str
) -> None:
    assert error_of(await platform.call(x_amz_tenant_id=tenant)) == (
        400,
        "ValidationException",
        f"1 validation error detected: Value '{tenant}' at 'tenantId' failed to satisfy constraint:"
        f" Member must {rule}",
    )


async def test_an_unknown_function_is_404(platform: Platform) -> None:
    assert error_of(await platform.call("missing")) == (
        404,
        "ResourceNotFoundException",
        f"Function not found: {ARN}",
    )


async def test_a_throttle_carries_its_reason(platform: Platform) -> None:
    platform.error = TooManyRequests("ConcurrentInvocationLimitExceeded")
    response = await platform.call()
    assert error_of(response) == (429, "TooManyRequestsException", "Rate Exceeded.")
    assert json.loads(response.body)["Reason"] == "ConcurrentInvocationLimitExceeded"


async def test_a_fault_of_ours_is_not_told(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    platform.error = KeyError("secret")
    status, code, message = error_of(await platform.call())
    assert (status, code) == (500, "ServiceException")
    assert "secret" not in message
    assert len(caplog.records) == 1


async def test_an_invocation_runs_on_when_its_client_goes_away() -> None:
    platform = Platform(gate=asyncio.Event())
    answer = platform.endpoint.match(request())
    assert isinstance(answer, asyncio.Future)
    await asyncio.sleep(0)
    answer.cancel()
    assert platform.gate is not None
    platform.gate.set()
    await platform.endpoint.drain(5)
    assert len(platform.invocations) == 1


async def test_what_does_not_end_in_time_is_given_up() -> None:
    platform = Platform(gate=asyncio.Event())
    answer = platform.endpoint.match(request())
    assert answer is not None
    await asyncio.sleep(0)
    await platform.endpoint.drain(0)
    assert not asyncio.ensure_future(answer).done()


async def test_the_invocation_continues_the_lineage_of_its_caller(platform: Platform) -> None:
    await platform.call(x_amzn_trace_id="Root=1-2;Sampled=1")
    assert platform.invocations[0].trace_id == f"Root=1-2;Sampled=1;Lineage={IDENTITY}:0"


@pytest.mark.parametrize(("passed", "status"), [(14, 200), (15, 400)])
async def test_a_function_that_calls_itself_is_stopped(
    platform: Platform, passed: int, status: int
) -> None:
    response = await platform.call(x_amzn_trace_id=f"Root=1-2;Lineage={IDENTITY}:{passed}")
    assert response.status == status
    if status == 400:
        assert header(response, "x-amzn-errortype") == "RecursiveInvocationException"
        assert platform.invocations == []


async def test_an_event_is_accepted_whatever_its_lineage_and_carries_it(
    platform: Platform,
) -> None:
    trace = f"Root=1-2;Lineage={IDENTITY}:15"
    response = await platform.call(x_amz_invocation_type="Event", x_amzn_trace_id=trace)
    assert response.status == 202
    assert platform.events[0].trace_id == trace
