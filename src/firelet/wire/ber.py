"""BER: the encoding of ASN.1 in which signatures are written, as a tree of elements.

What it is: a reader of the definite and the indefinite form, strict about lengths. What it is not:
ASN.1; what an element means is for the caller to know. Called by ``control.signed_data`` with what
anybody may have written: every fault is a ValueError.

Source: ITU-T X.690, section 8.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

INTEGER, OCTET_STRING, OBJECT_IDENTIFIER = 0x02, 0x04, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING = 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

_CONSTRUCTED = 0x20
_LONG_TAG = 0x1F
_INDEFINITE = 0x80
_END = b"\x00\x00"
_LENGTH_BYTES_MAX = 4
_DEPTH_MAX = 32
_IDENTIFIER_BYTES_MAX = 64
_TEXT = (UTF8_STRING, PRINTABLE_STRING, IA5_STRING)
_TIMES = {
    UTC_TIME: ("%y%m%d%H%M%SZ",),
    GENERALIZED_TIME: ("%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S.%fZ"),
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element. ``tag`` is the identifier octet; ``encoded`` is all of it, header included."""

    tag: int
    content: bytes
    encoded: bytes

    def children(self) -> list[Element]:
        """What a constructed element holds, in order."""
        if not self.tag & _CONSTRUCTED:
            raise ValueError(f"an element with the tag {self.tag:#04x} has no elements")
        return list(_read_all(self.content, 0))

    def expect(self, tag: int) -> Element:
        """The same element, which has that tag."""
        if self.tag != tag:
            raise ValueError(f"an element has the tag {self.tag:#04x} and not {tag:#04x}")
        return self

    def integer(self) -> int:
        return int.from_bytes(self.expect(INTEGER).content, "big", signed=True)

    def identifier(self) -> str:
        """An object identifier with dots."""
        if not 0 < len(self.content) <= _IDENTIFIER_BYTES_MAX or self.content[-1] & 0x80:
            raise ValueError("an object identifier is too long or ends too early")
        arcs = [0]
        for octet in self.expect(OBJECT_IDENTIFIER).content:
            arcs[-1] = arcs[-1] << 7 | octet & 0x7F
            if not octet & 0x80:
                arcs.append(0)
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:-1])))

    def text(self) -> str | None:
        """The text of an element that is one; None for others."""
        return self.content.decode() if self.tag in _TEXT else None

    def moment(self) -> datetime | None:
        """The time of an element that is one; None for others."""
        formats = _TIMES.get(self.tag, ())
        for form in formats:
            try:
                return datetime.strptime(self.content.decode("ascii"), form).replace(tzinfo=UTC)
            except ValueError:
                continue
        if formats:
            raise ValueError(f"not a time: {self.content!r}")
        return None


def parse_ber(data: bytes) -> Element:
    """The one element that ``data`` is."""
    element, end = _read(data, 0, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the element")
    return element


def _read_all(data: bytes, depth: int) -> Iterator[Element]:
    at = 0
    while at < len(data):
        element, at = _read(data, at, depth)
        yield element


def _read(data: bytes, at: int, depth: int) -> tuple[Element, int]:
    """The element at ``at``, and where the next one begins."""
    if depth > _DEPTH_MAX:
        raise ValueError("elements are nested too deeply")
    if at + 2 > len(data):
        raise ValueError("an element ends too early")
    tag, length = data[at], data[at + 1]
    if tag & _LONG_TAG == _LONG_TAG:
        raise ValueError("tags of more than one byte are not read")
    start = at + 2
    if length == _INDEFINITE:
        return _read_indefinite(data, at, depth)
    if length > _INDEFINITE:
        count = length - _INDEFINITE
        if count > _LENGTH_BYTES_MAX:
            raise ValueError("an element is too long")
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    end = start + length
    if end > len(data):
        raise ValueError("an element ends too early")
    return Element(tag, data[start:end], data[at:end]), end


def _read_indefinite(data: bytes, at: int, depth: int) -> tuple[Element, int]:
    """Up to the end-of-contents octets that belong to it."""
    if not data[at] & _CONSTRUCTED:
        raise ValueError("an element of one piece has no length")
    end = start = at + 2
    while data[end : end + 2] != _END:
        _, end = _read(data, end, depth + 1)
    return Element(data[at], data[start:end], data[at : end + 2]), end + 2
