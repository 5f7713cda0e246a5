"""Directories of the host in machines: what functions do with files, seen from all sides.

What holds for each kind of isolation is tested in ``tests/security/test_file_systems.py``.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from boxes import PYTHON, Box, BoxMaker, MakeDriver, make_owned_directory
from firelet.model.errors import FileSystemMountFailure
from firelet.sandbox.driver import RuntimeExit
from leaks import descendants
from machine_drivers import MakeMicrovmDriver

pytestmark = pytest.mark.usefixtures("nothing_leaks")

ARN = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0123456789abcdef0"
SHARED = ((ARN, "/mnt/shared"),)
OWNER = 54_321
PATIENCE_S = 20.0
WRITES = """
import os
with open("/mnt/shared/large", "wb") as file:
    for number in range(20):
        file.write(bytes([number]) * 2**20)
    os.fsync(file.fileno())
"""
READS = """
with open("/mnt/shared/large", "rb") as file:
    for number in range(20):
        assert file.read(2**20) == bytes([number]) * 2**20
    assert file.read() == b""
"""
PAST_THE_CACHE = """
import mmap, os
data = os.urandom(2**20)
fd = os.open("/mnt/shared/file", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
with mmap.mmap(-1, 2**20) as piece:
    piece[:] = data
    assert os.writev(fd, [piece]) == 2**20
    piece[:] = bytes(2**20)
    assert os.preadv(fd, [piece], 0) == 2**20
    assert piece[:] == data
"""
WORKS = """
import mmap, os, stat, subprocess
os.chdir("/mnt/shared")
os.makedirs("a/b")
for number in range(20):
    open(f"a/b/{number}", "w").write(str(number))
assert sorted(os.listdir("a/b"), key=int) == [str(number) for number in range(20)]
assert sum(entry.stat().st_size for entry in os.scandir("a/b")) == 30
os.rename("a/b/7", "seven")
os.replace("a/b/8", "seven")
assert open("seven").read() == "8" and not os.path.exists("a/b/8")
os.link("seven", "again")
assert os.stat("again").st_nlink == 2
os.symlink("seven", "link")
assert open("link").read() == "8" and os.readlink("link") == "seven"
os.truncate("again", 0)
assert open("seven").read() == ""
os.utime("seven", (1, 2))
assert os.stat("seven").st_mtime == 2
os.chmod("seven", 0o600)
assert stat.S_IMODE(os.stat("seven").st_mode) == 0o600
with open("mapped", "w+b") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 8192) as view:
        view[5000:5004] = b"text"
        view.flush()
assert open("mapped", "rb").read()[5000:5004] == b"text"
with open("seven") as file:
    os.unlink("seven")
    os.unlink("again")
    assert file.read() == ""
assert os.statvfs(".").f_blocks > 0
with open("script", "w") as file:
    os.fchmod(file.fileno(), 0o755)
    file.write("#!/bin/sh\\necho ran")
assert subprocess.run("./script", capture_output=True, check=True).stdout == b"ran\\n"
os.unlink("script")
for forbidden in (
    lambda: os.mkfifo("pipe"), lambda: os.chmod("mapped", 0o4755), lambda: os.chown("mapped", 0, 0)
):
    try:
        forbidden()
    except PermissionError:
        continue
    raise AssertionError("it was allowed")
"""
LOCKS = """
import fcntl, sys, time
kind, seconds = sys.argv[1:]
with open("/mnt/shared/file", "r+") as file:
    print("asks", flush=True)
    getattr(fcntl, kind)(file, fcntl.LOCK_EX)
    print("has it", flush=True)
    time.sleep(float(seconds))
"""
APPENDS = """
import os, time
fd = os.open("/mnt/shared/file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
print("begins", flush=True)
for number in range(300):
    os.write(fd, b"x" * 1000)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make_owned_directory(tmp_path / "shared", OWNER)


@pytest.fixture
async def make_box(
    make_microvm_driver: MakeMicrovmDriver, directory: Path
) -> AsyncIterator[BoxMaker]:
    """Makes machines that share the directory."""
    driver = make_microvm_driver(file_systems={ARN: directory})
    await driver.open()
    maker = BoxMaker(driver)
    yield maker
    await maker.close()
    await driver.close()


@pytest.fixture
async def box(make_box: BoxMaker) -> Box:
    return await make_box(PYTHON, file_systems=SHARED)


@pytest.fixture
async def outside(make_driver: MakeDriver, directory: Path) -> AsyncIterator[Box]:
    """A sandbox of this host that shares the directory."""
    driver = make_driver(file_systems={ARN: directory})
    await driver.open()
    maker = BoxMaker(driver)
    yield await maker(PYTHON, file_systems=SHARED)
    await maker.close()
    await driver.close()


async def test_whatever_one_does_with_files(box: Box, directory: Path) -> None:
    ran = await box.run_python(WORKS)
    assert ran.ending == RuntimeExit(0, None), ran.output
    assert sorted(os.listdir(directory)) == ["a", "link", "mapped"]
    owner = directory.stat()
    for path in (directory, *directory.rglob("*")):
        made = path.lstat()
        assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)


async def test_twenty_mebibytes_go_both_ways(box: Box, directory: Path) -> None:
    for code in (WRITES, READS):
        ran = await box.run_python(code)
        assert ran.ending == RuntimeExit(0, None), ran.output
    assert (directory / "large").stat().st_size == 20 * 2**20


async def test_pieces_past_the_cache_are_as_large_as_the_kernel_likes(box: Box) -> None:
    ran = await box.run_python(PAST_THE_CACHE)
    assert ran.ending == RuntimeExit(0, None), ran.output


async def test_all_see_at_once_what_one_has_written(
    make_box: BoxMaker, outside: Box, directory: Path
) -> None:
    one, two = [await make_box(PYTHON, file_systems=SHARED) for _ in range(2)]
    for box, text in ((one, "a"), (outside, "b"), (two, "c"), (one, "d")):
        ran = await box.run_shell(f"cd /mnt/shared; printf {text} >>file; cat file")
        assert ran.ending == RuntimeExit(0, None)
    assert ran.output == (directory / "file").read_text() == "abcd"
    await two.run_shell("cd /mnt/shared; mv file moved; mkdir below")
    assert (await one.run_shell("ls /mnt/shared")).output.split() == ["below", "moved"]
    assert (await outside.run_shell("rm -r /mnt/shared/*; ls /mnt/shared")).output == ""
    assert (await one.run_shell("cat /mnt/shared/moved")).ending.code == 1


async def test_appending_from_two_machines_loses_nothing(
    make_box: BoxMaker, directory: Path
) -> None:
    boxes = [await make_box(PYTHON, file_systems=SHARED) for _ in range(2)]
    for box in boxes:
        box.start_python(APPENDS)
    for box in boxes:
        assert (await box.finish()).ending == RuntimeExit(0, None)
    assert (directory / "file").stat().st_size == 2 * 300 * 1000


@pytest.mark.parametrize("kind", ["flock", "lockf"])
async def test_a_lock_is_one_for_all(make_box: BoxMaker, directory: Path, kind: str) -> None:
    _make_file(directory)
    one, two = [await make_box(PYTHON, file_systems=SHARED) for _ in range(2)]
    one.start_python(LOCKS, kind, "1000")
    await one.says("has it")
    two.start_python(LOCKS, kind, "0")
    await two.says("asks")
    with (directory / "file").open("r+") as file, pytest.raises(BlockingIOError):
        getattr(fcntl, kind)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert b"has it" not in two.output
    one.sandbox.signal_runtime(signal.SIGKILL)
    assert (await two.finish()).ending == RuntimeExit(0, None)


async def test_one_that_waits_for_a_lock_is_killed_all_the_same(box: Box, directory: Path) -> None:
    _make_file(directory)
    with _locked(directory / "file"):
        box.start_python(LOCKS, "flock", "0")
        await box.says("asks")
        async with asyncio.timeout(PATIENCE_S):
            await box.sandbox.kill_processes()
        assert b"has it" not in box.output
    assert (await box.run_shell("cat /mnt/shared/file")).output == "text"


async def test_it_is_frozen_and_goes_on_in_the_middle_of_its_work(
    box: Box, directory: Path, needs_cgroups: None
) -> None:
    box.start_python(APPENDS)
    await box.says("begins")
    await asyncio.to_thread(_until_grown, directory / "file", 1_000)
    box.sandbox.freeze()
    await asyncio.sleep(0.3)
    size = (directory / "file").stat().st_size
    await asyncio.sleep(0.3)
    assert (directory / "file").stat().st_size == size < 300 * 1000
    box.sandbox.thaw()
    assert (await box.finish()).ending == RuntimeExit(0, None)
    assert (directory / "file").stat().st_size == 300 * 1000


async def test_it_ends_when_its_directory_is_served_no_more(box: Box, directory: Path) -> None:
    (server,) = _servers()
    box.start_shell("sleep 1000")
    os.kill(server, signal.SIGKILL)
    assert await box.ending() == RuntimeExit(None, None)
    assert box.sandbox.is_dead


async def test_a_directory_of_root_is_not_shared(
    make_box: BoxMaker, directory: Path, needs_root: None
) -> None:
    """Those of the configuration are refused at the start; this one was given away later."""
    os.chown(directory, OWNER, 0)
    with pytest.raises(FileSystemMountFailure, match="belongs to root"):
        await make_box(PYTHON, file_systems=SHARED)
    assert _servers() == []


async def test_what_serves_it_ends_with_it(box: Box) -> None:
    assert len(_servers()) == 1
    await box.sandbox.stop()
    assert _servers() == []


def _servers() -> list[int]:
    """The processes that serve directories, below this one."""
    found = []
    for pid in descendants():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"directory_process.py" in command:
            found.append(pid)
    return found


def _make_file(directory: Path) -> None:
    """One that functions may write."""
    (directory / "file").write_text("text")
    owner = directory.stat()
    os.chown(directory / "file", owner.st_uid, owner.st_gid)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _until_grown(path: Path, size: int) -> None:
    while not path.exists() or path.stat().st_size < size:
        os.sched_yield()
