"""The ways out of machines: what is reached, by which address, and what is not. A kernel behind the
TAP plays the guest, and a host and a world are namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

import wired_guests
from firelet.guest import machine_network
from firelet.linux import interfaces
from firelet.sandbox.microvm import egress
from firelet.sandbox.microvm.egress import NatGateway, NetworkRefused
from firelet.sandbox.microvm.network import MachineNetwork
from wired_guests import call, gateway, greeting, host_and_world, opened, reachable, wired

_MISSING = wired_guests.network_missing() or wired_guests.nat_missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

GATEWAY = machine_network.HOST_ADDRESS
METADATA = "169.254.169.254"
PRIVATE = "192.168.77.1"
CRASHING = """
import asyncio, sys, time
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.network import MachineNetwork

async def main():
    gateway = NatGateway(outside=int(sys.argv[1]))
    gateway.open()
    network = MachineNetwork(egress=gateway)
    await network.open()
    print("open", flush=True)
    time.sleep(60)

asyncio.run(main())
"""


async def test_a_machine_with_a_way_out_calls_the_world_by_the_hosts_address() -> None:
    """And leaves nothing in the host when it is closed."""
    with host_and_world() as (host, world), greeting(world) as port:
        before = host.run(socket.if_nameindex)
        with gateway(host) as way:
            async with opened(way) as machine, opened(way) as other:
                for each in (machine, other):
                    with wired(each) as guest:
                        found = guest.run(lambda: call(wired_guests.WORLD, port))
                        assert found == wired_guests.HOST_OUTSIDE
                assert len(host.run(socket.if_nameindex)) == len(before) + 2
            await interfaces_become(host, before)


async def interfaces_become(place: wired_guests.Place, expected: list[tuple[int, str]]) -> None:
    """The kernel takes namespaces apart in the background."""
    async with asyncio.timeout(30):
        while place.run(socket.if_nameindex) != expected:
            await asyncio.sleep(0.01)


async def test_a_way_out_leads_neither_to_the_host_nor_to_what_is_not_public() -> None:
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world(METADATA, PRIVATE))
        way = stack.enter_context(gateway(host))
        port, host_port = (stack.enter_context(greeting(each)) for each in (world, host))
        # The host reaches them: it is the rules that keep the guest away.
        closed = [METADATA, PRIVATE]
        assert host.run(lambda: reachable(closed, port)) == sorted(closed)
        async with opened(way) as machine, opened(way) as other:
            guest = stack.enter_context(wired(machine))
            public = [wired_guests.WORLD]
            assert guest.run(lambda: reachable([*closed, *public], port)) == public
            own = [str(each.network) for each in host.run(interfaces.list_routes)]
            addresses = [each.removesuffix("/32") for each in own if each.endswith("/32")]
            assert {"127.0.0.1", wired_guests.HOST_OUTSIDE, "10.203.0.1"} <= set(addresses)
            assert guest.run(lambda: reachable(addresses, host_port)) == []
            # Nor is another machine: the other one's end of its cable.
            other_port = stack.enter_context(greeting(other))
            assert guest.run(lambda: reachable(["10.203.0.6"], other_port)) == []
            stack.close()


async def test_what_is_closed_stays_closed_when_the_platform_goes_before_its_machines() -> None:
    """Its rules in the host go with it, as they do in a crash."""
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world(METADATA, PRIVATE))
        way = stack.enter_context(gateway(host))
        # The world knows the way back even without the host's translation.
        world.run(lambda: interfaces.add_default_route("port", wired_guests.HOST_OUTSIDE))
        port, host_port = (stack.enter_context(greeting(each)) for each in (world, host))
        async with opened(way) as machine:
            guest = stack.enter_context(wired(machine))
            way.close()
            assert guest.run(lambda: call(wired_guests.WORLD, port)) == "10.203.0.2"
            assert guest.run(lambda: reachable([METADATA, PRIVATE], port)) == []
            own = [wired_guests.HOST_OUTSIDE, "10.203.0.1"]
            assert guest.run(lambda: reachable(own, host_port)) == []
            stack.close()


async def test_a_process_in_the_namespace_is_kept_to_the_same_rules() -> None:
    """Firecracker's, taken over by its guest: what it sends does not come from the TAP."""
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world(METADATA, PRIVATE))
        way = stack.enter_context(gateway(host))
        port, host_port = (stack.enter_context(greeting(each)) for each in (world, host))
        async with opened(way) as machine:
            asked = [METADATA, PRIVATE, wired_guests.WORLD]
            found = machine.run_inside(lambda: reachable(asked, port))
            assert found == [wired_guests.WORLD]
            own = [wired_guests.HOST_OUTSIDE, "10.203.0.1"]
            assert machine.run_inside(lambda: reachable(own, host_port)) == []
            stack.close()


async def test_what_is_allowed_is_reached_and_no_more() -> None:
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world(METADATA, PRIVATE))
        allowed = (f"{PRIVATE}/32", f"{wired_guests.HOST_OUTSIDE}/32")
        way = stack.enter_context(gateway(host, *allowed))
        port, host_port = (stack.enter_context(greeting(each)) for each in (world, host))
        async with opened(way) as machine:
            guest = stack.enter_context(wired(machine))
            assert guest.run(lambda: call(PRIVATE, port)) == wired_guests.HOST_OUTSIDE
            assert guest.run(lambda: call(wired_guests.HOST_OUTSIDE, host_port)) == "10.203.0.2"
            assert guest.run(lambda: reachable([METADATA], port)) == []
            assert guest.run(lambda: reachable(["10.203.0.1"], host_port)) == []
            stack.close()


async def test_nobody_calls_a_machine_from_outside() -> None:
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world())
        way = stack.enter_context(gateway(host))
        world.run(lambda: interfaces.add_default_route("port", wired_guests.HOST_OUTSIDE))
        async with opened(way) as machine:
            port = stack.enter_context(greeting(machine))
            guest = stack.enter_context(wired(machine))
            assert guest.run(lambda: reachable([GATEWAY], port)) == [GATEWAY]
            for caller in (host, world):
                assert caller.run(lambda: reachable(["10.203.0.2"], port)) == []
            stack.close()


async def test_a_packet_with_a_borrowed_address_stays_inside() -> None:
    """Neither translated nor passed on as it is."""
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world())
        way = stack.enter_context(gateway(host))
        async with opened(way) as machine:
            guest = stack.enter_context(wired(machine))
            server = world.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            stack.enter_context(server)
            server.bind((wired_guests.WORLD, 0))
            server.settimeout(30)
            port = server.getsockname()[1]

            def send(source: str) -> None:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.bind((source, 0))
                    client.sendto(source.encode(), (wired_guests.WORLD, port))

            guest.run(lambda: interfaces.add_address(wired_guests.DEVICE, "198.51.100.9", 32))
            guest.run(lambda: send("198.51.100.9"))
            guest.run(lambda: send(machine_network.GUEST_ADDRESS))
            data, (source, _) = server.recvfrom(100)
            assert (data.decode(), source) == (
                machine_network.GUEST_ADDRESS,
                wired_guests.HOST_OUTSIDE,
            )
            server.settimeout(0.5)
            with pytest.raises(TimeoutError):
                server.recvfrom(100)
            stack.close()


async def test_a_packet_of_no_connection_stays_inside() -> None:
    """It would not be translated, and leave with the address that all guests have."""
    with contextlib.ExitStack() as stack:
        host, world = stack.enter_context(host_and_world())
        way = stack.enter_context(gateway(host))
        async with opened(way) as machine:
            guest = stack.enter_context(wired(machine))

            def open_raw() -> socket.socket:
                return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)

            heard, sender = (stack.enter_context(each.run(open_raw)) for each in (world, guest))
            heard.settimeout(0.5)
            reset = struct.pack("!HHIIBBHHH", 4_000, 4_001, 1, 0, 0x50, 0x04, 0, 0, 0)
            sender.sendto(with_checksum(reset), (wired_guests.WORLD, 0))
            with pytest.raises(TimeoutError):
                heard.recv(100)
            # What is one's beginning is heard, so that this one could have been.
            heard.settimeout(30)
            start = struct.pack("!HHIIBBHHH", 4_000, 4_001, 1, 0, 0x50, 0x02, 0, 0, 0)
            sender.sendto(with_checksum(start), (wired_guests.WORLD, 0))
            assert heard.recv(100)[12:16] == socket.inet_aton(wired_guests.HOST_OUTSIDE)
            stack.close()


def with_checksum(segment: bytes) -> bytes:
    """A TCP segment of 20 bytes from the guest to the world. Source: RFC 9293, section 3.1."""
    ends = map(socket.inet_aton, (machine_network.GUEST_ADDRESS, wired_guests.WORLD))
    covered = b"".join(ends) + struct.pack("!HH", socket.IPPROTO_TCP, len(segment)) + segment
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]


async def test_neither_side_of_a_cable_has_addresses_of_ipv6() -> None:
    """For which there are no rules."""
    with host_and_world() as (host, _):
        before = host.run(ipv6_addresses)
        with gateway(host) as way:
            async with opened(way) as machine:
                assert machine.run_inside(ipv6_addresses) == []
                assert host.run(ipv6_addresses) == before


def ipv6_addresses() -> list[str]:
    """The last word of each line is the interface."""
    table = Path("/proc/thread-self/net/if_inet6")
    return [line.split()[-1] for line in table.read_text().splitlines()] if table.exists() else []


async def test_ways_out_are_refused_with_the_reason() -> None:
    with host_and_world() as (host, _), gateway(host):
        taken = NatGateway(outside=host.fd)
        with pytest.raises(NetworkRefused, match=r"Another platform has 10\.203\.0\.0/16"):
            taken.open()
    with host_and_world() as (host, _):
        host.run(lambda: interfaces.add_address("uplink", "10.203.7.1", 24))
        with pytest.raises(NetworkRefused, match=r"overlaps 10\.203\.7\.0/24.*uplink"):
            NatGateway(outside=host.fd).open()
    with host_and_world() as (host, _):
        host.run(lambda: interfaces.write_setting("ipv4/ip_forward", "0"))
        with pytest.raises(NetworkRefused, match="ip_forward is 0"):
            NatGateway(outside=host.fd).open()
        assert host.run(lambda: interfaces.read_setting("ipv4/ip_forward")) == "0"
    with pytest.raises(NetworkRefused, match="closed"):
        await MachineNetwork(egress=NatGateway()).open()
    with host_and_world() as (host, _):
        small = NatGateway(transit=IPv4Network("10.203.0.0/30"), outside=host.fd)
        with contextlib.closing(small):
            small.open()
            async with opened(small):
                with pytest.raises(NetworkRefused, match="no address left"):
                    await MachineNetwork(egress=small).open()
            async with opened(small) as again:
                assert again.tap_fd > 0


def test_only_the_hosts_own_setting_may_stand_against_a_way_out() -> None:
    """The probe changes nothing of the host."""
    is_forwarding = interfaces.read_setting("ipv4/ip_forward") == "1"
    verdict = egress.probe_nat()
    assert verdict.is_possible is is_forwarding
    assert f"ip_forward is {int(is_forwarding)}" in verdict.detail


async def test_a_crash_of_the_platform_leaves_nothing_in_the_host() -> None:
    with host_and_world() as (host, _):
        before = host.run(socket.if_nameindex)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CRASHING, str(host.fd)),
            stdout=subprocess.PIPE,
            pass_fds=[host.fd],
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"open\n"
        assert len(host.run(socket.if_nameindex)) == len(before) + 1
        child.kill()
        await child.wait()
        await interfaces_become(host, before)
        with gateway(host):  # the table has gone too: it would be somebody else's
            pass
