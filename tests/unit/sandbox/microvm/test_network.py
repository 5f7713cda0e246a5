"""What is refused about machines' networks without any kernel, and what the rules are made of."""

from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from firelet.guest import machine_network
from firelet.linux import nftables
from firelet.sandbox.microvm import egress, network
from firelet.sandbox.microvm.egress import CLOSED, TRANSIT, NatGateway, NetworkRefused
from firelet.sandbox.microvm.network import MachineNetwork


@pytest.mark.parametrize("prefix", ["10.0.0.0/8", "10.0.0.0/31"])
def test_a_transit_network_must_hold_machines_and_have_names_for_them(prefix: str) -> None:
    with pytest.raises(ValueError, match="16 to 30 bits"):
        NatGateway(transit=IPv4Network(prefix))


@pytest.mark.parametrize("prefix_length", [20, 24, 28])
def test_no_two_gateways_of_one_host_call_their_cables_the_same(prefix_length: int) -> None:
    names = [
        NatGateway(transit=transit)._cable(slot)
        for transit in list(TRANSIT.subnets(new_prefix=prefix_length))[:16]
        for slot in range(1 << (30 - prefix_length))
    ]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15  # what an interface can be called


def test_what_is_not_open_has_no_parts() -> None:
    machine = MachineNetwork()
    for part in ("tap_fd", "namespace_fd", "namespace_path"):
        with pytest.raises(NetworkRefused, match="not open"):
            getattr(machine, part)
    machine.close()


def test_a_network_without_its_device_is_refused_and_a_probe_tells(tmp_path: Path) -> None:
    verdict = network.probe_network(str(tmp_path / "tun"))
    assert not verdict.is_possible
    assert verdict.detail.startswith("Machines get no network: ")


@pytest.mark.parametrize("more", [{"owner": 1}, {"egress": NatGateway()}])
async def test_others_than_root_give_no_ways_out(
    more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NetworkRefused, match="Only root"):
        await MachineNetwork(**more).open()  # type: ignore[arg-type]
    with pytest.raises(NetworkRefused, match="Only root"):
        NatGateway().open()
    assert egress.probe_nat() == egress.NetworkVerdict(
        False, "Only root may give machines a way out."
    )


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1"],
)
def test_closed_networks_cover_what_is_not_public(address: str) -> None:
    assert any(IPv4Network(address).subnet_of(network) for network in CLOSED)


@pytest.mark.parametrize(
    "address",
    ["1.0.0.1", "9.9.9.9", "52.94.1.1", "100.128.0.1", "172.32.0.1", "192.167.1.1", "223.5.5.5"],
)
def test_public_addresses_are_left_open(address: str) -> None:
    assert not any(IPv4Network(address).subnet_of(network) for network in CLOSED)


def test_the_transit_and_the_guests_addresses_are_closed_themselves() -> None:
    guest = IPv4Network(machine_network.GUEST_ADDRESS)
    assert all(any(each.subnet_of(closed) for closed in CLOSED) for each in (TRANSIT, guest))


def test_what_is_allowed_comes_before_what_is_closed() -> None:
    allowed = IPv4Network("10.9.0.0/16")
    incoming, forward, _ = egress.host_chains("fl-", TRANSIT, (allowed,))
    accept = nftables.comes_from("fl-*") + nftables.destination_in(allowed) + nftables.ACCEPT
    assert incoming.rules[0] == accept
    drops = [
        nftables.comes_from("fl-*") + nftables.destination_in(each) + nftables.DROP
        for each in CLOSED
    ]
    assert list(forward.rules[-len(CLOSED) :]) == drops
    assert forward.rules[-len(CLOSED) - 1] == accept
