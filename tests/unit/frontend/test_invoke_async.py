"""The deprecated operation InvokeAsync."""

from __future__ import annotations

import pytest

from firelet.control.registry import Registry
from firelet.frontend.invoke import AsyncInvocation
from firelet.frontend.invoke_async import InvokeAsyncOperations
from firelet.frontend.operations import Operations, Reply
from firelet.model import limits
from firelet.model.arn import FunctionRef
from firelet.model.errors import InvalidRequestContent, RequestTooLarge, ResourceNotFound
from registry_parts import ARN, make_call


class Sink:
    def __init__(self) -> None:
        self.events: list[AsyncInvocation] = []

    async def put(self, event: AsyncInvocation) -> None:
        self.events.append(event)


class Api:
    def __init__(self, registry: Registry) -> None:
        self.sink = Sink()
        self._operations = Operations()
        InvokeAsyncOperations(registry, self.sink).register(self._operations)

    async def call(self, name: str, payload: bytes) -> Reply:
        handler = self._operations.find("lambda", "InvokeAsync")
        assert handler is not None
        answer = await handler(make_call("InvokeAsync", FunctionName=name, InvokeArgs=payload))
        assert isinstance(answer, Reply)
        return answer


@pytest.fixture
def api(published: Registry) -> Api:
    return Api(published)


async def test_it_is_an_event_invocation_without_the_callers_trace(api: Api) -> None:
    answer = await api.call("greeter:live", b"[1]")
    assert (answer.status, answer.output) == (202, {"Status": 202})
    (event,) = api.sink.events
    assert (event.ref, event.payload) == (FunctionRef("greeter", "live"), b"[1]")
    assert event.invoked_arn == f"{ARN}:live"
    assert event.request_id == make_call("InvokeAsync").request_id
    assert event.trace_id is not None
    assert event.trace_id.startswith("Root=1-")


async def test_the_function_must_exist_and_the_payload_be_json(api: Api) -> None:
    with pytest.raises(ResourceNotFound, match=r"^Function not found: .*:nobody:\$LATEST$"):
        await api.call("nobody", b"{}")
    with pytest.raises(InvalidRequestContent):
        await api.call("greeter", b"{")
    assert api.sink.events == []


async def test_the_payload_may_be_256_kib_long(api: Api) -> None:
    longest = b'"%b"' % (b"x" * (limits.PAYLOAD_INVOKE_ASYNC_MAX_BYTES - 2))
    assert (await api.call("greeter", longest)).status == 202
    with pytest.raises(RequestTooLarge, match="262144 bytes for the InvokeAsync operation"):
        await api.call("greeter", longest + b" ")
