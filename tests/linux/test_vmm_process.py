"""The process that runs a machine, with programs that are none."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from firelet.linux import namespaces
from firelet.sandbox.microvm import vmm_process, vmm_starter
from firelet.sandbox.microvm.console import KEPT_BYTES, Console
from firelet.sandbox.microvm.vmm import VmmError, VmmMissing
from firelet.sandbox.microvm.vmm_process import VmmProcess, start
from firelet.sandbox.microvm.vmm_starter import Starter, find_starter

pytestmark = pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing")

PATIENCE_S = 20.0


def shell(text: str, console: Console, **more: list[int]) -> VmmProcess:
    return start(["/bin/sh", "-c", text], console, **more)


async def end_of(process: VmmProcess) -> int:
    async with asyncio.timeout(PATIENCE_S):
        status = await process.wait()
    process.close()
    return status


async def test_its_status_and_all_that_it_wrote_are_there_at_its_end() -> None:
    console = Console()
    assert await end_of(shell("echo one; echo two >&2; exit 7", console)) == 7
    assert console.text() == "one\ntwo\n"


async def test_it_is_killed_even_when_it_is_stopped() -> None:
    process = shell("kill -STOP $$", Console())
    pidfd = process.pidfd
    async with asyncio.timeout(PATIENCE_S):
        await process.kill()
        await process.kill()
    assert await process.wait() == -signal.SIGKILL
    process.close()
    process.close()
    assert not os.path.exists(f"/proc/self/fd/{pidfd}")


async def test_it_joins_its_groups_first_and_does_not_keep_their_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("memory", "cpu")]
    files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in paths]
    inherited, theirs = os.pipe()
    console = Console()
    try:
        process = shell("ls -l /proc/self/fd", console, fds=[theirs], cgroup_files=files)
        while files:
            os.close(files.pop())  # their owner may close them at once
        assert await end_of(process) == 0
    finally:
        for fd in (*files, inherited, theirs):
            os.close(fd)
    assert [path.read_text() for path in paths] == ["0\n", "0\n"]
    assert f" {theirs} -> pipe" in console.text()
    assert str(tmp_path) not in console.text()


def huge_pages(status: str) -> list[str]:
    return [line for line in status.splitlines() if line.startswith("THP_enabled")]


@pytest.mark.skipif(
    not huge_pages(Path("/proc/self/status").read_text()), reason="the kernel does not tell"
)
@pytest.mark.parametrize("has_huge_pages", [True, False])
async def test_it_gets_huge_pages_if_it_may_and_we_are_as_before(has_huge_pages: bool) -> None:
    before = huge_pages(Path("/proc/self/status").read_text())
    console = Console()
    reading = ["/bin/cat", "/proc/self/status"]
    assert await end_of(start(reading, console, has_huge_pages=has_huge_pages)) == 0
    assert huge_pages(console.text()) == (before if has_huge_pages else ["THP_enabled:\t0"])
    assert huge_pages(Path("/proc/self/status").read_text()) == before


async def test_it_does_not_run_outside_of_its_groups() -> None:
    console = Console()
    with open(os.devnull) as not_for_writing, pytest.raises(OSError, match="descriptor"):
        shell("echo ran", console, cgroup_files=[not_for_writing.fileno(), 999_999])
    with open("/proc/self/status") as refuses:
        assert await end_of(shell("echo ran", console, cgroup_files=[refuses.fileno()])) != 0
    assert "ran" not in console.text().split()


async def test_it_does_not_run_when_its_parent_has_ended_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Console()
    monkeypatch.setattr(vmm_process.os, "getpid", lambda: 1)
    assert await end_of(shell("echo ran", console)) != 0
    assert console.text() == ""


async def test_whoever_floods_the_console_waits_and_others_do_not() -> None:
    console = Console()
    process = shell("exec yes", console)
    turns = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    while console.dropped_bytes < 4 * KEPT_BYTES:
        turns += 1
        await asyncio.sleep(0)
    seconds = loop.time() - began
    await process.kill()
    process.close()
    # 16 KiB every 20 ms, and what the pipe holds at the end.
    assert console.dropped_bytes + KEPT_BYTES <= (seconds / 0.02 + 2) * 16 * 1024 + 2 * 65_536
    assert turns > 1_000
    assert len(console.text()) == KEPT_BYTES


async def test_a_program_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console()
    process = start(["/missing"], console)
    assert await end_of(process) == 127
    assert "not found" in console.text()
    monkeypatch.setattr(vmm_process, "_WITH_PARENT", ("no-such-setpriv",))
    with pytest.raises(VmmMissing, match="no-such-setpriv"):
        shell("true", console)


async def test_it_is_killed_with_its_starter_only_when_we_end() -> None:
    """The thread that has started it waits for the next one."""
    starter = Starter(lambda: None)
    process = start(["/bin/sleep", "1000"], Console(), starter=starter)
    await asyncio.sleep(0.1)
    assert not process.has_ended
    await process.kill()
    process.close()


async def test_what_its_starter_has_given_up_it_has_not_and_we_have(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with (tmp_path / "file").open("r+b") as file:
        program = Path(sys.executable).resolve()
        starter = find_starter(program, shares_memory=True)
        console = Console()
        code = f"import os; os.posix_fallocate({file.fileno()}, 0, 100); print('done')"
        command = [str(program), "-ISc", code]
        process = start(command, console, fds=[file.fileno()], starter=starter)
        assert await end_of(process) == 0, console.text()
        assert console.text() == "done\n"
        assert os.fstat(file.fileno()).st_size == 4
        os.posix_fallocate(file.fileno(), 0, 100)
        assert os.fstat(file.fileno()).st_size == 100
    assert find_starter(program, shares_memory=True) is starter
    assert find_starter(program, shares_memory=False) is not starter


async def test_a_starter_that_cannot_give_up_what_it_has_to_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_flags: int) -> None:
        raise PermissionError(errno.EPERM, "unshare")

    monkeypatch.setattr(vmm_starter.os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "unshare", fail)
    with pytest.raises(VmmError, match=r"cannot be shut in: .*unshare"):
        find_starter(Path("/no-such-place/program"), shares_memory=False)
