"""Reading BER: both forms of length, and whatever anybody may send."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.wire.ber import Element, parse_ber
from signed_packages import der, generalized_time, identifier, integer


def walk(element: Element) -> int:
    """How many elements there are in it."""
    if not element.tag & 0x20:
        return 1
    return 1 + sum(map(walk, element.children()))


trees = st.recursive(
    st.binary(max_size=300).map(lambda content: der(0x04, content)),
    lambda parts: st.tuples(st.booleans(), st.lists(parts, max_size=4)).map(
        lambda tree: b"\x30\x80" + b"".join(tree[1]) + b"\0\0" if tree[0] else der(0x30, *tree[1])
    ),
    max_leaves=12,
)


@given(trees)
def test_what_is_written_is_read(encoded: bytes) -> None:
    element = parse_ber(encoded)
    assert element.encoded == encoded
    if element.tag == 0x30:
        assert b"".join(child.encoded for child in element.children()) == element.content


@given(st.binary(max_size=200) | trees.map(lambda tree: tree[:-1]))
def test_what_cannot_be_read_is_a_value_error(data: bytes) -> None:
    try:
        walk(parse_ber(data))
    except ValueError:
        return
    assert data, "nothing is no element"


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers(value: int) -> None:
    if value >= 0:
        assert parse_ber(integer(value)).integer() == value


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.9.4", "2.16.840.1.101.3.4.2.2", "2.999.3"])
def test_identifiers(dotted: str) -> None:
    assert parse_ber(identifier(dotted)).identifier() == dotted


@pytest.mark.parametrize("content", [b"", b"\x81", b"\x2a" + b"\x81" * 64 + b"\x01"])
def test_identifiers_that_are_none(content: bytes) -> None:
    with pytest.raises(ValueError, match="object identifier"):
        parse_ber(der(0x06, content)).identifier()


def test_times_and_texts() -> None:
    moment = datetime(2026, 11, 20, 8, 0, 1, 250_000, UTC)
    assert parse_ber(generalized_time(moment)).moment() == moment
    assert parse_ber(der(0x17, b"261120080001Z")).moment() == moment.replace(microsecond=0)
    assert parse_ber(der(0x04, b"261120080001Z")).moment() is None
    assert parse_ber(der(0x0C, "é".encode())).text() == "é"
    assert parse_ber(der(0x04, b"e")).text() is None
    with pytest.raises(ValueError, match="not a time"):
        parse_ber(der(0x17, b"soon")).moment()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ends too early"),
        (b"\x30\x05\x04", "ends too early"),
        (b"\x30\x80\x04\x00", "ends too early"),
        (b"\x04\x80\x00\x00", "of one piece"),
        (b"\x1f\x81\x01\x00", "more than one byte"),
        (b"\x04\x85\x00\x00\x00\x00\x00", "too long"),
        (b"\x30\x80" * 40, "too deeply"),
        (b"\x04\x00\x00", "1 bytes follow"),
    ],
)
def test_lengths_and_tags_are_checked(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_ber(data)
