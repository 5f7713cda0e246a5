"""The networks of machines without any machine: a kernel behind the TAP plays the guest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

import wired_guests
from firelet.guest import machine_network
from firelet.linux import interfaces, tap
from firelet.sandbox.microvm import egress, network
from firelet.sandbox.microvm.egress import NatGateway, NetworkRefused
from firelet.sandbox.microvm.network import MachineNetwork
from wired_guests import call, greeting, host_and_world, reachable, wired

_PROBE = network.probe_network() if os.geteuid() == 0 else None
pytestmark = pytest.mark.skipif(
    _PROBE is None or not _PROBE.is_possible,
    reason="root is missing" if _PROBE is None else _PROBE.detail,
)
_NO_NAT = wired_guests.nat_missing()
needs_nat = pytest.mark.skipif(_NO_NAT is not None, reason=str(_NO_NAT))

GATEWAY = machine_network.HOST_ADDRESS
GATEWAY_BYTES = socket.inet_aton(GATEWAY)
HOST = bytes.fromhex(machine_network.HOST_HARDWARE.replace(":", ""))
GUEST = bytes.fromhex(machine_network.GUEST_HARDWARE.replace(":", ""))
# Who has the gateway's address? Source: RFC 826.
ARP_QUESTION = b"".join(
    (
        *(bytes(tap.HEADER_BYTES), b"\xff" * 6, GUEST, b"\x08\x06"),
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1),
        *(GUEST, socket.inet_aton(machine_network.GUEST_ADDRESS), bytes(6), GATEWAY_BYTES),
    )
)
METADATA = "169.254.169.254"
PRIVATE = "192.168.77.1"
STRANGER = 65533
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


@contextlib.asynccontextmanager
async def opened(egress: NatGateway | None = None) -> AsyncIterator[MachineNetwork]:
    machine = MachineNetwork(egress=egress)
    try:
        await machine.open()
        yield machine
    finally:
        machine.close()


@pytest.fixture
async def machine() -> AsyncIterator[MachineNetwork]:
    """A network that is open, of a machine that has no way out."""
    async with opened() as machine:
        yield machine


@contextlib.contextmanager
def gateway(outside: wired_guests.Place, *allowed: str) -> Iterator[NatGateway]:
    made = NatGateway(outside=outside.fd, allowed=tuple(map(IPv4Network, allowed)))
    with contextlib.closing(made):
        made.open()
        yield made


async def test_a_frame_on_the_descriptor_is_answered_by_the_hosts_side(
    machine: MachineNetwork,
) -> None:
    """The answer has the hardware address that clones remember."""
    os.write(machine.tap_fd, ARP_QUESTION)
    answer = os.read(machine.tap_fd, 2_000)
    assert is_arp_answer(answer)


def is_arp_answer(frame: bytes) -> bool:
    answer = frame[tap.HEADER_BYTES :]
    return answer[:12] == GUEST + HOST and answer[20:32] == b"\x00\x02" + HOST + GATEWAY_BYTES


async def test_two_machines_with_the_same_addresses_each_have_their_own_host(
    machine: MachineNetwork,
) -> None:
    async with opened() as other:
        with greeting(machine, "one ") as port, greeting(other, "other ") as same_port:
            assert port == same_port
            with wired(machine) as guest, wired(other) as other_guest:
                for caller, word in ((guest, "one"), (other_guest, "other")):
                    found = caller.run(lambda: call(GATEWAY, port))
                    assert found == f"{word} {machine_network.GUEST_ADDRESS}"


async def test_without_a_way_out_nothing_of_the_host_is_reached(machine: MachineNetwork) -> None:
    """Not by the gateway's address, nor by any address that the host itself has."""
    before = (socket.if_nameindex(), interfaces.read_setting("ipv4/ip_forward"))
    own = [route.network for route in interfaces.list_routes() if route.network.prefixlen == 32]
    assert own
    with greeting(None) as port, wired(machine) as guest:
        assert call("127.0.0.1", port) == "127.0.0.1"
        addresses = [GATEWAY, *(str(each.network_address) for each in own)]
        assert guest.run(lambda: reachable(addresses, port)) == []
        devices = machine.run_inside(socket.if_nameindex)
        assert [name for _, name in devices] == ["lo", machine.tap_name]
        networks = {str(each.network) for each in machine.run_inside(interfaces.list_routes)}
        assert networks == {"169.254.100.0/30", "169.254.100.1/32", "169.254.100.3/32"}
    assert (socket.if_nameindex(), interfaces.read_setting("ipv4/ip_forward")) == before


async def test_without_a_way_out_calls_fail_at_once(machine: MachineNetwork) -> None:
    """As they do in a sandbox that has no network."""

    def call_world() -> list[int]:
        found = []
        for _ in range(5):
            with socket.socket() as client:
                client.settimeout(0.9)  # before the guest would try it again
                found.append(client.connect_ex((wired_guests.WORLD, 443)))
        return found

    with wired(machine) as guest:
        assert set(guest.run(call_world)) == {errno.ENETUNREACH}


async def test_the_threads_of_the_platform_stay_where_they_are() -> None:
    place = os.readlink("/proc/self/ns/net")
    async with opened() as machine:
        inside = f"net:[{os.fstat(machine.namespace_fd).st_ino}]"
        assert inside != place
        assert machine.run_inside(lambda: os.readlink("/proc/thread-self/ns/net")) == inside
    async with asyncio.timeout(5):  # the kernel ends a thread a little later than Python does
        while _namespaces_of_threads() != {place}:
            await asyncio.sleep(0.01)


def _namespaces_of_threads() -> set[str]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/task/{task}/ns/net"))
    return found


async def test_an_error_inside_comes_out(machine: MachineNetwork) -> None:
    with pytest.raises(OSError, match="no interface is named missing0"):
        machine.run_inside(lambda: interfaces.set_up("missing0"))


async def test_another_process_enters_by_the_path_and_opens_the_tap_as_its_owner() -> None:
    """As Firecracker's jailer does, which gives up root in between."""
    machine = MachineNetwork(owner=STRANGER)
    program = (
        "import os, sys; from firelet.linux import namespaces as n, tap;"
        "n.setns(os.open(sys.argv[1], os.O_RDONLY), n.CLONE_NEWNET);"
        "t = os.open(tap.DEVICE, os.O_RDWR); os.setresuid(*[int(sys.argv[3])] * 3);"
        "tap._open = lambda _: t;"
        "print(tap.open_tap(sys.argv[2]) == t)"
    )

    async def open_as(uid: int) -> tuple[int | None, str]:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, str(machine.namespace_path), machine.tap_name),
            str(uid),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await child.communicate()
        return child.returncode, output.decode()

    try:
        await machine.open()
        with pytest.raises(NetworkRefused, match="left to the uid"):
            _ = machine.tap_fd
        assert machine.nic.tap == machine.tap_name
        assert await open_as(STRANGER) == (0, "True\n")
        status, output = await open_as(STRANGER - 1)
        assert status == 1
        assert "Operation not permitted" in output
    finally:
        machine.close()


async def test_a_network_that_is_closed_twice_or_never_opened_is_fine() -> None:
    machine = MachineNetwork()
    machine.close()
    async with opened() as machine:
        machine.close()
        with pytest.raises(NetworkRefused, match="not open"):
            _ = machine.tap_fd


async def test_an_opening_that_is_cancelled_leaves_nothing() -> None:
    """The leak check sees the descriptors."""
    machine = MachineNetwork()
    opening = asyncio.create_task(machine.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    machine.close()


def test_a_host_without_the_device_says_so(tmp_path: Path) -> None:
    verdict = network.probe_network(str(tmp_path / "tun"))
    assert not verdict.is_possible
    assert "No such file or directory" in verdict.detail


@needs_nat
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
    async with asyncio.timeout(5):
        while place.run(socket.if_nameindex) != expected:
            await asyncio.sleep(0.01)


@needs_nat
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


@needs_nat
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


@needs_nat
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


@needs_nat
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


@needs_nat
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


@needs_nat
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
            server.settimeout(0.5)
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
            with pytest.raises(TimeoutError):
                server.recvfrom(100)
            stack.close()


@needs_nat
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


@needs_nat
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


@needs_nat
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


@needs_nat
def test_only_the_hosts_own_setting_may_stand_against_a_way_out() -> None:
    """The probe changes nothing of the host."""
    is_forwarding = interfaces.read_setting("ipv4/ip_forward") == "1"
    verdict = egress.probe_nat()
    assert verdict.is_possible is is_forwarding
    assert f"ip_forward is {int(is_forwarding)}" in verdict.detail


@needs_nat
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


def test_a_device_moves_to_another_namespace_under_another_name() -> None:
    """As a guest's only device does, to the function's namespace."""
    one, other = wired_guests.Place(), wired_guests.Place()
    try:
        one.run(lambda: interfaces.add_pair(interfaces.Pair("a", "b"), one.fd))
        one.run(lambda: interfaces.set_up("a"))
        one.run(lambda: interfaces.move_to_namespace("b", other.fd, "eth0"))
        other.run(lambda: interfaces.configure("eth0", "10.1.1.2", 30, "10.1.1.1"))
        assert [name for _, name in one.run(socket.if_nameindex)] == ["lo", "a"]
        routes = other.run(interfaces.list_routes)
        assert (IPv4Network("10.1.1.0/30"), "eth0") in routes
        one.run(lambda: interfaces.remove("a"))
        assert [name for _, name in other.run(socket.if_nameindex)] == ["lo"]
        with pytest.raises(OSError, match="add address lo") as caught:
            other.run(lambda: interfaces.add_address("lo", "127.0.0.1", 8))
        assert caught.value.errno == errno.EEXIST
    finally:
        one.close()
        other.close()


UNPRIVILEGED = """
import asyncio, os, sys
from firelet.sandbox.microvm.network import MachineNetwork, probe_network

async def main():
    network = MachineNetwork(device=sys.argv[1])
    await network.open()
    os.write(network.tap_fd, bytes.fromhex(sys.argv[2]))
    print(os.read(network.tap_fd, 2000).hex())
    network.close()

verdict = probe_network(sys.argv[1])
asyncio.run(main()) if verdict.is_possible else print(verdict.detail)
"""


@pytest.fixture(params=[0o600, 0o666])
def device(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A node of the TAP device like the kernel's, for root or for all, where every user may look;
    pytest's own directories are closed to others."""
    with tempfile.TemporaryDirectory(prefix="firelet-tun-") as directory:
        os.chmod(directory, 0o755)
        node = Path(directory, "tun")
        os.mknod(node, stat.S_IFCHR, Path(tap.DEVICE).stat().st_rdev)
        node.chmod(request.param)
        yield node


def test_without_root_a_user_namespace_has_the_network_if_the_device_is_for_all(
    device: Path,
) -> None:
    program = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("there is no Python that a user without rights could run")
    sources = Path(network.__file__).resolve().parents[3]
    answer = subprocess.run(
        [program, "-B", "-c", UNPRIVILEGED, str(device), ARP_QUESTION.hex()],
        env={"PYTHONPATH": str(sources)},
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "No module named 'firelet'" in answer.stderr:
        pytest.skip("a user without rights cannot read firelet's sources")
    assert answer.returncode == 0, answer.stderr
    if device.stat().st_mode & 0o006:
        assert is_arp_answer(bytes.fromhex(answer.stdout))
    else:
        assert f"{device} may not be opened by uid 65534" in answer.stdout
