"""Heads of answers: status line, Date, header fields, framing. Text only, no I/O.

``http1_connection`` writes them. The one for a status is kept until the next second, since
formatting a date costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from firelet.wire.http1_message import Response

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# RFC 9110 section 6.4.1: no content, whatever the application gave.
BODILESS = frozenset((204, 304))


class Heads:
    """Formats the heads of one server's answers.

    ``on_dated`` is called when a Date has been formatted: the owner must call ``expire`` within
    about a second.
    """

    def __init__(self, on_dated: Callable[[], None]) -> None:
        self._on_dated = on_dated
        self._preambles: dict[int, bytes] = {}

    def expire(self) -> None:
        """The second that Date was formatted for is over."""
        self._preambles.clear()

    def format(
        self, response: Response, connection_line: bytes, framing: bytes | None = None
    ) -> bytes:
        """The whole head. ``framing`` stands in place of Content-Length, line and all. ValueError
        if a header's name or value would break out of its line."""
        status = response.status
        headers = response.headers
        fields = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
        if fields.count(b"\n") != len(headers) or fields.count(b"\r") != len(headers):
            raise ValueError("a response header holds a line break")
        preamble = self._preambles.get(status) or self._format_preamble(status)
        if status in BODILESS or framing is not None:
            connection_line += framing or b""
            return b"%b%b%b\r\n" % (preamble, fields, connection_line)
        parts = (preamble, fields, connection_line, len(response.body))
        return b"%b%b%bContent-Length: %d\r\n\r\n" % parts

    def _format_preamble(self, status: int) -> bytes:
        phrase = _PHRASES.get(status, "Unknown")
        date = formatdate(usegmt=True)
        preamble = f"HTTP/1.1 {status:d} {phrase}\r\nDate: {date}\r\n".encode("ascii")
        self._preambles[status] = preamble
        self._on_dated()
        return preamble
