"""Heads of streams of the HTTP integration type, in whatever pieces they come."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.gateway.proxy_event import MalformedResult
from firelet.gateway.streamed_answer import PRELUDE_MAX_BYTES, StreamedAnswer
from firelet.model.streaming import HTTP_INTEGRATION, HTTP_PRELUDE_END, StreamHead
from firelet.wire.http1 import Response, StreamedResponse
from firelet.wire.prompt import PromptFuture


class Source:
    """Where pieces come from; nothing is ever too fast."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Client:
    """Waits for one answer to a stream that is fed in pieces."""

    def __init__(self, content_type: str = HTTP_INTEGRATION) -> None:
        self.future: PromptFuture[Response] = PromptFuture(loop=asyncio.get_running_loop())
        self.sink = StreamedAnswer(self.future, lambda response: response, self._fail)
        self.sink.begin(StreamHead(content_type), Source())

    def _fail(self, error: MalformedResult) -> Response:
        return Response(502, str(error).encode())

    @property
    def response(self) -> Response:
        return self.future.result()

    @property
    def body(self) -> bytes:
        assert isinstance(self.response, StreamedResponse)
        return b"".join(self.response.stream._early)


@given(body=st.binary(max_size=40), cut=st.integers(1, 20))
def test_it_does_not_matter_how_a_stream_is_cut(body: bytes, cut: int) -> None:
    head = b'{"statusCode": 201, "headers": {"x-a": "b"}, "cookies": ["c=d"]}'
    sent = head + HTTP_PRELUDE_END + body

    async def run() -> None:
        client = Client()
        for at in range(0, len(sent), cut):
            client.sink.write(sent[at : at + cut])
        client.sink.end()
        assert client.response.status == 201
        assert (b"x-a", b"b") in client.response.headers
        assert client.body == body

    asyncio.run(run())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
HEADS = st.fixed_dictionaries(
    {}, optional={"statusCode": JSON, "headers": JSON, "cookies": JSON, "multiValueHeaders": JSON}
)


def as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:
        return b"{"  # lone surrogates, and numbers above 64 bits


@settings(max_examples=300)
@given(pieces=st.lists(st.binary(max_size=30) | HEADS.map(as_json) | st.just(HTTP_PRELUDE_END)))
def test_any_bytes_are_an_answer_or_a_bad_gateway(pieces: list[bytes]) -> None:
    async def run() -> None:
        client = Client()
        for piece in pieces:
            client.sink.write(piece)
        client.sink.end()
        response = client.response
        assert 100 <= response.status <= 599
        for name, value in response.headers:
            assert not {10, 13, 0} & {*name, *value}

    asyncio.run(run())


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_head_without_end_is_refused_at_its_limit(size: int) -> None:
    client = Client()
    piece = b" " * size
    for _ in range(PRELUDE_MAX_BYTES // size + 1):
        client.sink.write(piece)
    assert client.response.status == 502
    client.sink.write(piece)
    client.sink.end()
