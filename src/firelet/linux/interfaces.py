"""Network interfaces: up, addresses, routes, pairs, and the move into another namespace.

Works on the network namespace of the calling thread. Called by the host's side of a machine's
network, and by pid 1 of a guest, which gives its only device to the function's namespace.
Source: rtnetlink(7), veth(4), include/uapi/linux/if_link.h.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import time
from typing import NamedTuple

from firelet.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    Netlink,
    Request,
    attribute,
    nested,
    parse_attributes,
    text,
)

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _NEWROUTE, _GETROUTE = 16, 17, 18, 20, 24, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_IFF_UP = 0x1
_TABLE_MAIN, _TABLE_LOCAL, _PROTOCOL_STATIC, _UNICAST = 254, 255, 4, 1
_MAKE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
_IFLA_OPERSTATE, _STATE_UNKNOWN, _STATE_UP = 16, 0, 6
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NAME_BYTES_MAX = 15
_SYSCTL = "/proc/sys/net"
_PATIENCE_S = 5.0
_PAUSE_S = 0.001


class Pair(NamedTuple):
    """The names of a pair's ends: here, and in the other namespace."""

    near: str
    far: str


class Route(NamedTuple):
    """``interface`` is empty for a route that leads nowhere or to several."""

    network: ipaddress.IPv4Network
    interface: str


def set_up(name: str) -> None:
    """Sets an interface up. OSError (ENODEV) when there is none of that name."""
    _ask_route("set up", _NEWLINK, NLM_F_ACK, _link(_index(name), _IFF_UP, _IFF_UP), name)


def set_hardware_address(name: str, address: bytes) -> None:
    """Gives it the six bytes of a MAC address."""
    body = _link(_index(name)) + attribute(_IFLA_ADDRESS, address)
    _ask_route("set hardware address", _NEWLINK, NLM_F_ACK, body, name)


def add_address(name: str, address: str, prefix_length: int) -> None:
    """Gives it an IPv4 address, and the network that is reached through it a route."""
    packed = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, prefix_length, 0, 0, _index(name))
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    _ask_route("add address", _NEWADDR, _MAKE, body, name)


def add_default_route(name: str, gateway: str) -> None:
    """Sends all that no other route takes to ``gateway``, a neighbour on this interface."""
    body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, 0, _UNICAST, 0)
    body += attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
    body += attribute(_RTA_OIF, struct.pack("=I", _index(name)))
    _ask_route("add default route", _NEWROUTE, _MAKE, body, name)


def wait_until_up(name: str) -> None:
    """Returns when what is sent is not dropped any more: for a few milliseconds after the other end
    was set up the kernel has not noticed yet. OSError (ETIMEDOUT) when there is no other end."""
    end = time.monotonic() + _PATIENCE_S
    while _operational_state(name) not in (_STATE_UNKNOWN, _STATE_UP):
        if time.monotonic() > end:
            number = errno.ETIMEDOUT
            raise OSError(number, f"wait for carrier of {name}: {os.strerror(number)}")
        time.sleep(_PAUSE_S)


def _operational_state(name: str) -> int:
    with Netlink(NETLINK_ROUTE) as kernel:
        request = Request(f"look at {name}", _GETLINK, NLM_F_ACK, _link(_index(name)))
        (answer,) = kernel.query(request)
    return parse_attributes(answer[_LINK.size :])[_IFLA_OPERSTATE][0]


def configure(name: str, address: str, prefix_length: int, gateway: str) -> None:
    """All that an interface needs for a function to use it: address, up, default route."""
    add_address(name, address, prefix_length)
    set_up(name)
    add_default_route(name, gateway)
    wait_until_up(name)


def move_to_namespace(name: str, namespace: int, new_name: str | None = None) -> None:
    """Gives it to the network namespace that the descriptor stands for. It is down there and has
    lost its addresses; its hardware address stays."""
    body = _link(_index(name)) + attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
    if new_name is not None:
        body += text(_IFLA_IFNAME, _checked(new_name))
    _ask_route("move to namespace", _NEWLINK, NLM_F_ACK, body, name)


def add_pair(pair: Pair, far_namespace: int) -> None:
    """A cable: one end here, the other one in the namespace of the descriptor. Either end takes the
    other with it when it goes."""
    far = _link() + text(_IFLA_IFNAME, _checked(pair.far))
    far += attribute(_IFLA_NET_NS_FD, struct.pack("=I", far_namespace))
    body = _link() + text(_IFLA_IFNAME, _checked(pair.near))
    body += nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, nested(_VETH_INFO_PEER, far)),
    )
    _ask_route("add pair", _NEWLINK, _MAKE, body, pair.near)


def remove(name: str) -> None:
    """Ends a virtual interface. OSError (ENODEV) when there is none."""
    _ask_route("remove", _DELLINK, NLM_F_ACK, _link(_index(name)), name)


def list_routes() -> list[Route]:
    """Where IPv4 goes from here, this host's own addresses among it; without default routes."""
    body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    with Netlink(NETLINK_ROUTE) as kernel:
        answers = kernel.query(Request("list routes", _GETROUTE, NLM_F_DUMP, body))
    names = dict(socket.if_nameindex())
    found = []
    for answer in answers:
        _, length, _, _, table, *_ = _ROUTE.unpack_from(answer)
        attributes = parse_attributes(answer[_ROUTE.size :])
        if _RTA_DST not in attributes or table not in (_TABLE_MAIN, _TABLE_LOCAL):
            continue
        (index,) = struct.unpack("=I", attributes.get(_RTA_OIF, bytes(4)))
        network = ipaddress.IPv4Network((attributes[_RTA_DST], length))
        found.append(Route(network, names.get(index, "")))
    return found


def read_setting(name: str) -> str | None:
    """A kernel setting below ``net``, such as ``ipv4/ip_forward``, of the calling thread's
    namespace; None where the kernel has no such setting."""
    try:
        with open(f"{_SYSCTL}/{name}") as source:
            return source.read().strip()
    except FileNotFoundError:
        return None


def write_setting(name: str, value: str) -> None:
    """Changes one in the calling thread's namespace."""
    # A raw descriptor: a buffered file would report a refusal only when it is closed.
    fd = os.open(f"{_SYSCTL}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def disable_ipv6() -> None:
    """For all interfaces of the namespace, those to come included. A kernel without it is fine."""
    for scope in ("all", "default"):
        setting = f"ipv6/conf/{scope}/disable_ipv6"
        if read_setting(setting) is not None:
            write_setting(setting, "1")


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        # The library's own error names no interface, and on some versions has no number.
        raise OSError(errno.ENODEV, f"no interface is named {name}") from None


def _checked(name: str) -> str:
    if not 0 < len(name.encode()) <= _NAME_BYTES_MAX:
        raise ValueError(f"an interface's name has 1 to {_NAME_BYTES_MAX} bytes: {name!r}")
    return name


def _link(index: int = 0, flags: int = 0, changed: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, changed)


def _ask_route(step: str, kind: int, flags: int, body: bytes, name: str) -> None:
    with Netlink(NETLINK_ROUTE) as kernel:
        kernel.ask(Request(f"{step} {name}", kind, flags, body))
