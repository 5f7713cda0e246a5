"""The networks of real machines: an emulated guest with a device speaks to its own host's side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import guest_images
from firelet.guest import machine_network
from firelet.sandbox.microvm import initramfs
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.network import MachineNetwork
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import VmSnapshot, VmSpec
from wired_guests import (
    HOST_OUTSIDE,
    PORT,
    WORLD,
    gateway,
    greeting,
    host_and_world,
    nat_missing,
    network_missing,
)

_MISSING = network_missing() or guest_images.missing()
_NO_NAT = nat_missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

MEMORY_MIB = 256
PYTHON = initramfs.default_python()
GATEWAY = machine_network.HOST_ADDRESS

PRELUDE = f"""
import os, socket, sys
sys.path.insert(0, "/.firelet/code")
from firelet.guest import machine_network
from firelet.linux import interfaces, namespaces
def call(address="{GATEWAY}"):
    with socket.socket() as host:
        host.connect((address, {PORT}))
        return host.recv(100).decode()
"""
LOAD_MODULES = f"""
from firelet.linux import machine
directory = "/{initramfs.OPTIONAL_MODULES_DIRECTORY}/"
if not os.path.exists("/sys/class/net/eth0"):
    for name in sorted(os.listdir(directory)):
        if name.endswith(("failover.ko", "virtio_net.ko")):
            machine.load_module(directory + name)
"""
CONFIGURE_AND_CALL = 'machine_network.configure_guest_side("eth0"); print(call())'
IN_A_NAMESPACE = """
def inside(namespace):
    namespaces.run_in_network(root, lambda: interfaces.move_to_namespace("eth0", namespace))
    machine_network.configure_guest_side("eth0")
    return call(), [name for _, name in socket.if_nameindex()]
root = os.open("/proc/self/ns/net", os.O_RDONLY)
print(*namespaces.run_in_new_network(inside), [name for _, name in socket.if_nameindex()])
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuestImage]:
    """An image whose Python has the guest's side of the network, be it part of every image or
    not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(initramfs, "MODULES", (*initramfs.MODULES, "firelet.guest.machine_network"))
        store = ImageStore(tmp_path_factory.mktemp("images"))
        yield store.build(guest_images.kernel_package(), PYTHON, None)


@dataclass
class Box:
    """A machine that has been started, its guest and its network."""

    machine: QemuVmm
    network: MachineNetwork
    guest: GuestChannel

    async def run(self, code: str) -> str:
        async with asyncio.timeout(guest_images.PATIENCE_S):
            ending = await self.guest.run([str(PYTHON), "-ISc", PRELUDE + code])
        assert ending.code == 0, ending.output.decode()
        return ending.output.decode().strip()


@contextlib.asynccontextmanager
async def started(
    image: GuestImage,
    directory: Path,
    snapshot: VmSnapshot | None = None,
    egress: NatGateway | None = None,
) -> AsyncIterator[Box]:
    """Booted, or a clone."""
    directory.mkdir()
    own = MachineNetwork(egress=egress)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(own.close)
        await own.open()
        spec = VmSpec(
            kernel=image.kernel,
            initrd=image.initrd,
            memory_mib=MEMORY_MIB,
            directory=directory,
            nic=own.nic,
        )
        machine = QemuVmm(spec, has_kvm=False)
        stack.push_async_callback(machine.stop)
        if snapshot is None:
            await machine.boot()
        else:
            await machine.restore(snapshot)
            await machine.resume()
        guest = GuestChannel(machine.take_channel())
        stack.callback(guest.close)
        async with asyncio.timeout(guest_images.PATIENCE_S):
            await (guest.hello() if snapshot is None else guest.awaken())
        box = Box(machine, own, guest)
        if snapshot is None:
            await box.run(LOAD_MODULES)
        yield box


async def test_a_guest_gives_its_device_to_a_namespace_that_calls_the_host(
    image: GuestImage, tmp_path: Path
) -> None:
    """As the guest's pid 1 does for the function's sandbox: outside of that there is no way."""
    async with started(image, tmp_path / "vm") as box:
        with greeting(box.network):
            told = await box.run(IN_A_NAMESPACE)
    assert told == f"{machine_network.GUEST_ADDRESS} ['lo', 'eth0'] ['lo']"


async def test_clones_of_one_snapshot_each_call_their_own_host(
    image: GuestImage, tmp_path: Path
) -> None:
    """With the same addresses, and with what the template knew of its neighbour."""
    async with started(image, tmp_path / "template") as box:
        with greeting(box.network, "template "):
            assert await box.run(CONFIGURE_AND_CALL) == (
                f"template {machine_network.GUEST_ADDRESS}"
            )
        await box.machine.pause()
        snapshot = await box.machine.snapshot(tmp_path)
    with contextlib.closing(snapshot):
        async with (
            started(image, tmp_path / "one", snapshot) as one,
            started(image, tmp_path / "other", snapshot) as other,
        ):
            with greeting(one.network, "one "), greeting(other.network, "other "):
                told = await asyncio.gather(one.run("print(call())"), other.run("print(call())"))
    assert told == [f"{word} {machine_network.GUEST_ADDRESS}" for word in ("one", "other")]


@pytest.mark.skipif(_NO_NAT is not None, reason=str(_NO_NAT))
async def test_a_clone_may_be_given_the_way_out_that_its_template_had_not(
    image: GuestImage, tmp_path: Path
) -> None:
    async with started(image, tmp_path / "template") as box:
        await box.run('machine_network.configure_guest_side("eth0")')
        with pytest.raises(AssertionError, match="Network is unreachable"):
            await box.run(f"print(call('{WORLD}'))")
        await box.machine.pause()
        snapshot = await box.machine.snapshot(tmp_path)
    with (
        contextlib.closing(snapshot),
        host_and_world() as (host, world),
        greeting(world),
        gateway(host) as way,
    ):
        async with started(image, tmp_path / "clone", snapshot, way) as clone:
            assert await clone.run(f"print(call('{WORLD}'))") == HOST_OUTSIDE
