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
from firelet.sandbox.microvm import network
from firelet.sandbox.microvm.egress import NetworkRefused
from firelet.sandbox.microvm.network import MachineNetwork
from wired_guests import call, greeting, opened, reachable, wired

_MISSING = wired_guests.network_missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

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
STRANGER = 65533


@pytest.fixture
async def machine() -> AsyncIterator[MachineNetwork]:
    """A network that is open, of a machine that has no way out."""
    async with opened() as machine:
        yield machine


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
    async with asyncio.timeout(30):  # the kernel ends a thread a little later than Python does
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
