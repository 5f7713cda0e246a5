"""Machines for real: an emulated guest boots, speaks, runs programs, rests, is cloned and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import guest_images
import leaks
from firelet.cli import main
from firelet.linux import process
from firelet.model.errors import SandboxEnded
from firelet.sandbox.microvm import initramfs
from firelet.sandbox.microvm.guest_channel import GuestFault
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import (
    VmmEnded,
    VmmMissing,
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
        kernel=kernel, initrd=initrd, directory=directory, memory_mib=int(sys.argv[4])
    )
    machine = QemuVmm(spec, has_kvm=False)
    await machine.boot()
    await machine.pause()
    print(machine.pid, flush=True)
    await machine.wait()

asyncio.run(main())
"""
UUID = "/proc/sys/kernel/random/uuid"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    store = ImageStore(tmp_path_factory.mktemp("images"))
    return store.build(guest_images.kernel_package(), PYTHON, initramfs.find_busybox())


def make_vmm(image: GuestImage, directory: Path) -> QemuVmm:
    directory.mkdir()
    spec = VmSpec(
        kernel=image.kernel, initrd=image.initrd, memory_mib=MEMORY_MIB, directory=directory
    )
    return QemuVmm(spec, has_kvm=False)


@pytest.fixture
async def booted(image: GuestImage, tmp_path: Path) -> AsyncIterator[QemuVmm]:
    """A machine that runs and whose guest is ready."""
    async with running(make_vmm(image, tmp_path / "vm")) as machine:
        yield machine


@pytest.fixture(scope="module")
def snapshot(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> VmSnapshot:
    """A machine at rest, with a file that its guest has written."""
    return asyncio.run(make_snapshot(image, tmp_path_factory.mktemp("rest")))


@pytest.fixture
async def vmm(image: GuestImage, snapshot: VmSnapshot, tmp_path: Path) -> AsyncIterator[QemuVmm]:
    """The same as ``booted`` without the boot: a clone."""
    machine = make_vmm(image, tmp_path / "vm")
    try:
        await awaken(machine, snapshot)
        yield machine
    finally:
        await machine.stop()


@contextlib.asynccontextmanager
async def running(machine: QemuVmm) -> AsyncIterator[QemuVmm]:
    try:
        await machine.boot()
        try:
            async with asyncio.timeout(guest_images.PATIENCE_S):
                await machine.channel.hello()
        except (SandboxEnded, TimeoutError):
            pytest.fail(machine.console.text())
        yield machine
    finally:
        await machine.stop()


async def make_snapshot(image: GuestImage, directory: Path) -> VmSnapshot:
    async with running(make_vmm(image, directory / "vm")) as machine:
        await run_python(machine, "open('/tmp/kept', 'w').write('from before')")
        with pytest.raises(WrongState):
            await machine.snapshot(directory)  # it runs
        await machine.pause()
        snapshot = await machine.snapshot(directory)
        assert machine.state is VmState.STOPPED
        return snapshot


async def awaken(clone: QemuVmm, snapshot: VmSnapshot) -> None:
    await clone.restore(snapshot)
    assert clone.state is VmState.PAUSED
    await clone.resume()
    async with asyncio.timeout(guest_images.PATIENCE_S):
        await clone.channel.awaken()


async def run_python(machine: QemuVmm, code: str) -> bytes:
    async with asyncio.timeout(guest_images.PATIENCE_S):
        ending = await machine.channel.run([str(PYTHON), "-ISc", code])
    assert (ending.code, ending.signal) == (0, None), ending.output
    return ending.output


async def test_a_guest_boots_runs_programs_and_powers_off(
    booted: QemuVmm, image: GuestImage
) -> None:
    vmm = booted
    hello = await vmm.channel.hello()
    assert hello.kernel == image.manifest.release
    assert hello.uptime_s > 0
    await vmm.channel.ping()

    async with asyncio.timeout(guest_images.PATIENCE_S):
        program = "import os; print(os.getcwd(), os.environ['WORD']); os._exit(7)"
        ending = await vmm.channel.run(
            [str(PYTHON), "-ISuc", program], environment={"WORD": "guest"}, directory="/run"
        )
        assert (ending.code, ending.output) == (7, b"/run guest\n")
        killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        ending = await vmm.channel.run([str(PYTHON), "-ISc", killed])
        assert (ending.code, ending.signal) == (None, signal.SIGKILL)
        with pytest.raises(GuestFault, match="no such file or directory"):
            await vmm.channel.run(["/missing"])
        # It is alone: no network but its own loopback, and nothing of this host's files.
        devices = await run_python(vmm, "import os; print(os.listdir('/sys/class/net'))")
        assert devices == b"['lo']\n"

        await vmm.channel.power_off()
        assert await vmm.wait() == 0
    assert vmm.state is VmState.STOPPED
    assert "reboot: Restarting system" in vmm.console.text()
    with pytest.raises(SandboxEnded):
        await vmm.channel.ping()


async def test_many_programs_run_side_by_side_and_much_output_arrives(vmm: QemuVmm) -> None:
    code = "import os; os.write(1, b'%d' * 300_000)"
    outputs = await asyncio.gather(*(run_python(vmm, code % number) for number in range(3)))
    assert [set(output) for output in outputs] == [{48}, {49}, {50}]
    assert {len(output) for output in outputs} == {300_000}


async def test_a_program_that_nobody_waits_for_any_more_is_killed(vmm: QemuVmm) -> None:
    hang = "import os; open('/run/pid', 'w').write(str(os.getpid())); os.read(os.pipe()[0], 1)"
    look = "import os; print(os.path.exists('/proc/' + (open('/run/pid').read() or '0')))"
    began = "import os; print(os.path.exists('/run/pid') and os.path.getsize('/run/pid') > 0)"
    waiting = asyncio.create_task(run_python(vmm, hang))
    async with asyncio.timeout(guest_images.PATIENCE_S):
        while await run_python(vmm, began) != b"True\n":
            assert not waiting.done()
        assert await run_python(vmm, look) == b"True\n"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while await run_python(vmm, look) != b"False\n":
            await asyncio.sleep(0)


async def test_a_machine_at_rest_is_cloned_and_clones_differ(
    image: GuestImage, snapshot: VmSnapshot, tmp_path: Path
) -> None:
    assert snapshot.state.stat().st_size < 1_000_000  # the memory is not in it
    before = snapshot.memory.read_bytes()
    clones = [make_vmm(image, tmp_path / f"clone-{number}") for number in range(2)]
    try:
        answers = await asyncio.gather(*(use_clone(clone, snapshot) for clone in clones))
        assert {kept for kept, _ in answers} == {b"from before"}
        assert len({uuid for _, uuid in answers}) == 2
        assert not list((tmp_path / "clone-0").iterdir())
        await clones[0].pause()
        with pytest.raises(WrongState, match="put to rest again"):
            await clones[0].snapshot(tmp_path)
    finally:
        for clone in clones:
            await clone.stop()
    assert snapshot.memory.read_bytes() == before
    assert snapshot.memory.stat().st_mode & 0o077 == 0


async def use_clone(clone: QemuVmm, snapshot: VmSnapshot) -> tuple[bytes, bytes]:
    """What the clone finds in its /tmp, and what its kernel draws at random."""
    await awaken(clone, snapshot)
    kept = await run_python(clone, "print(open('/tmp/kept').read(), end='')")
    await run_python(clone, "open('/tmp/kept', 'w').write('own')")
    return kept, await run_python(clone, f"print(open('{UUID}').read())")


async def test_a_stopped_machine_leaves_nothing_and_is_of_no_use_any_more(
    image: GuestImage, tmp_path: Path
) -> None:
    vmm = make_vmm(image, tmp_path / "vm")
    await vmm.boot()
    assert [path.name for path in (tmp_path / "vm").iterdir()] == ["memory"]
    await vmm.stop()
    await vmm.stop()
    assert not list((tmp_path / "vm").iterdir())
    with pytest.raises(WrongState):
        await vmm.boot()
    with pytest.raises(WrongState):
        await vmm.resume()
    with pytest.raises(SandboxEnded):
        await vmm.channel.ping()


async def test_a_machine_ends_with_the_process_that_made_it(
    image: GuestImage, tmp_path: Path
) -> None:
    """Also one that rests, whose guest could not notice."""
    directory = tmp_path / "vm"
    directory.mkdir()
    arguments = (str(image.kernel), str(image.initrd), str(directory), str(MEMORY_MIB))
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
    machine = make_vmm(image, tmp_path / "vm")
    broken = VmSpec(
        kernel=tmp_path / "missing",
        initrd=image.initrd,
        memory_mib=MEMORY_MIB,
        directory=tmp_path / "vm",
    )
    with pytest.raises(VmmEnded, match="missing"):
        await QemuVmm(broken, has_kvm=False).boot()
    with pytest.raises(VmmMissing, match="no-such-qemu"):
        await QemuVmm(broken, has_kvm=False, program="no-such-qemu").boot()
    with pytest.raises(WrongState):
        _ = machine.channel


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
    digest = built.output.strip()
    checked = command.invoke(main.app, ["image", "check", digest, "--data-dir", str(tmp_path)])
    assert checked.exit_code == 0, checked.output
    assert "ready after" in checked.output
