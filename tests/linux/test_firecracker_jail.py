"""A jailed Firecracker: real namespaces, mounts, users and control groups, around a program that
takes Firecracker's API and one that does what the jailer does."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_firecracker
import fake_jailer
from fake_firecracker import Behaviour
from firelet.sandbox import cgroups
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.vmm import (
    Drive,
    VmmEnded,
    VmmError,
    VmmMissing,
    VmmSilent,
    VmSpec,
    VmState,
)

pytestmark = [
    pytest.mark.usefixtures("nothing_leaks"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root is missing: a jail needs it"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is missing"),
]

UID, GID = 1_899_999_001, 1_899_999_000
VERSION = cgroups.find_version()
LIMITS = {1: {"pids.max": "50"}, 2: {"pids.max": "50"}, None: {}}

Make = Callable[..., FirecrackerVmm]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes machines, each in a directory of its own, which must be empty of it in the end."""
    directories: list[Path] = []
    for name in ("kernel", "initrd", "base", "code"):
        (tmp_path / name).write_text(name)

    def make(behaviour: Behaviour | None = None, **options: Any) -> FirecrackerVmm:
        directory = tmp_path / f"machine-{len(directories)}"
        directory.mkdir(exist_ok=True)
        directories.append(directory)
        programs = tmp_path / f"programs-{len(directories)}"
        programs.mkdir()
        has_page_server = options.pop("has_page_server", False)
        groups = options.pop("cgroup_files", ())
        policy = JailPolicy(**{"uid": UID + len(directories), "gid": GID, **options})
        spec = VmSpec(
            kernel=tmp_path / "kernel",
            initrd=tmp_path / "initrd",
            memory_mib=8,
            directory=directory,
            drives=(Drive(tmp_path / "base"), Drive(tmp_path / "code")),
            cgroup_files=tuple(groups),
        )
        return FirecrackerVmm(
            spec,
            program=fake_firecracker.write_program(programs, behaviour),
            policy=policy,
            jailer=str(fake_jailer.write_program(programs)),
            slots={1},
            has_page_server=has_page_server,
        )

    yield make
    for directory in directories:
        assert not (directory / "vmm").exists()


def jailed_pid(machine: FirecrackerVmm) -> int:
    """The child of the jail's pid 1, as the host counts."""
    init = int((machine._spec.directory / "vmm" / "init").read_text())
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        if int(fields[1]) == init:
            return int(name)
    raise AssertionError("the jail is empty")


async def test_a_jailed_machine_is_another_user_in_namespaces_of_its_own(make: Make) -> None:
    machine = make(open_files_max=100)
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        await machine.boot()
        pid = jailed_pid(machine)
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        uid, gid = machine._policy.uid, GID  # type: ignore[union-attr]
        assert status["Uid"].split() == [str(uid)] * 4
        assert status["Gid"].split() == [str(gid)] * 4
        assert status["Groups"].split() == []
        assert len(status["NSpid"].split()) == 2
        for kind in ("mnt", "pid"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        assert next(line for line in limits if "open files" in line).split()[3:5] == ["100"] * 2
        assert os.readlink(f"/proc/{pid}/cwd") == str(machine._vmm.root)
        # Its files are there and cannot be written; none of that is seen from outside.
        inside = Path(f"/proc/{pid}/root{machine._vmm.root}")
        assert (inside / "vdb").read_text() == "code"
        with pytest.raises(OSError, match="Read-only"):
            (inside / "vdb").open("r+")
        assert (machine._vmm.root / "vdb").read_text() == ""
        assert Path("/proc/self/mountinfo").read_text() == mounts
    finally:
        await machine.stop()
    assert not Path(f"/proc/{pid}").exists()


async def test_a_jailed_machine_rests_and_another_user_goes_on(make: Make, tmp_path: Path) -> None:
    machine = make()
    await machine.boot()
    await machine.pause()
    snapshot = await machine.snapshot(tmp_path)
    found = snapshot.memory.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, GID, 0o440)
    clone = make()
    try:
        await clone.restore(snapshot)
        await clone.resume()
        assert clone.state is VmState.RUNNING
        clone.take_channel().close()
    finally:
        await clone.stop()


async def test_the_pages_of_a_jailed_clone_come_from_outside(make: Make, tmp_path: Path) -> None:
    machine = make()
    await machine.boot()
    await machine.pause()
    snapshot = await machine.snapshot(tmp_path)
    clone = make(has_page_server=True)
    try:
        await clone.restore(snapshot)
        await clone.resume()
        clone.take_channel().close()
    finally:
        await clone.stop()


async def test_the_program_may_be_a_link(make: Make) -> None:
    machine = make()
    program = machine._vmm._program
    program.rename(program.with_name("firecracker-v1.17"))
    program.symlink_to("firecracker-v1.17")
    try:
        await machine.boot()
        assert "firecracker-v1.17" in machine._vmm.root.parts
    finally:
        await machine.stop()


async def test_a_file_that_the_user_cannot_read_is_named(make: Make, tmp_path: Path) -> None:
    machine = make()
    (tmp_path / "base").chmod(0o600)
    with pytest.raises(VmmError, match=r"cannot read .*base"):
        await machine.boot()


async def test_a_file_system_without_devices_is_told(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "machine-0"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev", "none", place], check=True)
    try:
        with pytest.raises(VmmError, match="nodev"):
            await make().boot()
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(VERSION is None, reason="no control groups that may be written")
async def test_the_jailers_control_groups_are_removed(make: Make) -> None:
    name = f"firelet-test-{os.getpid()}"
    machine = make(cgroup_version=VERSION, parent_cgroup=name, limits=LIMITS[VERSION])
    root = Path("/sys/fs/cgroup/pids" if VERSION == 1 else "/sys/fs/cgroup") / name
    try:
        await machine.boot()
        (group,) = (path for path in root.iterdir() if path.is_dir())
        assert str(jailed_pid(machine)) in (group / "cgroup.procs").read_text().split()
        assert (group / "pids.max").read_text() == "50\n"
        await machine.stop()
        assert not group.exists()
    finally:
        await machine.stop()
        root.rmdir()


@pytest.mark.skipif(VERSION is None, reason="no control groups that may be written")
async def test_a_jailed_machine_is_in_the_platforms_control_groups(make: Make) -> None:
    assert VERSION is not None
    tree = cgroups.open_tree(VERSION)
    group = tree.create("machine")
    machine = make(cgroup_files=group.procs_fds)
    try:
        await machine.boot()
        text = Path(f"/proc/{jailed_pid(machine)}/cgroup").read_text()
        assert f"/firelet/{cgroups.owner_name()}/machine" in text
    finally:
        await machine.stop()
        group.remove()
        tree.close()


async def test_a_jailed_machine_is_in_the_network_that_it_is_given(make: Make) -> None:
    child = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        namespace = Path(f"/proc/{child.pid}/ns/net")
        while os.readlink(namespace) == os.readlink("/proc/self/ns/net"):
            await asyncio.sleep(0.01)
        machine = make(network=namespace)
        try:
            await machine.boot()
            own = os.readlink(f"/proc/{jailed_pid(machine)}/ns/net")
            assert own == os.readlink(namespace)
        finally:
            await machine.stop()
    finally:
        child.kill()
        child.wait()


async def test_a_jailer_that_is_missing_is_told(make: Make) -> None:
    machine = make()
    Path(machine._vmm._jailer_program).unlink()
    with pytest.raises(VmmMissing, match="jailer is not there"):
        await machine.boot()


async def test_a_jail_that_cannot_be_made_has_the_reason_in_the_error(make: Make) -> None:
    with pytest.raises(VmmEnded) as ended:
        await make(network=Path("/run/netns/of-nobody")).boot()
    assert "of-nobody" in ended.value.console


@pytest.mark.parametrize("moment", ["PUT /vsock", "PATCH /vm"])
async def test_a_jailed_machine_that_hangs_can_be_stopped(make: Make, moment: str) -> None:
    machine = make(Behaviour(hang=moment))

    async def boot_and_pause() -> None:
        async with asyncio.timeout(1):
            await machine.boot()
            await machine.pause()

    with pytest.raises(TimeoutError):
        await boot_and_pause()
    await machine.stop()
    assert not Path(f"/proc/{machine.pid}").exists()


async def test_a_jail_is_ended_as_soon_as_it_was_begun(make: Make) -> None:
    machine = make()
    booting = asyncio.create_task(machine.boot())
    while machine._vmm._process is None:
        await asyncio.sleep(0)
    booting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await booting
    assert machine.state is VmState.STOPPED


async def test_a_guest_that_is_not_ready_ends_its_jail(make: Make) -> None:
    machine = make(Behaviour(deaf=-1, console="Kernel panic\n"))
    machine._ready_timeout_s = 0.3
    with pytest.raises(VmmSilent, match="Kernel panic"):
        await machine.boot()


def test_a_jail_ends_with_the_platform_that_made_it(tmp_path: Path) -> None:
    """Killed, which nobody can prepare for."""
    for name in ("kernel", "initrd"):
        (tmp_path / name).touch()
    program = f"""
import asyncio, os, sys
from pathlib import Path
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.vmm import VmSpec

async def main():
    place = Path({str(tmp_path)!r})
    machine = FirecrackerVmm(
        VmSpec(kernel=place / "kernel", initrd=place / "initrd", memory_mib=8, directory=place),
        program=Path({str(fake_firecracker.write_program(tmp_path))!r}),
        policy=JailPolicy(uid={UID}, gid={GID}),
        jailer={str(fake_jailer.write_program(tmp_path))!r},
    )
    await machine.boot()
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""
    source = str(Path(__file__).resolve().parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    ended = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert ended.returncode == -9
    shutil.rmtree(tmp_path / "vmm")
