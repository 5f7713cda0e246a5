"""Machines for real: an emulated guest boots, speaks, runs programs, rests, is cloned and ends."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import select
import signal
import struct
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import guest_images
import leaks
from firelet.cli import main
from firelet.linux import process
from firelet.model.errors import SandboxEnded
from firelet.model.limits import MIB
from firelet.sandbox import cgroups
from firelet.sandbox.microvm import initramfs, sealed_file
from firelet.sandbox.microvm.console import KEPT_BYTES
from firelet.sandbox.microvm.guest_channel import GuestChannel, GuestFault
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.initramfs import OPTIONAL_MODULES_DIRECTORY
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.qmp import ANSWER_TIMEOUT_S
from firelet.sandbox.microvm.vm_snapshot import SnapshotForeign
from firelet.sandbox.microvm.vmm import (
    Drive,
    HeldSnapshot,
    Nic,
    VmmEnded,
    VmmError,
    VmmMissing,
    VmmRefused,
    VmmSilent,
    VmSnapshot,
    VmSpec,
    VmState,
    WrongState,
)

_MISSING = guest_images.missing()
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

MEMORY_MIB = 256
PYTHON = initramfs.default_python()
MAKER = """
import asyncio, sys
from pathlib import Path
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import VmSpec

async def main():
    kernel, initrd, directory = map(Path, sys.argv[1:4])
    spec = VmSpec(
        kernel=kernel, initrd=initrd, directory=directory, memory_mib=int(sys.argv[4]),
        user=int(sys.argv[5]) or None,
    )
    machine = QemuVmm(spec, has_kvm=False)
    await machine.boot()
    await machine.pause()
    print(machine.pid, flush=True)
    await machine.wait()

asyncio.run(main())
"""
UUID = "/proc/sys/kernel/random/uuid"
ADDRESS = "print(open('/sys/class/net/eth0/address').read(), end='')"
USER = 60_001
TUNSETIFF = 0x400454CA
TAP_WITHOUT_INFORMATION = 0x1002  # IFF_TAP | IFF_NO_PI


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    store = ImageStore(tmp_path_factory.mktemp("images"))
    return store.build(guest_images.kernel_package(), PYTHON, initramfs.find_busybox())


@dataclass
class Box:
    """A machine and the channel to its guest, from when it has been started."""

    machine: QemuVmm
    channel: GuestChannel | None = None

    @property
    def guest(self) -> GuestChannel:
        if self.channel is None:
            self.channel = GuestChannel(self.machine.take_channel())
        return self.channel

    async def end(self) -> None:
        if self.channel is not None:
            self.channel.close()
        await self.machine.stop()


def make_box(
    image: GuestImage, directory: Path, patience_s: float = ANSWER_TIMEOUT_S, **more: Any
) -> Box:
    spec = make_spec(image, directory, **more)
    return Box(QemuVmm(spec, has_kvm=False, patience_s=patience_s))


def make_spec(image: GuestImage, directory: Path, **more: Any) -> VmSpec:
    directory.mkdir(exist_ok=True)
    return VmSpec(
        kernel=image.vmlinux,
        initrd=image.initrd,
        memory_mib=MEMORY_MIB,
        directory=directory,
        image=image.digest,
        **more,
    )


@pytest.fixture
async def booted(image: GuestImage, tmp_path: Path) -> AsyncIterator[Box]:
    """A machine that runs and whose guest is ready."""
    async with running(make_box(image, tmp_path / "vm")) as box:
        yield box


@pytest.fixture(scope="module")
def snapshot(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmSnapshot]:
    """A machine at rest, with a file that its guest has written."""
    snapshot = asyncio.run(make_snapshot(image, tmp_path_factory.mktemp("rest")))
    yield snapshot
    snapshot.close()


@pytest.fixture
async def clone(image: GuestImage, snapshot: VmSnapshot, tmp_path: Path) -> AsyncIterator[Box]:
    """The same as ``booted`` without the boot."""
    box = make_box(image, tmp_path / "vm")
    try:
        await awaken(box, snapshot)
        yield box
    finally:
        await box.end()


@contextlib.asynccontextmanager
async def running(box: Box) -> AsyncIterator[Box]:
    try:
        await box.machine.boot()
        try:
            async with asyncio.timeout(guest_images.PATIENCE_S):
                await box.guest.hello()
        except (SandboxEnded, TimeoutError):
            pytest.fail(box.machine.console.text())
        yield box
    finally:
        await box.end()


async def make_snapshot(image: GuestImage, directory: Path) -> VmSnapshot:
    async with running(make_box(image, directory / "vm")) as box:
        await run_python(box, "open('/tmp/kept', 'w').write('from before')")
        with pytest.raises(WrongState):
            await box.machine.snapshot(directory)  # it runs
        await box.machine.pause()
        snapshot = await box.machine.snapshot(directory)
        assert box.machine.state is VmState.STOPPED
        return snapshot


async def awaken(clone: Box, snapshot: VmSnapshot) -> None:
    await clone.machine.restore(snapshot)
    assert clone.machine.state is VmState.PAUSED
    await clone.machine.resume()
    async with asyncio.timeout(guest_images.PATIENCE_S):
        await clone.guest.awaken()


async def run_python(box: Box, code: str) -> bytes:
    async with asyncio.timeout(guest_images.PATIENCE_S):
        ending = await box.guest.run([str(PYTHON), "-ISc", code])
    assert (ending.code, ending.signal) == (0, None), ending.output
    return ending.output


async def run_shell(box: Box, command: str) -> None:
    async with asyncio.timeout(guest_images.PATIENCE_S):
        ending = await box.guest.run(["/bin/sh", "-c", command])
    assert (ending.code, ending.signal) == (0, None), ending.output


async def test_a_guest_boots_runs_programs_and_powers_off(booted: Box, image: GuestImage) -> None:
    machine, guest = booted.machine, booted.guest
    hello = await guest.hello()
    assert hello.kernel == image.manifest.release
    assert hello.uptime_s > 0
    await guest.ping()

    async with asyncio.timeout(guest_images.PATIENCE_S):
        program = "import os; print(os.getcwd(), os.environ['WORD']); os._exit(7)"
        ending = await guest.run(
            [str(PYTHON), "-ISuc", program], environment={"WORD": "guest"}, directory="/run"
        )
        assert (ending.code, ending.output) == (7, b"/run guest\n")
        killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        ending = await guest.run([str(PYTHON), "-ISc", killed])
        assert (ending.code, ending.signal) == (None, signal.SIGKILL)
        with pytest.raises(GuestFault, match="no such file or directory"):
            await guest.run(["/missing"])
        # It is alone: no network but its own loopback, and nothing of this host's files.
        devices = await run_python(booted, "import os; print(os.listdir('/sys/class/net'))")
        assert devices == b"['lo']\n"

        guest.power_off()
        assert await machine.wait() == 0
    assert machine.state is VmState.STOPPED
    assert "reboot: Restarting system" in machine.console.text()
    with pytest.raises(SandboxEnded):
        await guest.ping()


async def test_a_clone_that_is_emulated_gets_no_huge_pages(clone: Box) -> None:
    assert "THP_enabled:\t0\n" in Path(f"/proc/{clone.machine.pid}/status").read_text()


async def test_many_programs_run_side_by_side_and_much_output_arrives(clone: Box) -> None:
    code = "import os; os.write(1, b'%d' * 300_000)"
    outputs = await asyncio.gather(*(run_python(clone, code % number) for number in range(3)))
    assert [set(output) for output in outputs] == [{48}, {49}, {50}]
    assert {len(output) for output in outputs} == {300_000}


async def test_a_program_that_nobody_waits_for_any_more_is_killed(clone: Box) -> None:
    hang = "import os; open('/run/pid', 'w').write(str(os.getpid())); os.read(os.pipe()[0], 1)"
    look = "import os; print(os.path.exists('/proc/' + (open('/run/pid').read() or '0')))"
    began = "import os; print(os.path.exists('/run/pid') and os.path.getsize('/run/pid') > 0)"
    waiting = asyncio.create_task(run_python(clone, hang))
    async with asyncio.timeout(guest_images.PATIENCE_S):
        while await run_python(clone, began) != b"True\n":
            assert not waiting.done()
        assert await run_python(clone, look) == b"True\n"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while await run_python(clone, look) != b"False\n":
            await asyncio.sleep(0)


async def test_a_machine_at_rest_is_cloned_and_clones_differ(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    assert snapshot.state.stat().st_size < 1_000_000  # the memory is not in it
    assert snapshot.held is not None
    before = digest_of(snapshot.held.memory)
    clones = [make_box(image, tmp_path / f"clone-{number}") for number in range(2)]
    try:
        answers = await asyncio.gather(*(use_clone(clone, snapshot) for clone in clones))
        assert {kept for kept, _ in answers} == {b"from before"}
        assert len({uuid for _, uuid in answers}) == 2
        assert not list((tmp_path / "clone-0").iterdir())
        await clones[0].machine.pause()
        with pytest.raises(WrongState, match="put to rest again"):
            await clones[0].machine.snapshot(tmp_path)
    finally:
        for clone in clones:
            await clone.end()
    assert digest_of(snapshot.held.memory) == before
    assert snapshot.memory.stat().st_mode & 0o077 == 0


def digest_of(memory: int) -> str:
    return hashlib.sha256(os.pread(memory, MEMORY_MIB * MIB, 0)).hexdigest()


async def test_a_snapshot_that_was_kept_is_restored_by_another_process(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    """Another as far as the snapshot is concerned: by its files alone."""
    spec = make_spec(image, tmp_path / "vm")
    box = Box(QemuVmm(spec, has_kvm=False))
    try:
        kept = await box.machine.load(snapshot.memory.parent)
        awakening = asyncio.create_task(awaken(box, kept))
        await asyncio.sleep(0)
        kept.close()  # whoever has begun does not need it any more
        await awakening
        with pytest.raises(VmmEnded, match="given back"):
            await QemuVmm(spec, has_kvm=False).restore(kept)
        assert await run_python(box, "print(open('/tmp/kept').read())") == b"from before\n"
    finally:
        await box.end()
    other = QemuVmm(replace(spec, memory_mib=512, image="other"), has_kvm=False)
    with pytest.raises(SnapshotForeign, match=r"image is .*memory_mib is 256 and should be 512"):
        await other.load(snapshot.memory.parent)


async def test_a_restored_machine_with_memory_of_its_own_can_be_put_to_rest_again(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    first = make_box(image, tmp_path / "first", has_own_memory=True)
    try:
        await awaken(first, snapshot)
        await run_python(first, "open('/tmp/kept', 'a').write(' and after')")
        await first.machine.pause()
        again = await first.machine.snapshot(tmp_path)
    finally:
        await first.end()
    second = make_box(image, tmp_path / "second")
    try:
        await awaken(second, again)
        kept = await run_python(second, "print(open('/tmp/kept').read())")
        assert kept == b"from before and after\n"
    finally:
        await second.end()
        again.close()


async def test_a_machine_is_restored_with_other_drives(image: GuestImage, tmp_path: Path) -> None:
    """The guest has what it has read in its own memory, until it is told to forget it."""
    size = 1 * MIB
    (tmp_path / "fixed").write_bytes(b"fixed".ljust(size, b"."))
    for name in ("first", "other"):
        (tmp_path / name).write_bytes(name.encode().ljust(size, b"."))
    look = "print(*(open(f'/dev/{name}', 'rb').read(5) for name in ('vda', 'vdb')))"

    def drives(name: str) -> tuple[Drive, ...]:
        return (Drive(tmp_path / "fixed"), Drive(tmp_path / name))

    box = make_box(image, tmp_path / "vm", drives=drives("first"))
    async with running(box):
        # As long as somebody has it open, as a mount has, the guest keeps what it has read.
        await run_shell(box, "sleep 1000 </dev/vdb >/dev/null 2>&1 &")
        assert await run_python(box, look) == b"b'fixed' b'first'\n"
        await box.machine.pause()
        snapshot = await box.machine.snapshot(tmp_path)
    clone = make_box(image, tmp_path / "clone", drives=drives("other"))
    try:
        await awaken(clone, snapshot)
        assert await run_python(clone, look) == b"b'fixed' b'first'\n"
        await run_shell(clone, "blockdev --flushbufs /dev/vdb")
        assert await run_python(clone, look) == b"b'fixed' b'other'\n"
        with pytest.raises(AssertionError, match="PermissionError"):
            await run_python(clone, "open('/dev/vdb', 'wb', 0).write(b'changed')")
        assert (tmp_path / "other").read_bytes()[:5] == b"other"
    finally:
        await clone.end()
        snapshot.close()


async def use_clone(clone: Box, snapshot: VmSnapshot) -> tuple[bytes, bytes]:
    """What the clone finds in its /tmp, and what its kernel draws at random."""
    await awaken(clone, snapshot)
    kept = await run_python(clone, "print(open('/tmp/kept').read(), end='')")
    await run_python(clone, "open('/tmp/kept', 'w').write('own')")
    return kept, await run_python(clone, f"print(open('{UUID}').read())")


async def test_a_stopped_machine_leaves_nothing_and_is_of_no_use_any_more(
    image: GuestImage, tmp_path: Path
) -> None:
    box = make_box(image, tmp_path / "vm")
    machine = box.machine
    await machine.boot()
    channel = machine.take_channel()
    with pytest.raises(WrongState, match="given already"):
        machine.take_channel()
    await machine.stop()
    await machine.stop()
    assert not list((tmp_path / "vm").iterdir())
    with channel:
        assert await asyncio.get_running_loop().sock_recv(channel, 1) == b""
    with pytest.raises(WrongState):
        await machine.boot()
    with pytest.raises(WrongState):
        await machine.resume()
    with pytest.raises(WrongState):
        _ = machine.pidfd


@pytest.mark.parametrize("user", [0, USER])
async def test_a_machine_ends_with_the_process_that_made_it(
    image: GuestImage, tmp_path: Path, user: int
) -> None:
    """Also one that rests, whose guest could not notice."""
    directory = tmp_path / "vm"
    directory.mkdir()
    if user and os.geteuid() != 0:
        pytest.skip("only root can become another user")
    parts = (image.kernel, image.initrd, directory, MEMORY_MIB, user)
    arguments = [str(part) for part in parts]
    maker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKER, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert maker.stdout is not None
    machine = process.pidfd_open(int(await maker.stdout.readline()))
    try:
        maker.kill()
        await maker.wait()
        patience_s = guest_images.PATIENCE_S
        ended, _, _ = await asyncio.to_thread(select.select, [machine], [], [], patience_s)
        assert ended == [machine]
    finally:
        os.close(machine)
    leaks.reap_adopted()


async def test_a_machine_that_cannot_start_says_why(image: GuestImage, tmp_path: Path) -> None:
    box = make_box(image, tmp_path / "vm")
    broken = VmSpec(
        kernel=tmp_path / "missing",
        initrd=image.initrd,
        memory_mib=MEMORY_MIB,
        directory=tmp_path / "vm",
    )
    with pytest.raises(VmmError, match=r"No such file.*missing"):
        await QemuVmm(broken, has_kvm=False).boot()
    with pytest.raises(VmmMissing, match="no-such-qemu"):
        await QemuVmm(broken, has_kvm=False, program="no-such-qemu").boot()
    with pytest.raises(WrongState):
        box.machine.take_channel()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_machine_is_run_by_a_user_who_can_do_nothing_else(
    image: GuestImage, tmp_path: Path
) -> None:
    """Its files are where that user cannot get at them."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "drive").write_bytes(b"secret".ljust(MIB, b"."))
    (hidden / "drive").chmod(0o400)
    look = "print(open('/dev/vda', 'rb').read(6))"
    more: dict[str, Any] = {"drives": (Drive(hidden / "drive"),), "user": USER}
    box = make_box(image, tmp_path / "vm", **more)
    async with running(box):
        assert await run_python(box, look) == b"b'secret'\n"
        expect_powerless(box.machine.pid)
        await box.machine.pause()
        snapshot = await box.machine.snapshot(tmp_path)
    clone = make_box(image, tmp_path / "clone", **more)
    try:
        await awaken(clone, snapshot)
        assert await run_python(clone, look) == b"b'secret'\n"
        expect_powerless(clone.machine.pid)
    finally:
        await clone.end()
        snapshot.close()


def expect_powerless(pid: int) -> None:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert status["Uid"] == status["Gid"] == [str(USER)] * 4
    assert status["Groups"] == []
    assert status["NoNewPrivs"] == ["1"]
    sets = [status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    assert sets == [["0" * 16]] * 5
    for kind in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    devices = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
    assert [line.partition(":")[0].strip() for line in devices] == ["lo"]
    for hidden in ("home", "root", "run", "tmp", "var", "dev/shm"):
        assert os.listdir(f"/proc/{pid}/root/{hidden}") == []
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


@pytest.mark.parametrize("operation", ["pause", "snapshot", "resume"])
async def test_a_machine_that_is_killed_over_an_operation_has_ended(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path, operation: str
) -> None:
    box = make_box(image, tmp_path / "vm", has_own_memory=True)
    machine = box.machine
    arguments = [tmp_path / "rest"] if operation == "snapshot" else []
    try:
        await machine.restore(snapshot)
        if operation == "pause":
            await machine.resume()
        process.pidfd_send_signal(machine.pidfd, signal.SIGSTOP)
        doing = asyncio.create_task(getattr(machine, operation)(*arguments))
        await asyncio.sleep(0)  # it has been asked
        process.pidfd_send_signal(machine.pidfd, signal.SIGKILL)
        with pytest.raises(VmmEnded, match="over"):
            await doing
        assert machine.state is VmState.STOPPED
        assert await machine.wait() == -signal.SIGKILL
    finally:
        await box.end()
    assert not (tmp_path / "rest").exists()


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_machine_that_is_killed_while_it_starts_has_ended(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path, *, is_restored: bool
) -> None:
    machine = make_box(image, tmp_path / "vm").machine
    starting = asyncio.create_task(machine.restore(snapshot) if is_restored else machine.boot())
    while not starting.done():
        with contextlib.suppress(WrongState, ProcessLookupError):
            process.pidfd_send_signal(machine.pidfd, signal.SIGKILL)
        await asyncio.sleep(0)
    with pytest.raises(VmmEnded):
        await starting
    assert machine.state is VmState.STOPPED


@pytest.mark.parametrize("kept_bytes", [0, 1_000, 20_000])
async def test_a_state_that_is_cut_ends_the_restore(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path, kept_bytes: int
) -> None:
    """As if its digest had been made of it: nothing waits for what does not come."""
    assert snapshot.held is not None
    state = sealed_file.create("state")
    os.write(state, os.pread(snapshot.held.state, kept_bytes, 0))
    cut = HeldSnapshot(state, os.dup(snapshot.held.memory))
    box = make_box(image, tmp_path / "vm")
    try:
        with pytest.raises((VmmEnded, VmmRefused)):
            await box.machine.restore(replace(snapshot, held=cut))
        assert box.machine.state is VmState.STOPPED
    finally:
        cut.close()
        await box.end()


async def test_a_snapshot_of_other_devices_is_refused_by_qemu_as_well(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    box = make_box(image, tmp_path / "vm", has_entropy=False)
    with pytest.raises(VmmEnded, match="virtio-rng"):
        await box.machine.restore(snapshot)


async def test_a_machine_that_ended_by_itself_says_so(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    box = make_box(image, tmp_path / "vm")
    try:
        await awaken(box, snapshot)
        process.pidfd_send_signal(box.machine.pidfd, signal.SIGKILL)
        assert await box.machine.wait() == -signal.SIGKILL
        for operation in (box.machine.pause, box.machine.resume):
            with pytest.raises(VmmEnded):
                await operation()
    finally:
        await box.end()


async def test_a_machine_that_does_not_answer_is_given_up(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    box = make_box(image, tmp_path / "vm", patience_s=5.0)
    try:
        await awaken(box, snapshot)
        machine = box.machine
        process.pidfd_send_signal(machine.pidfd, signal.SIGSTOP)
        with pytest.raises(VmmSilent, match=r"stop within 5 s"):
            await machine.pause()
        assert machine.state is VmState.RUNNING
    finally:
        await box.end()
    assert await machine.wait() == -signal.SIGKILL


async def test_a_guest_whose_kernel_panics_ends_and_its_console_tells(clone: Box) -> None:
    with pytest.raises(SandboxEnded):
        await run_shell(clone, "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
    async with asyncio.timeout(guest_images.PATIENCE_S):
        await clone.machine.wait()
    with pytest.raises(VmmEnded, match="Kernel panic"):
        await clone.machine.pause()


async def test_a_guest_that_floods_its_console_is_slowed_and_no_one_else(clone: Box) -> None:
    console = clone.machine.console
    await run_shell(clone, "yes >/dev/ttyS0 2>&1 </dev/null &")
    async with asyncio.timeout(guest_images.PATIENCE_S):
        while console.dropped_bytes == 0:
            await clone.guest.ping()
    assert len(console.text()) == KEPT_BYTES


@pytest.mark.parametrize("part", ["kernel", "initrd"])
async def test_a_boot_that_fails_says_why(image: GuestImage, tmp_path: Path, part: str) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"nothing of use".ljust(65_536, b"."))
    spec = replace(make_spec(image, tmp_path / "vm"), **{part: damaged})
    box = Box(QemuVmm(spec, has_kvm=False))
    try:
        with contextlib.suppress(VmmEnded):  # QEMU itself takes no such kernel
            await box.machine.boot()
            async with asyncio.timeout(guest_images.PATIENCE_S):
                with pytest.raises(SandboxEnded):
                    await box.guest.hello()
                await box.machine.wait()
        assert any(word in box.machine.console.text() for word in ("panic", "kernel"))
    finally:
        await box.end()


async def test_a_slow_drive_is_slow(image: GuestImage, tmp_path: Path) -> None:
    for name in ("fast", "slow"):
        (tmp_path / name).write_bytes(bytes(6 * MIB))
    drives = (Drive(tmp_path / "fast"), Drive(tmp_path / "slow", bytes_per_s=4 * MIB))
    read = (
        "import time; t = time.monotonic(); open('/dev/{}', 'rb', 0).read(6 << 20);"
        "print(time.monotonic() - t)"
    )
    async with running(make_box(image, tmp_path / "vm", drives=drives)) as box:
        fast_s = float(await run_python(box, read.format("vda")))
        slow_s = float(await run_python(box, read.format("vdb")))
    assert slow_s > 1.0
    assert slow_s > 3 * fast_s


async def test_a_guest_has_the_network_device_that_it_is_given(
    image: GuestImage, tmp_path: Path
) -> None:
    mac = "02:00:00:00:00:07"
    with open("/dev/net/tun", "r+b", buffering=0) as tap:
        request = struct.pack("16sH22x", b"firelet-t%d", TAP_WITHOUT_INFORMATION)
        fcntl.ioctl(tap, TUNSETIFF, request)
        async with running(make_box(image, tmp_path / "vm", nic=Nic(tap.fileno(), mac))) as box:
            for name in ("failover", "net_failover", "virtio_net"):
                await run_shell(box, f"insmod /{OPTIONAL_MODULES_DIRECTORY}/*-{name}.ko")
            assert await run_python(box, ADDRESS) == f"{mac}\n".encode()


async def test_a_guest_gives_memory_back_whether_it_shares_it_or_not(
    image: GuestImage, tmp_path: Path
) -> None:
    async with running(make_box(image, tmp_path / "vm", has_balloon=True)) as box:
        await run_shell(box, f"insmod /{OPTIONAL_MODULES_DIRECTORY}/*-virtio_balloon.ko")
        await expect_given_back(box, memory_in_use)
        await box.machine.pause()
        snapshot = await box.machine.snapshot(tmp_path)
    try:
        own = make_box(image, tmp_path / "own", has_balloon=True, has_own_memory=True)
        sharing = make_box(image, tmp_path / "sharing", has_balloon=True)
        for clone, in_use in ((own, memory_in_use), (sharing, private_memory)):
            try:
                await awaken(clone, snapshot)
                await expect_given_back(clone, in_use)
            finally:
                await clone.end()
        expect_whole(snapshot)
    finally:
        snapshot.close()


async def expect_given_back(box: Box, in_use: Callable[[int], int]) -> None:
    """What its guest has freed, without being asked."""
    await run_shell(box, "head -c 80000000 /dev/zero >/tmp/much")
    full = in_use(box.machine.pid)
    await run_shell(box, "rm /tmp/much")
    async with asyncio.timeout(guest_images.PATIENCE_S):
        while in_use(box.machine.pid) > full - 50 * MIB:
            await asyncio.sleep(0.1)
    await run_python(box, "print('well')")


def expect_whole(snapshot: VmSnapshot) -> None:
    """Nothing of what clones share has gone."""
    assert snapshot.held is not None
    kept, digest = sealed_file.load(snapshot.memory, "kept")
    again = sealed_file.create("again")
    try:
        assert sealed_file.copy(snapshot.held.memory, again) == digest
    finally:
        os.close(kept)
        os.close(again)


def memory_in_use(pid: int) -> int:
    """Bytes of the memory file of the machine that this process runs."""
    files = list(Path(f"/proc/{pid}/fd").iterdir())
    memory = next(file for file in files if "memfd:machine" in os.readlink(file))
    return memory.stat().st_blocks * 512


def private_memory(pid: int) -> int:
    """Bytes that this process has of its own."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


async def test_a_machine_is_in_its_control_groups_with_all_its_threads(
    image: GuestImage, tmp_path: Path, needs_cgroups: None
) -> None:
    version = cgroups.find_version()
    assert version is not None
    tree = cgroups.open_tree(version)
    try:
        group = tree.create("machine")
        box = make_box(image, tmp_path / "vm", cgroup_files=tuple(group.procs_fds))
        try:
            await box.machine.boot()
            places = {
                (task / "cgroup").read_text()
                for task in Path(f"/proc/{box.machine.pid}/task").iterdir()
            }
            inherited = os.listdir(f"/proc/{box.machine.pid}/fd")
            files = {os.readlink(f"/proc/{box.machine.pid}/fd/{name}") for name in inherited}
        finally:
            await box.end()
        assert group.memory_peak_bytes() > 1_000_000
        group.remove()
    finally:
        tree.close()
    assert len(places) == 1
    expected = {1: 4, 2: 1}[version]  # one place for each hierarchy
    assert places.pop().count(f"/firelet/{cgroups.owner_name()}/machine") == expected
    assert not [file for file in files if "cgroup" in file]


def test_the_same_parts_give_the_same_image(image: GuestImage, tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    again = store.build(guest_images.kernel_package(), PYTHON, initramfs.find_busybox())
    assert again.digest == image.digest
    assert [path.name for path in tmp_path.iterdir()] == [image.digest]


def test_the_command_builds_an_image_and_checks_it(tmp_path: Path) -> None:
    command = CliRunner()
    package = str(guest_images.kernel_package())
    built = command.invoke(
        main.app, ["image", "build", "--kernel-package", package, "--data-dir", str(tmp_path)]
    )
    assert built.exit_code == 0, built.output
    assert "no functions can run in this image" in built.stderr
    digest = built.stdout.strip()
    checked = command.invoke(main.app, ["image", "check", digest, "--data-dir", str(tmp_path)])
    assert checked.exit_code == 0, checked.output
    assert "ready after" in checked.output
