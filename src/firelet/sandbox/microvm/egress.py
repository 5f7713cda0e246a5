"""The way out for machines that may have one: translated addresses, and what stays out of reach.

    guest ── TAP  [ the machine's namespace ]  out0 ── veth ── fl…  [ the host ] ── the world
             all the same addresses    translated to a /30 of the transit network
                                                        translated to the host's address

Machines are kept from each other, from all addresses of the host, and from what is not public
(``CLOSED``), unless it is allowed. What is here ends with the platform: the host's table belongs
to a socket, and a cable to the machine's namespace.
What it is not: opt-out. A machine that is not connected reaches nothing (``network``).
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TypeVar

from firelet.guest.machine_network import GUEST_ADDRESS, TAP_NAME
from firelet.linux import interfaces, namespaces, nftables
from firelet.linux.netlink import NETLINK_NETFILTER, Netlink
from firelet.model.errors import PlatformError

T = TypeVar("T")

TRANSIT = IPv4Network("10.203.0.0/16")
# Not public, by RFC 6890: this host, private, carrier's, loopback, link-local with the metadata
# services of clouds, multicast, reserved with broadcast.
CLOSED = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_OUT = "out0"
_SLOT_PREFIX_LENGTH = 30
_NOT_FORWARDING = (
    "net.ipv4.ip_forward is 0: the host passes nothing on. firelet does not change that, because "
    "it is the whole host's: `sysctl -w net.ipv4.ip_forward=1`."
)
_ONLY_ROOT = "Only root may give machines a way out."
_IS_TAKEN = (errno.EEXIST, errno.EPERM)  # EPERM: the socket of another process owns the table
_ONGOING = nftables.ESTABLISHED | nftables.RELATED


class NetworkRefused(PlatformError):
    """This host cannot give machines a network, or not this one; says what is missing. The
    sentences are ours."""


class TransitTaken(NetworkRefused):
    """Another process has that transit network."""


@dataclass(frozen=True, slots=True)
class NetworkVerdict:
    """``detail``: what is there, or what is missing, for people."""

    is_possible: bool
    detail: str


class NatGateway:
    """The host's side of the ways out of one platform's machines, and the owner of their transit
    network. Its methods block for a few milliseconds; ``connect`` may be called by several threads.

    ``allowed``: networks that guests may reach although they are closed or the host's own.
    ``outside``: a descriptor of the namespace that counts as the host; the process's own if None.
    """

    def __init__(
        self,
        *,
        transit: IPv4Network = TRANSIT,
        allowed: tuple[IPv4Network, ...] = (),
        outside: int | None = None,
    ) -> None:
        """ValueError for a transit network that holds no /30 or more than interface names tell."""
        if not 16 <= transit.prefixlen <= _SLOT_PREFIX_LENGTH:
            raise ValueError(f"a transit network has a prefix of 16 to 30 bits: {transit}")
        self._transit = transit
        self._allowed = allowed
        self._outside = outside
        self._kernel: Netlink | None = None
        # The slot that was given back first is used first: its old cable has gone by then.
        self._free = collections.deque(range(1 << (_SLOT_PREFIX_LENGTH - transit.prefixlen)))

    @property
    def _prefix(self) -> str:
        """What the host's ends of this gateway's cables are called, so that rules know them."""
        return f"fl{self._transit.network_address.packed[:3].hex()}-"

    def open(self) -> None:
        """NetworkRefused, with the reason."""
        if os.geteuid() != 0:
            raise NetworkRefused(_ONLY_ROOT)
        with _refusing("the host's table"):
            self._in_outside(self._check)
            self._kernel = self._in_outside(lambda: Netlink(NETLINK_NETFILTER))
            try:
                chains = host_chains(self._prefix, self._transit, self._allowed)
                nftables.add_table(self._kernel, f"firelet {self._transit}", chains, is_owned=True)
            except OSError as error:
                self.close()
                if error.errno in _IS_TAKEN:
                    raise TransitTaken(
                        f"Another platform has {self._transit} for its machines."
                    ) from error
                raise

    def close(self) -> None:
        """Takes the table away. What machines that are still connected send leaves untranslated,
        and no answer finds its way back."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None

    def connect(self, namespace: int) -> int:
        """Gives the machine in this namespace a way out: the number to ``disconnect`` with. An
        address that the host gets later is closed by the host's rules alone."""
        if self._kernel is None:
            raise NetworkRefused("The way out is closed.")
        try:
            slot = self._free.popleft()
        except IndexError:
            raise NetworkRefused(f"{self._transit} has no address left for a machine.") from None
        try:
            with _refusing("a way out"):
                near, far = self._ends(slot)
                own = self._in_outside(lambda: self._lay_cable(slot, near, namespace))
                chains = machine_chains(self._allowed, own)
                namespaces.run_in_network(namespace, lambda: _open_inside(far, near, chains))
                self._in_outside(lambda: interfaces.wait_until_up(self._cable(slot)))
        except BaseException:
            self._free.append(slot)
            raise
        return slot

    def disconnect(self, slot: int) -> None:
        """The cable itself goes with the machine's namespace."""
        self._free.append(slot)

    def _check(self) -> None:
        if not _is_forwarding():
            raise NetworkRefused(_NOT_FORWARDING)
        for network, interface in interfaces.list_routes():
            if network.overlaps(self._transit) and not interface.startswith(self._prefix):
                raise NetworkRefused(
                    f"{self._transit}, the transit network of machines, overlaps {network}, "
                    f"which this host reaches through {interface or 'a route'}."
                )

    def _ends(self, slot: int) -> tuple[str, str]:
        """The addresses of the host's end and the machine's."""
        base = self._transit.network_address + 4 * slot
        return str(base + 1), str(base + 2)

    def _cable(self, slot: int) -> str:
        """The host's end. Gateways that share the first three bytes have other numbers."""
        first = self._transit.network_address.packed[3] // 4
        return f"{self._prefix}{first + slot:x}"

    def _lay_cable(self, slot: int, address: str, namespace: int) -> list[IPv4Network]:
        """Returns what addresses the host has now, without those of cables."""
        near = self._cable(slot)
        pair = interfaces.Pair(near, _OUT)
        try:
            interfaces.add_pair(pair, namespace)
        except FileExistsError:
            # Of a machine that has gone and that the kernel has not cleared away yet: nobody else
            # may have this name while the table is ours.
            _remove_stale(near)
            interfaces.add_pair(pair, namespace)
        if interfaces.read_setting(f"ipv6/conf/{near}/disable_ipv6") is not None:
            interfaces.write_setting(f"ipv6/conf/{near}/disable_ipv6", "1")
        interfaces.add_address(near, address, _SLOT_PREFIX_LENGTH)
        interfaces.set_up(near)
        return [
            network
            for network, interface in interfaces.list_routes()
            if network.prefixlen == network.max_prefixlen and not interface.startswith(self._prefix)
        ]

    def _in_outside(self, function: Callable[[], T]) -> T:
        if self._outside is None:
            return function()
        return namespaces.run_in_network(self._outside, function)


def _remove_stale(name: str) -> None:
    try:
        interfaces.remove(name)
    except OSError as error:
        if error.errno != errno.ENODEV:  # else it has gone by itself meanwhile
            raise


def _open_inside(address: str, gateway: str, chains: list[nftables.Chain]) -> None:
    """The machine's own namespace: who came in by the TAP leaves with the transit address. The
    rules come first, as the namespace passes packets on already."""
    with Netlink(NETLINK_NETFILTER) as kernel:
        nftables.add_table(kernel, "machine", chains, is_owned=False)
    interfaces.configure(_OUT, address, _SLOT_PREFIX_LENGTH, gateway)


def machine_chains(
    allowed: tuple[IPv4Network, ...], own: Sequence[IPv4Network]
) -> list[nftables.Chain]:
    """What is passed on in a machine's namespace. ``own``: addresses of the host.

    What is closed is closed here too: these rules last as long as the machine, while the host's
    go with the platform, which may crash a moment before its machines end. A packet that belongs
    to no connection would leave with the guest's own address, and so is not passed on.
    """
    guest = nftables.comes_from(TAP_NAME) + nftables.source_in(IPv4Network(GUEST_ADDRESS))
    guest += nftables.is_connection(nftables.NEW | _ONGOING)
    rules = [guest + nftables.destination_in(each) + nftables.ACCEPT for each in allowed]
    rules += [
        nftables.comes_from(TAP_NAME) + nftables.destination_in(each) + nftables.DROP
        for each in (*own, *CLOSED)
    ]
    rules.append(guest + nftables.ACCEPT)
    rules.append(nftables.comes_from(_OUT) + nftables.is_connection(_ONGOING) + nftables.ACCEPT)
    return [
        nftables.Chain(
            "forward",
            "filter",
            nftables.FORWARD,
            nftables.FILTER_PRIORITY,
            rules,
            is_accepting=False,
        ),
        nftables.Chain(
            "leave",
            "nat",
            nftables.POST_ROUTING,
            nftables.SOURCE_NAT_PRIORITY,
            [nftables.goes_to(_OUT) + nftables.MASQUERADE],
        ),
    ]


def host_chains(
    prefix: str, transit: IPv4Network, allowed: tuple[IPv4Network, ...]
) -> list[nftables.Chain]:
    """What machines may reach of the host and through it. Packets of others are left alone, but
    for those to machines, which nobody may call, other machines included."""
    machine = nftables.comes_from(f"{prefix}*")
    to_machine = nftables.goes_to(f"{prefix}*")
    accepted = [machine + nftables.destination_in(each) + nftables.ACCEPT for each in allowed]
    closed = [machine + nftables.destination_in(each) + nftables.DROP for each in CLOSED]
    forward = [
        to_machine + nftables.is_connection(_ONGOING) + nftables.ACCEPT,
        to_machine + nftables.DROP,
        *accepted,
        *closed,
    ]
    return [
        nftables.Chain(
            "input",
            "filter",
            nftables.LOCAL_IN,
            nftables.FILTER_PRIORITY,
            [*accepted, machine + nftables.DROP],
        ),
        nftables.Chain("forward", "filter", nftables.FORWARD, nftables.FILTER_PRIORITY, forward),
        nftables.Chain(
            "leave",
            "nat",
            nftables.POST_ROUTING,
            nftables.SOURCE_NAT_PRIORITY,
            [nftables.source_in(transit) + nftables.MASQUERADE],
        ),
    ]


def probe_nat() -> NetworkVerdict:
    """Whether machines of this host could have a way out. It is tried in namespaces that are
    thrown away; of the host itself only the setting is read. Never raises; blocks."""
    if os.geteuid() != 0:
        return NetworkVerdict(False, _ONLY_ROOT)
    try:
        namespaces.run_in_new_network(_try_nat)
    except (OSError, NetworkRefused) as error:
        return NetworkVerdict(False, f"the kernel lacks something: {error}")
    if not _is_forwarding():
        return NetworkVerdict(False, _NOT_FORWARDING)
    return NetworkVerdict(True, "nftables and veth work, and net.ipv4.ip_forward is 1")


def _is_forwarding() -> bool:
    return interfaces.read_setting("ipv4/ip_forward") == "1"


def _try_nat(host: int) -> None:
    interfaces.write_setting("ipv4/ip_forward", "1")
    gateway = NatGateway(outside=host)
    with contextlib.closing(gateway):
        gateway.open()
        namespaces.run_in_new_network(gateway.connect)


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NetworkRefused(f"Machines get no network: {what}: {error.strerror}.") from error
