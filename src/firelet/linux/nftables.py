"""Tables of nftables: what passes, what does not, and whose address it bears.

What it is: expressions as bytes, rules as their concatenation, and a table that comes to be as a
whole or not at all. IPv4 only. What it is not: a policy; ``sandbox/microvm/egress`` has it.
A table may be owned by the socket that made it: it goes with that socket, also in a crash.
Source: nft(8), include/uapi/linux/netfilter/nf_tables.h; owned tables from kernel 5.12 on.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Network
from typing import NamedTuple, Sequence

from firelet.linux.netlink import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Netlink,
    Request,
    attribute,
    nested,
    text,
)

LOCAL_IN, FORWARD, POST_ROUTING = 1, 2, 4
FILTER_PRIORITY, SOURCE_NAT_PRIORITY = 0, 100
ESTABLISHED, RELATED, NEW = 2, 4, 8  # states of a connection, to be combined

_SUBSYSTEM = 10
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE = ((_SUBSYSTEM << 8) | number for number in (0, 3, 6))
_TABLE_NAME, _TABLE_FLAGS, _TABLE_IS_OWNED = 1, 2, 2
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 1, 3, 4, 5, 7
_HOOK_NUMBER, _HOOK_PRIORITY = 1, 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_DATA_VALUE, _DATA_VERDICT, _VERDICT_CODE = 1, 2, 1
_VERDICT_REGISTER, _REGISTER = 0, 1
_EQUAL, _NOT_EQUAL = 0, 1
_NETWORK_HEADER, _SOURCE_OFFSET, _DESTINATION_OFFSET = 1, 12, 16  # of an IPv4 header
_META_INPUT_NAME, _META_OUTPUT_NAME = 6, 7
_CT_STATE = 0
_NF_DROP, _NF_ACCEPT = 0, 1
_NAME_BYTES = 16


class Chain(NamedTuple):
    """``kind``: "filter" or "nat". ``rules`` are asked in order, each a concatenation of
    expressions that ends with a verdict or MASQUERADE; what none decides is accepted, or not."""

    name: str
    kind: str
    hook: int
    priority: int
    rules: Sequence[bytes]
    is_accepting: bool = True


def add_table(kernel: Netlink, name: str, chains: Sequence[Chain], *, is_owned: bool) -> None:
    """Makes a table in the namespace of ``kernel``, a socket of NETLINK_NETFILTER.

    OSError: EEXIST when one of that name is there, EOPNOTSUPP for an owned table on an old kernel,
    ENOENT for a part that the kernel does not have; the step says which.
    """
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
    table = text(_TABLE_NAME, name)
    table += attribute(_TABLE_FLAGS, _big(_TABLE_IS_OWNED if is_owned else 0))
    requests = [Request("begin batch", _BATCH_BEGIN, 0, _generic(socket.AF_UNSPEC, _SUBSYSTEM))]
    requests.append(_request(f"add table {name}", _NEWTABLE, flags, table))
    for chain in chains:
        body = _chain_attributes(name, chain)
        requests.append(_request(f"add {chain.kind} chain {chain.name}", _NEWCHAIN, flags, body))
        for number, rule in enumerate(chain.rules):
            step = f"add rule {number} of {chain.name}"
            body = text(_RULE_TABLE, name) + text(_RULE_CHAIN, chain.name)
            body += nested(_RULE_EXPRESSIONS, rule)
            requests.append(_request(step, _NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND, body))
    requests.append(Request("end batch", _BATCH_END, 0, _generic(socket.AF_UNSPEC, _SUBSYSTEM)))
    kernel.ask(*requests)


def comes_from(name: str) -> bytes:
    """Holds for packets that came in through this interface; one that ends with ``*`` stands for
    all whose names begin so."""
    return _meta(_META_INPUT_NAME) + _compare_name(name)


def goes_to(name: str) -> bytes:
    """The same for the interface that they will leave through."""
    return _meta(_META_OUTPUT_NAME) + _compare_name(name)


def source_in(network: IPv4Network) -> bytes:
    return _address(_SOURCE_OFFSET, network)


def destination_in(network: IPv4Network) -> bytes:
    return _address(_DESTINATION_OFFSET, network)


def is_connection(states: int) -> bytes:
    """Holds for packets of a connection in any of these states."""
    key = attribute(1, _big(_REGISTER)) + attribute(2, _big(_CT_STATE))
    # The register holds the state in the host's order.
    mask = struct.pack("=I", states)
    return _expression("ct", key) + _mask(mask) + _compare(bytes(4), _NOT_EQUAL)


def _verdict(code: int) -> bytes:
    verdict = nested(_DATA_VERDICT, attribute(_VERDICT_CODE, _big(code)))
    return _expression("immediate", attribute(1, _big(_VERDICT_REGISTER)) + nested(2, verdict))


def _expression(name: str, data: bytes) -> bytes:
    return nested(_LIST_ELEMENT, text(_EXPRESSION_NAME, name), nested(_EXPRESSION_DATA, data))


def _meta(key: int) -> bytes:
    return _expression("meta", attribute(1, _big(_REGISTER)) + attribute(2, _big(key)))


def _compare_name(name: str) -> bytes:
    if name.endswith("*"):
        return _compare(name[:-1].encode(), _EQUAL)  # as many bytes as there are
    return _compare(name.encode().ljust(_NAME_BYTES, b"\0"), _EQUAL)


def _address(offset: int, network: IPv4Network) -> bytes:
    load = attribute(1, _big(_REGISTER)) + attribute(2, _big(_NETWORK_HEADER))
    load += attribute(3, _big(offset)) + attribute(4, _big(4))
    masked = _mask(network.netmask.packed)
    return _expression("payload", load) + masked + _compare(network.network_address.packed, _EQUAL)


def _mask(mask: bytes) -> bytes:
    """The register, of which ``mask`` is left."""
    body = attribute(1, _big(_REGISTER)) + attribute(2, _big(_REGISTER))
    body += attribute(3, _big(len(mask)))
    body += nested(4, attribute(_DATA_VALUE, mask))
    body += nested(5, attribute(_DATA_VALUE, bytes(len(mask))))
    return _expression("bitwise", body)


def _compare(value: bytes, operator: int) -> bytes:
    body = attribute(1, _big(_REGISTER)) + attribute(2, _big(operator))
    return _expression("cmp", body + nested(3, attribute(_DATA_VALUE, value)))


def _chain_attributes(table: str, chain: Chain) -> bytes:
    hook = attribute(_HOOK_NUMBER, _big(chain.hook))
    hook += attribute(_HOOK_PRIORITY, _big(chain.priority))
    policy = _NF_ACCEPT if chain.is_accepting else _NF_DROP
    body = text(_CHAIN_TABLE, table) + text(_CHAIN_NAME, chain.name) + nested(_CHAIN_HOOK, hook)
    return body + attribute(_CHAIN_POLICY, _big(policy)) + text(_CHAIN_TYPE, chain.kind)


def _request(step: str, kind: int, flags: int, attributes: bytes) -> Request:
    return Request(step, kind, flags, _generic(socket.AF_INET, 0) + attributes)


def _generic(family: int, resource: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack(">BBH", family, 0, resource)


def _big(number: int) -> bytes:
    return struct.pack(">I", number)


ACCEPT = _verdict(_NF_ACCEPT)
DROP = _verdict(_NF_DROP)
MASQUERADE = _expression("masq", b"")
