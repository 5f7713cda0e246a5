"""Machines that a real Firecracker runs, directly and in its real jail.

On a host without KVM ``make test-firecracker`` runs these in an emulated machine that has it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import echo_guest
import guest_images
import real_firecracker
from firelet.sandbox.microvm import initramfs, vmlinux
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.guest_channel import GuestChannel
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.kernel import unpack_package
from firelet.sandbox.microvm.vmm import Drive, VmmRefused, VmSpec, VmState

pytestmark = [
    pytest.mark.usefixtures("nothing_leaks"),
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        real_firecracker.missing_for_machines() is not None,
        reason=str(real_firecracker.missing_for_machines()),
    ),
]

MEMORY_MIB = 256
READY_TIMEOUT_S = 240.0  # KVM may be an emulated one
DISK_BYTES = 1024 * 1024
FIRST_UID, GID = 1_899_999_001, 1_899_999_000

Make = Callable[..., FirecrackerVmm]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``kernel`` and ``initrd``, which everyone may read."""
    place = tmp_path_factory.mktemp("image")
    kernel = unpack_package(guest_images.kernel_package(), tmp_path_factory.mktemp("kernel"))
    vmlinux.extract(kernel.image, place / "kernel")
    echo_guest.write(place / "initrd", kernel)
    for name in ("kernel", "initrd"):
        (place / name).chmod(0o644)
    return place


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    """As the platform makes it, without a base system: its pid 1 is what counts."""
    store = ImageStore(tmp_path_factory.mktemp("images"))
    image = store.build(guest_images.kernel_package(), initramfs.default_python(), None)
    for file in (image.vmlinux, image.initrd):
        file.chmod(0o644)
    return image


@pytest.fixture(params=["direct", "jailed"])
async def make(request: pytest.FixtureRequest, image: Path, tmp_path: Path) -> AsyncIterator[Make]:
    jailer = real_firecracker.jailer()
    is_jailed = request.param == "jailed"
    if is_jailed and (jailer is None or os.geteuid() != 0):
        pytest.skip("a jail needs root and a jailer beside Firecracker")
    machines: list[FirecrackerVmm] = []

    def make(disks: tuple[str, ...] = ("base", "code"), **options: Any) -> FirecrackerVmm:
        directory = tmp_path / f"machine-{len(machines)}"
        directory.mkdir()
        policy = JailPolicy(uid=FIRST_UID + len(machines), gid=GID) if is_jailed else None
        spec = VmSpec(
            kernel=options.pop("kernel", image / "kernel"),
            initrd=options.pop("initrd", image / "initrd"),
            memory_mib=MEMORY_MIB,
            directory=directory,
            drives=tuple(Drive(make_disk(tmp_path, name)) for name in disks),
            has_balloon=True,
        )
        machine = FirecrackerVmm(
            spec,
            program=real_firecracker.program(),
            policy=policy,
            jailer=str(jailer),
            ready_timeout_s=READY_TIMEOUT_S,
            **options,
        )
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        await machine.stop()
        assert not (machine._spec.directory / "vmm").exists()


def make_disk(place: Path, name: str) -> Path:
    disk = place / f"{name}.disk"
    if not disk.exists():
        disk.write_bytes(name.encode() + b"\n")
        os.truncate(disk, DISK_BYTES)
        disk.chmod(0o644)
    return disk


async def ask(channel: socket.socket, question: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(channel, question)
    return await loop.sock_recv(channel, 4096)


async def greet(machine: FirecrackerVmm) -> socket.socket:
    channel = machine.take_channel()
    assert await asyncio.get_running_loop().sock_recv(channel, 100) == b"port 1024\n"
    return channel


async def test_a_machine_boots_answers_and_ends(make: Make) -> None:
    machine = make()
    await machine.boot()
    with await greet(machine) as channel:
        assert await ask(channel, b"ping") == b"ping"
        assert await ask(channel, b"disks") == b"vda=base vdb=code"
        metrics = await machine.read_metrics()
        assert metrics.seccomp.num_faults == 0
        assert metrics.vsock.conns_added >= 1
        assert (await machine.client.balloon()).free_page_reporting
        await machine.pause()
        await machine.resume()
        assert await ask(channel, b"pong") == b"pong"
        await asyncio.get_running_loop().sock_sendall(channel, b"end")
        assert await machine.wait() == 0
    assert machine.state is VmState.STOPPED
    assert "echo: listening" in machine.console.text()


@pytest.mark.parametrize("has_page_server", [False, True])
async def test_clones_of_a_snapshot_have_their_own_disks_and_streams(
    make: Make, tmp_path: Path, has_page_server: bool
) -> None:
    place = tmp_path / "snapshot"
    place.mkdir()
    machine = make()
    await machine.boot()
    machine.take_channel().close()
    await machine.pause()
    snapshot = await machine.snapshot(place)
    assert await make().load(place) == snapshot
    memory = snapshot.memory.read_bytes()
    clones = [
        make(("base", name), slots={1}, has_page_server=has_page_server) for name in ("one", "two")
    ]
    for clone in clones:
        await clone.restore(snapshot)
    for clone, name in zip(clones, (b"one", b"two"), strict=True):
        await clone.resume()
        with await greet(clone) as channel:
            assert await ask(channel, b"disks") == b"vda=base vdb=" + name
    assert snapshot.memory.read_bytes() == memory


async def test_a_guest_image_is_spoken_to_before_and_after_it_rests(
    make: Make, guest: GuestImage, tmp_path: Path
) -> None:
    program = [guest.manifest.python, "-ISc", "print('hello')"]
    place = tmp_path / "snapshot"
    place.mkdir()
    machine, clone = (make((), kernel=guest.vmlinux, initrd=guest.initrd) for _ in range(2))
    await machine.boot()
    channel = GuestChannel(machine.take_channel())
    await channel.hello()
    assert (await channel.run(program)).output == b"hello\n"
    await channel.rest()
    channel.link.fall_silent()
    await machine.pause()
    snapshot = await machine.snapshot(place)
    channel.close()
    await clone.restore(snapshot)
    await clone.resume()
    channel = GuestChannel(clone.take_channel())
    await channel.awaken()
    assert (await channel.run(program)).output == b"hello\n"
    channel.power_off()
    assert await clone.wait() == 0
    channel.close()


async def test_a_kernel_that_is_none_is_refused(make: Make, image: Path) -> None:
    machine = make(kernel=image / "initrd")
    with pytest.raises(VmmRefused, match=r"(?i)kernel|elf"):
        await machine.boot()
