"""The process that serves a shared directory: what it can reach, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from fake_vmm import FakeHost, Guest
from firelet.linux import multiplex, process
from firelet.sandbox.driver import RuntimeExit
from firelet.sandbox.host import HostFacts
from firelet.sandbox.microvm import directory_server
from firelet.sandbox.microvm.directory_server import DirectoryServer, DirectoryServers
from firelet.sandbox.microvm.fuse_protocol import Operation
from fuse_kernel import ROOT, FuseKernel, init_body, request
from guest_ends import frame, opening
from machines import Bench, spec
from sandbox_contract import Watched

pytestmark = pytest.mark.usefixtures("nothing_leaks")

OWNER = 54_321
GUEST_ID = 993
PATIENCE_S = 20.0
FILES = {"for": "file system", "name": "files-0"}
LIMITS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")

Start = Callable[[], Awaitable["Served"]]


class Served:
    """A server, and a kernel that asks it."""

    def __init__(self, server: DirectoryServer) -> None:
        self.server = server
        self.connection = server.take_connection()
        self.connection.settimeout(PATIENCE_S)
        self.kernel = FuseKernel(self._exchange)

    @property
    def pid(self) -> int:
        return process.pid_of(self.server._process.pidfd)

    def _exchange(self, data: bytes) -> bytes:
        self.connection.sendall(data)
        head = self._receive(4)
        return head + self._receive(int.from_bytes(head, "little") - 4)

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.connection.recv(count - len(data))
            assert piece, "it has ended"
            data += piece
        return data

    async def stop(self) -> None:
        self.connection.close()
        await self.server.stop()


@pytest.fixture
def directory(tmp_path: Path, host: HostFacts) -> Path:
    path = tmp_path / "shared"
    path.mkdir(mode=0o750)
    if not host.is_rootless:
        os.chown(path, OWNER, OWNER + 1)
    return path


@pytest.fixture
async def start(directory: Path) -> AsyncIterator[Start]:
    started: list[Served] = []

    async def start() -> Served:
        started.append(Served(directory_server.start(directory, GUEST_ID, [])))
        await asyncio.to_thread(started[-1].kernel.begin)
        return started[-1]

    yield start
    for served in started:
        await served.stop()


async def test_it_acts_as_the_owner_and_as_nobody_else(
    start: Start, directory: Path, needs_root: None
) -> None:
    (directory / "theirs").write_text("closed")
    (directory / "theirs").chmod(0o600)
    served = await start()
    node, _ = served.kernel.create("file", 0o600)
    made = (directory / "file").stat()
    assert (made.st_uid, made.st_gid) == (OWNER, OWNER + 1)
    found = served.kernel.getattr(node)
    assert (found.uid, found.gid) == (GUEST_ID, GUEST_ID)
    node, found = served.kernel.lookup("theirs")
    assert (found.uid, found.gid) == (65_534, 65_534)
    with pytest.raises(PermissionError):
        served.kernel.open(node)
    status = _status(served.pid)
    assert status["Uid"].split() == [str(OWNER)] * 4
    assert status["Gid"].split() == [str(OWNER + 1)] * 4
    assert status["Groups"].split() == []


async def test_it_has_no_rights_no_network_and_no_other_files(
    start: Start, directory: Path, needs_root: None
) -> None:
    """Who is not root may not even look."""
    (directory / "file").touch(0o666)
    served = await start()
    status = _status(served.pid)
    assert {status[name] for name in LIMITS} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    own = Path("/proc/self/ns")
    for name in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{served.pid}/ns/{name}") != os.readlink(own / name)
    mounts = Path(f"/proc/{served.pid}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1
    _, _, _, root, point, options = mounts[0].split()[:6]
    assert point == "/"
    assert str(directory).endswith(root.rpartition("/")[2])
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert os.listdir(f"/proc/{served.pid}/root") == ["file"]
    served.kernel.lookup("file")
    # Standard streams, the connection, /proc/self/fd, the directory, and the node.
    opened = {os.readlink(f"/proc/{served.pid}/fd/{n}") for n in _fds(served.pid)}
    assert len(_fds(served.pid)) == 7
    assert {"/dev/null", "/"} <= opened


async def test_it_ends_with_its_connection(start: Start) -> None:
    served = await start()
    served.connection.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await served.server.wait() == "status 0"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"x" * 40, "a request of 2021161080 bytes"),
        (request(Operation.LOOKUP, 2, ROOT, b"../x\0"), "b'../x' is no name"),
        (request(Operation.INIT, 2, 0, init_body()), "a second INIT"),
        (request(Operation.WRITE, 2, 1, bytes(8)), "a request is too short"),
    ],
)
async def test_it_ends_with_what_no_kernel_says_and_says_why(
    start: Start, said: bytes, why: str
) -> None:
    served = await start()
    served.connection.sendall(said)
    async with asyncio.timeout(PATIENCE_S):
        assert await served.server.wait() == why


async def test_whoever_waits_for_a_lock_holds_up_nobody(start: Start) -> None:
    one, other = await start(), await start()
    node, handle = one.kernel.create("file")
    there, theirs = other.kernel.create("file")
    lock = "<QQQQIIII"
    held = struct.pack(lock, handle, 1, 0, 2**63 - 1, 1, 0, 0, 0)
    wanted = struct.pack(lock, theirs, 1, 0, 2**63 - 1, 1, 0, 0, 0)
    one.kernel.ask(Operation.SETLK, node, held)
    other.connection.sendall(request(Operation.SETLKW, 1_000, there, wanted))
    other.kernel.write(theirs, b"meanwhile")
    assert one.kernel.read(handle, 100) == b"meanwhile"
    one.kernel.flush(node, handle, 1)
    assert other._receive(16) == struct.pack("<IiQ", 16, 0, 1_000)


async def test_a_directory_that_cannot_be_served_is_told(tmp_path: Path, needs_root: None) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    servers = DirectoryServers(ends.put_nowait)
    assert servers.start([tmp_path, tmp_path / "missing"], GUEST_ID, []) == ["files-0", "files-1"]
    async with asyncio.timeout(PATIENCE_S):
        said = {await ends.get(), await ends.get()}
    await servers.stop()
    assert said == {"The directory belongs to root", "No such file or directory"}


async def test_one_that_is_killed_is_told_of_and_one_that_is_stopped_is_not(
    directory: Path,
) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()
    servers = DirectoryServers(ends.put_nowait)
    (name,) = servers.start([directory], GUEST_ID, [])
    taken = servers.take_connection(name)
    with pytest.raises(LookupError):
        servers.take_connection(name)
    with contextlib.closing(taken):
        servers.kill()
        async with asyncio.timeout(PATIENCE_S):
            assert await ends.get() == "status -9"
        await servers.stop()
    servers = DirectoryServers(ends.put_nowait)
    servers.start([directory], GUEST_ID, [])
    await servers.stop()
    assert ends.empty()


@pytest.fixture
async def machine(directory: Path, tmp_path: Path) -> AsyncIterator[tuple[Watched, Guest]]:
    """One that is none, with a guest that says what it is told to."""
    bench = Bench(tmp_path / "microvm", FakeHost(), file_systems={"arn": directory})
    driver = bench.driver()
    await driver.open()
    sandbox = await driver.create(spec(file_systems=(("arn", "/mnt/shared"),)))
    guest = bench.host.machines[-1].guest
    assert guest is not None
    yield Watched(sandbox), guest
    await driver.close()


async def test_a_guest_is_answered_over_its_link(
    machine: tuple[Watched, Guest], directory: Path
) -> None:
    said = request(Operation.INIT, 2, 0, init_body())
    said += request(Operation.MKDIR, 4, ROOT, struct.pack("<II", 0o755, 0) + b"made\0")
    await machine[1].say_raw(opening(101, **FILES) + frame(multiplex.DATA, 101, said))
    async with asyncio.timeout(PATIENCE_S):
        while not (directory / "made").exists():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "said",
    [
        opening(101, **FILES) + opening(103, **FILES),
        opening(101, **{**FILES, "name": "files-1"}),
        opening(101, **FILES) + frame(multiplex.DATA, 101, b"x" * 40),
        opening(101, **FILES) + frame(multiplex.END, 101),
        opening(101, **FILES) + frame(multiplex.RESET, 101),
    ],
)
async def test_a_guest_that_breaks_the_protocol_ends_its_machine(
    machine: tuple[Watched, Guest], said: bytes
) -> None:
    await machine[1].say_raw(said)
    assert await machine[0].ending() == RuntimeExit(None, None)
    assert machine[0].sandbox.is_dead


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _fds(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")
