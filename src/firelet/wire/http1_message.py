"""What an HTTP/1.1 server and its application say to each other: values only.

It is not a parser and holds no connection (``http1_connection``). Applications import these
names from ``firelet.wire.http1``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import TypeAlias

from firelet.model.limits import CONTROL_REQUEST_MAX_BYTES, MIB


class RepeatedHeader(bytes):
    """A header that a request repeats: joined, as the bytes that it is, and one by one."""

    values: tuple[bytes, ...]

    @classmethod
    def of(cls, before: bytes, value: bytes, separator: bytes) -> RepeatedHeader:
        """``before`` may have been joined already."""
        joined = cls(before + separator + value)
        joined.values = (*header_values(before), value)
        return joined


def header_values(value: bytes) -> tuple[bytes, ...]:
    """The values of a header, as the client sent them."""
    return value.values if isinstance(value, RepeatedHeader) else (value,)


@dataclass(slots=True)
class Request:
    """One request, complete. ``target`` is raw and never decoded; header names are lower-case.

    Repeated headers are joined by ``b", "`` (``cookie`` by ``b"; "``, RFC 9113 section 8.2.3);
    ``header_values`` tells them apart.
    ``peer`` is the client's IP address, or "" on a Unix socket. Trailers are dropped.
    ``upgrade`` is the protocol that the client offers to change to, in lower case: an application
    that does not answer with ``http1_upgrade.UpgradedResponse`` need not look at it.
    """

    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    peer: str
    upgrade: bytes = b""

    @property
    def path(self) -> bytes:
        """The target before the first question mark."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The target after the first question mark, or nothing."""
        return self.target.partition(b"?")[2]


@dataclass(slots=True)
class Response:
    """One answer. ``Date``, ``Content-Length`` and ``Connection`` are the server's to write."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


App: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
# The bytes that a body may have, by method, target and headers.
BodyLimit: TypeAlias = Callable[[bytes, bytes, Mapping[bytes, bytes]], int]


class RejectionReason(Enum):
    """Why the server answers a request itself. The value is the default status."""

    BAD_REQUEST = 400
    TIMEOUT = 408
    BODY_TOO_LARGE = 413
    HEADERS_TOO_LARGE = 431
    INTERNAL_ERROR = 500
    OVERLOADED = 503


@dataclass(frozen=True, slots=True)
class Rejection:
    """A request that the application did not answer.

    ``method`` and ``target`` are empty when they were not read. ``limit`` is the number of body
    bytes allowed, and ``headers`` those of the request, for BODY_TOO_LARGE only.
    """

    reason: RejectionReason
    method: bytes = b""
    target: bytes = b""
    limit: int | None = None
    headers: Mapping[bytes, bytes] = field(default_factory=dict, compare=False)
    peer: str = field(default="", compare=False)


OnReject: TypeAlias = Callable[[Rejection], Response]


def plain_rejection(rejection: Rejection) -> Response:
    """The default answer to a rejection: the status and its phrase as text."""
    status = HTTPStatus(rejection.reason.value)
    return Response(status, status.phrase.encode(), ((b"Content-Type", b"text/plain"),))


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one server puts up with. Times are seconds and are kept to about one second.

    ``keep_alive_s`` None lets a client stay silent between requests for ever. The default is
    longer than the 90 s for which common SDKs pool connections, so that clients close first.
    """

    body_bytes: int = CONTROL_REQUEST_MAX_BYTES
    header_bytes: int = MIB  # request line and all headers together
    header_count: int = 200
    header_s: float = 20.0  # from the first byte of a head to its last
    body_s: float = 30.0  # without a byte of an unfinished body
    keep_alive_s: float | None = 120.0
    write_s: float = 30.0  # without the client reading a byte of its response
    max_connections: int = 4096
    # An answer may wait for that of a request which came in the same segment. Only for clients
    # that ask for it by sending both at once, as runtimes post a result and ask for the next event.
    joins_answers: bool = False
