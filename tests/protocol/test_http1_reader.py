"""Framing, limits and guards of the HTTP/1.1 reader: bytes in, requests or a rejection out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.wire.http1 import HttpLimits, Rejection, RejectionReason, Request, header_values
from firelet.wire.http1_reader import CLOSE, KEEP_ALIVE, PERSIST, Phase, RequestReader


class RecordingSink:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.lines: list[bytes] = []
        self.rejections: list[Rejection] = []
        self.continues = 0

    def on_request(self, request: Request, connection_line: bytes) -> None:
        self.requests.append(request)
        self.lines.append(connection_line)

    def on_rejection(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)

    def on_expect_continue(self) -> None:
        self.continues += 1


def read(*pieces: bytes, limits: HttpLimits | None = None, body_limit=None) -> RecordingSink:
    sink = RecordingSink()
    reader = RequestReader(sink, "192.0.2.7", limits or HttpLimits(), body_limit)
    for piece in pieces:
        if reader.phase is not Phase.ENDED:
            reader.feed(piece)
    return sink


def rejected(*pieces: bytes, **kwargs) -> RejectionReason:
    sink = read(*pieces, **kwargs)
    assert not sink.requests
    (rejection,) = sink.rejections
    return rejection.reason


def test_a_request_keeps_its_target_raw_and_its_header_names_lower() -> None:
    (request,) = read(b"GET /a%2Fb?x=%20&y HTTP/1.1\r\nX-Amz-Date: now \t\r\n\r\n").requests
    assert request == Request(b"GET", b"/a%2Fb?x=%20&y", {b"x-amz-date": b"now"}, b"", "192.0.2.7")
    assert request.path == b"/a%2Fb"
    assert request.query == b"x=%20&y"


def test_repeated_headers_are_joined_and_cookies_by_semicolon() -> None:
    head = b"GET / HTTP/1.1\r\nA: 1\r\nCookie: a=1\r\na: 1\r\ncookie: b=2\r\n\r\n"
    (request,) = read(head).requests
    assert request.headers == {b"a": b"1, 1", b"cookie": b"a=1; b=2"}


def test_the_values_of_repeated_headers_can_be_told_apart() -> None:
    head = b"GET / HTTP/1.1\r\nA: 1, 2\r\na: 3\r\nB: 4, 5\r\nA: 6 \r\n\r\n"
    (request,) = read(head).requests
    assert header_values(request.headers[b"a"]) == (b"1, 2", b"3", b"6")
    assert header_values(request.headers[b"b"]) == (b"4, 5",)


def test_a_chunked_body_is_joined_and_its_trailers_dropped() -> None:
    sink = read(
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n"
        b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nA: 2\r\nB: 3\r\n\r\n"
        b"GET /y HTTP/1.1\r\n\r\n"
    )
    assert [request.body for request in sink.requests] == [b"abcde", b""]
    assert sink.requests[0].headers == {b"transfer-encoding": b"chunked", b"a": b"1"}
    assert sink.requests[1].headers == {}


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", PERSIST),
        (b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", PERSIST),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", CLOSE),
        (b"GET / HTTP/1.0\r\n\r\n", CLOSE),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", KEEP_ALIVE),
    ],
)
def test_persistence_follows_version_and_connection_header(head: bytes, line: bytes) -> None:
    assert read(head).lines == [line]


def test_bytes_after_the_last_request_are_not_read() -> None:
    sink = read(b"GET /1 HTTP/1.1\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\n\r\n\x00\x01")
    assert [request.target for request in sink.requests] == [b"/1"]
    assert not sink.rejections


POST = b"POST / HTTP/1.1\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x02\x00", id="tls"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
        pytest.param(b"GET /\r\n\r\n", id="http 0.9"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", id="version 2"),
        pytest.param(b"GET / HTTP/1.2\r\n\r\n", id="version 1.2"),
        pytest.param(b"CONNECT a:443 HTTP/1.1\r\n\r\n", id="connect"),
        pytest.param(b"GET / HTTP/1.1\nHost: a\n\n", id="bare line feeds"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n", id="bare carriage return"),
        pytest.param(b"GET / HTTP/1.1\r\nA : b\r\n\r\n", id="space before colon"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", id="folded line"),
        pytest.param(b"GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", id="nul"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
        pytest.param(
            POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            id="length and coding",
        ),
        pytest.param(
            POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
            id="coding and length",
        ),
        pytest.param(POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", id="lengths"),
        pytest.param(POST + b"Content-Length: 3, 3\r\n\r\nabc", id="list of lengths"),
        pytest.param(POST + b"Content-Length: +3\r\n\r\nabc", id="signed length"),
        pytest.param(POST + b"Content-Length: -3\r\n\r\nabc", id="negative length"),
        pytest.param(POST + b"Content-Length: 0x3\r\n\r\nabc", id="hexadecimal length"),
        pytest.param(POST + b"Content-Length:\r\n\r\n", id="empty length"),
        pytest.param(POST + b"Content-Length: 99999999999999999999\r\n\r\n", id="huge length"),
        pytest.param(POST + b"Transfer-Encoding: gzip\r\n\r\nabc", id="gzip"),
        pytest.param(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="two codings"),
        pytest.param(POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", id="like chunked"),
        pytest.param(
            b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked in 1.0"
        ),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n", id="chunk size"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", id="chunk lines"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n", id="chunk sign"),
        pytest.param(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", id="chunk length"),
    ],
)
def test_what_two_servers_could_read_differently_is_refused(data: bytes) -> None:
    assert rejected(data) is RejectionReason.BAD_REQUEST
    assert rejected(*(data[i : i + 1] for i in range(len(data)))) is RejectionReason.BAD_REQUEST


def test_requests_before_a_bad_one_are_delivered() -> None:
    sink = read(b"GET /1 HTTP/1.1\r\n\r\nrubbish\r\n")
    assert [request.target for request in sink.requests] == [b"/1"]
    assert sink.rejections == [Rejection(RejectionReason.BAD_REQUEST)]


def test_a_head_over_the_limit_is_refused_whole_or_in_pieces() -> None:
    limits = HttpLimits(header_bytes=100)
    head = b"GET / HTTP/1.1\r\nA: " + b"x" * 100 + b"\r\n\r\n"
    assert rejected(head, limits=limits) is RejectionReason.HEADERS_TOO_LARGE
    for size in (1, 40, 119):
        pieces = [head[i : i + size] for i in range(0, len(head), size)]
        assert rejected(*pieces, limits=limits) is RejectionReason.HEADERS_TOO_LARGE


def test_a_small_head_before_a_large_body_is_not_over_the_limit() -> None:
    limits = HttpLimits(header_bytes=100)
    sink = read(b"POST / HTTP/1.1\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, limits=limits)
    assert len(sink.requests[0].body) == 500


def test_too_many_headers_are_refused_distinct_or_repeated() -> None:
    limits = HttpLimits(header_count=10)
    distinct = [b"a%d: b\r\n" % i for i in range(13)]
    for fields in (distinct, [b"a: b\r\n"] * 13, [b"Cookie: b\r\n"] * 13):
        head = b"GET / HTTP/1.1\r\n" + b"".join(fields)
        assert rejected(head, limits=limits) is RejectionReason.HEADERS_TOO_LARGE
        assert rejected(head + b"\r\n", limits=limits) is RejectionReason.HEADERS_TOO_LARGE
    assert read(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10 + b"\r\n", limits=limits).requests


def test_trailers_and_chunk_extensions_are_limited_like_heads() -> None:
    limits = HttpLimits(header_bytes=100)
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    for endless in (b"0\r\nA: ", b"3;"):
        pieces = [head, endless, *(b"x" * 50 for _ in range(3))]
        assert rejected(*pieces, limits=limits) is RejectionReason.HEADERS_TOO_LARGE


def test_a_declared_body_over_the_limit_is_refused_before_it_is_read() -> None:
    sink = read(b"PUT /x HTTP/1.1\r\nContent-Length: 11\r\n\r\n", limits=HttpLimits(body_bytes=10))
    assert sink.rejections == [Rejection(RejectionReason.BODY_TOO_LARGE, b"PUT", b"/x", 10)]


def test_a_body_of_exactly_the_limit_is_read() -> None:
    limits = HttpLimits(body_bytes=10)
    fixed = b"PUT / HTTP/1.1\r\nContent-Length: 10\r\n\r\n" + b"x" * 10
    chunked = (
        b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + b"x" * 10 + b"\r\n0\r\n\r\n"
    )
    assert [len(r.body) for r in read(fixed + chunked, limits=limits).requests] == [10, 10]


def test_a_chunked_body_is_refused_when_it_passes_the_limit() -> None:
    head = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    sink = read(head, b"6\r\nabcdef\r\n", b"6\r\nghijkl\r\n", limits=HttpLimits(body_bytes=10))
    assert sink.rejections == [Rejection(RejectionReason.BODY_TOO_LARGE, b"PUT", b"/x", 10)]


def test_a_refused_body_comes_with_the_headers_of_its_request() -> None:
    head = b"PUT /x HTTP/1.1\r\nHost: a.b\r\nContent-Length: 11\r\n\r\n"
    (rejection,) = read(head, limits=HttpLimits(body_bytes=10)).rejections
    assert rejection.headers == {b"host": b"a.b", b"content-length": b"11"}
    assert rejection.peer == "192.0.2.7"


@pytest.mark.parametrize("size", [1, 2, 4095, 5000])
def test_a_body_in_small_chunks_holds_little_more_than_its_bytes(size: int) -> None:
    head = b"PUT /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % size + b"ab" * (size // 2) + b"c" * (size % 2) + b"\r\n"
    count = 2_000_000 // size
    tracemalloc.start()
    try:
        sink = read(head)
        reader = RequestReader(sink, "", HttpLimits(), None)
        reader.feed(head)
        for _ in range(16):
            reader.feed(chunk * (count // 16))
        held, _ = tracemalloc.get_traced_memory()
        reader.feed(b"0\r\n\r\n")
    finally:
        tracemalloc.stop()
    (request,) = sink.requests
    assert len(request.body) == count // 16 * 16 * size
    assert held < 1.5 * len(request.body)


def test_the_body_limit_may_depend_on_the_host() -> None:
    def body_limit(method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> int:
        return 4 if headers.get(b"host") == b"small" else 8

    data = (
        b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    )
    assert len(read(data % b"large", body_limit=body_limit).requests) == 1
    sink = read(data % b"small", body_limit=body_limit)
    assert [rejection.limit for rejection in sink.rejections] == [4]


def test_the_body_limit_may_depend_on_method_and_target() -> None:
    def body_limit(method: bytes, target: bytes, headers: Mapping[bytes, bytes]) -> int:
        return 4 if (method, target) == (b"POST", b"/small") else 8

    data = b" HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"
    assert len(read(b"POST /large" + data, body_limit=body_limit).requests) == 1
    sink = read(b"POST /small" + data, body_limit=body_limit)
    assert sink.rejections == [Rejection(RejectionReason.BODY_TOO_LARGE, b"POST", b"/small", 4)]


def test_expect_continue_is_passed_on_only_for_bodies_within_the_limit() -> None:
    head = b"PUT / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 11\r\n\r\n"
    assert read(head).continues == 1
    assert read(head, limits=HttpLimits(body_bytes=10)).continues == 0
    assert read(head.replace(b"1.1", b"1.0")).continues == 0


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"Content-Length: 3\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_an_upgrade_offer_is_ignored_and_the_body_kept(body: bytes) -> None:
    first = b"POST /1?a HTTP/1.1\r\n" + UPGRADE + body
    data = first + first + b"GET /2 HTTP/1.1\r\n\r\n"
    for size in (1, 7, len(data)):
        sink = read(*(data[i : i + size] for i in range(0, len(data), size)))
        assert [request.target for request in sink.requests] == [b"/1?a", b"/1?a", b"/2"]
        assert sink.requests[0].body == sink.requests[1].body
        assert sink.requests[0].body == (b"abc" if b"abc" in body else b"")
        assert not sink.rejections


def test_an_oversized_body_behind_an_upgrade_offer_is_refused() -> None:
    data = b"POST / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 11\r\n\r\n" + b"x" * 11
    reason = rejected(data, limits=HttpLimits(body_bytes=10))
    assert reason is RejectionReason.BODY_TOO_LARGE


names = st.from_regex(rb"X-[A-Za-z0-9-]{1,8}", fullmatch=True)
values = st.from_regex(rb"([!-~]([ -~]{0,20}[!-~])?)?", fullmatch=True)
bodies = st.binary(max_size=300)


@st.composite
def wire_requests(draw: st.DrawFn) -> tuple[bytes, Request]:
    """A request as bytes, and as it should come out."""
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH"]))
    target = b"/" + draw(st.from_regex(rb"[a-z0-9%?=&._~/-]{0,30}", fullmatch=True))
    fields = draw(st.lists(st.tuples(names, values), max_size=6, unique_by=lambda f: f[0].lower()))
    body = draw(bodies)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    wire_body = b""
    if framing == "none":
        body = b""
    elif framing == "length":
        fields.append((b"Content-Length", b"%d" % len(body)))
        wire_body = body
    else:
        fields.append((b"Transfer-Encoding", b"chunked"))
        size = draw(st.integers(1, 100))
        for at in range(0, len(body), size):
            piece = body[at : at + size]
            wire_body += b"%x\r\n%b\r\n" % (len(piece), piece)
        wire_body += b"0\r\n\r\n"
    head = b"%b %b HTTP/1.1\r\n" % (method, target)
    head += b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
    headers = {name.lower(): value for name, value in fields}
    return head + wire_body, Request(method, target, headers, body, "192.0.2.7")


@given(st.lists(wire_requests(), min_size=1, max_size=4), st.data())
def test_pipelined_requests_come_out_the_same_however_the_stream_is_cut(
    requests: list[tuple[bytes, Request]], data: st.DataObject
) -> None:
    stream = b"".join(wire for wire, _ in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    borders = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(borders)]
    sink = read(*pieces)
    assert sink.requests == [request for _, request in requests]
    assert not sink.rejections


@given(st.lists(wire_requests(), max_size=2), st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_end_in_requests_or_one_rejection(
    requests: list[tuple[bytes, Request]], noise: bytes, size: int
) -> None:
    stream = b"".join(wire for wire, _ in requests) + noise
    limits = HttpLimits(header_bytes=1000, header_count=10, body_bytes=1000)
    sink = read(*(stream[i : i + size] for i in range(0, len(stream), size)), limits=limits)
    assert len(sink.rejections) <= 1
    assert len(sink.requests) >= len(requests)
