"""How messages of netlink are framed, and what is refused before the kernel is asked."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.linux import interfaces, netlink
from firelet.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_DUMP,
    Netlink,
    Request,
    attribute,
    nested,
    parse_attributes,
    text,
)

GET_LINK, GET_ROUTE = 18, 26
ATTRIBUTES = st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=300), max_size=8)


@given(ATTRIBUTES)
def test_attributes_are_found_again(attributes: dict[int, bytes]) -> None:
    data = b"".join(attribute(kind, value) for kind, value in attributes.items())
    assert len(data) % 4 == 0
    assert parse_attributes(data) == attributes


def test_attributes_in_attributes_are_found_by_their_kind() -> None:
    data = nested(18, text(1, "veth"))
    inner = parse_attributes(data)[18]
    assert parse_attributes(inner) == {1: b"veth\0"}


@given(st.binary(max_size=100))
def test_no_bytes_of_the_kernel_keep_the_parser_forever(data: bytes) -> None:
    parse_attributes(data)


def test_a_refusal_names_its_step_and_the_next_request_is_answered() -> None:
    body = bytes(16)
    with Netlink(NETLINK_ROUTE) as kernel:
        with pytest.raises(OSError, match="look at nothing: Invalid argument"):
            kernel.ask(Request("look at nothing", GET_LINK, NLM_F_ACK, body))
        (route, *_) = kernel.query(Request("list", GET_ROUTE, NLM_F_DUMP, bytes(12)))
        assert len(route) > 12


def test_a_kernel_that_does_not_answer_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(netlink, "_PATIENCE_S", 0.01)
    with (
        Netlink(NETLINK_ROUTE) as kernel,
        pytest.raises(OSError, match="netlink: Connection timed out"),
    ):
        kernel.query(Request("unasked", GET_LINK, 0, b""))


def test_the_hosts_own_addresses_are_among_its_routes() -> None:
    loopback = [route for route in interfaces.list_routes() if route.interface == "lo"]
    assert "127.0.0.0/8" in {str(route.network) for route in loopback}


@pytest.mark.parametrize("name", ["", "a-name-of-16-byte"])
def test_a_name_that_no_interface_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 15 bytes"):
        interfaces.add_pair(interfaces.Pair("near", name), 0)


def test_an_interface_that_is_not_there_is_named() -> None:
    with pytest.raises(OSError, match="no interface is named missing0"):
        interfaces.set_up("missing0")


def test_a_setting_that_the_kernel_does_not_have_is_none() -> None:
    assert interfaces.read_setting("ipv4/no_such_setting") is None
    assert interfaces.read_setting("ipv4/ip_forward") in ("0", "1")


def test_loopback_is_ready_as_soon_as_it_is_asked() -> None:
    assert socket.if_nametoindex("lo")
    interfaces.wait_until_up("lo")
