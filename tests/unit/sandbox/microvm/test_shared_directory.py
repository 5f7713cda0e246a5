"""A directory that is shared over FUSE: what a guest's kernel asks, and what it gets."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.sandbox.microvm.fuse_protocol import (
    REQUEST_MAX_BYTES,
    Breach,
    Operation,
    Owners,
    split,
)
from firelet.sandbox.microvm.shared_directory import Bounds, SharedDirectory
from fuse_kernel import ROOT, FuseKernel, init_body, lock_body, named, parse_entry, request

pytestmark = pytest.mark.usefixtures("nothing_leaks")

GUEST_ID = 993
NOBODY = 65_534
BOUNDS = Bounds(nodes=50, handles=8, locks=4)
MODE, UID, GID, SIZE, ATIME, MTIME, OF_HANDLE, ATIME_NOW, MTIME_NOW = (1 << n for n in range(9))


class Server:
    """A shared directory, asked by bytes."""

    def __init__(self, directory: Path) -> None:
        owner = directory.stat()
        self._own_fds = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY)
        self.shared = SharedDirectory(
            os.open(directory, os.O_PATH | os.O_DIRECTORY),
            self._own_fds,
            Owners(owner.st_uid, owner.st_gid, GUEST_ID),
            BOUNDS,
        )

    def exchange(self, data: bytes) -> bytes:
        (asked,) = split(bytearray(data))
        return self.shared.serve(asked) or b""

    def close(self) -> None:
        self.shared.close()
        os.close(self._own_fds)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.fixture
def server(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    yield server
    server.close()


@pytest.fixture
def kernel(server: Server) -> FuseKernel:
    """One that has agreed with the server."""
    kernel = FuseKernel(server.exchange)
    kernel.begin()
    return kernel


class TestAgreement:
    def test_it_is_about_versions_sizes_and_what_both_know(self, server: Server) -> None:
        said = FuseKernel(server.exchange).begin()
        assert said == (7, 31, 131_072, 0x4142B, 16, 12, 131_072, 1)

    def test_a_kernel_that_knows_less_gets_no_more(self, server: Server) -> None:
        answer = FuseKernel(server.exchange).ask(Operation.INIT, 0, init_body(flags=1))
        assert struct.unpack_from("<IIII", answer) == (7, 31, 131_072, 1)

    def test_it_comes_first_and_once_and_not_from_the_past(self, server: Server) -> None:
        kernel = FuseKernel(server.exchange)
        with pytest.raises(Breach, match="before INIT"):
            kernel.lookup("file")
        kernel.begin()
        with pytest.raises(Breach, match="a second INIT"):
            kernel.begin()

    def test_an_old_kernel_is_refused(self, server: Server) -> None:
        with pytest.raises(Breach, match=r"FUSE 7\.30 is not 7\.31 or newer"):
            FuseKernel(server.exchange).ask(Operation.INIT, 0, init_body(minor=30))


class TestFiles:
    def test_one_is_made_written_read_and_removed(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        node, handle = kernel.create("file", 0o640)
        assert kernel.write(handle, b"some text") == 9
        assert kernel.write(handle, b"TEXT", 5) == 4
        assert (directory / "file").read_bytes() == b"some TEXT"
        assert kernel.read(handle, 100, 5) == b"TEXT"
        found = kernel.getattr(node)
        assert (found.size, found.mode) == (9, stat.S_IFREG | 0o640)
        kernel.flush(node, handle)
        kernel.ask(Operation.FSYNC, node, struct.pack("<QII", handle, 1, 0))
        kernel.release(node, handle)
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.read(handle, 1)
        kernel.ask(Operation.UNLINK, ROOT, named("file"))
        assert os.listdir(directory) == []

    def test_what_is_open_is_there_after_its_name_has_gone(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        node, handle = kernel.create("file")
        (directory / "file").unlink()
        kernel.write(handle, b"text")
        other = kernel.open(node, os.O_RDONLY)
        assert kernel.read(other, 10) == b"text"
        assert kernel.getattr(node).links == 0

    def test_it_is_made_anew_or_not_at_all_if_that_is_wanted(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / "file").write_text("before")
        _, handle = kernel.create("file")
        assert kernel.read(handle, 10) == b"before"
        kernel.create("file", flags=os.O_RDWR | os.O_TRUNC)
        assert (directory / "file").read_text() == ""
        with pytest.raises(FileExistsError):
            kernel.create("file", flags=os.O_RDWR | os.O_EXCL)

    def test_what_is_appended_goes_to_the_end_that_there_is_now(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / "file").write_text("one")
        node, _ = kernel.lookup("file")
        handle = kernel.open(node, os.O_WRONLY | os.O_APPEND)
        (directory / "file").write_text("one and two")
        kernel.write(handle, b", three", 3)
        assert (directory / "file").read_text() == "one and two, three"

    def test_holes_are_found(self, kernel: FuseKernel, directory: Path) -> None:
        with (directory / "file").open("wb") as file:
            file.truncate(1 << 20)
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        body = struct.pack("<QQII", handle, 0, os.SEEK_HOLE, 0)
        assert kernel.ask(Operation.LSEEK, node, body) == bytes(8)
        body = struct.pack("<QQII", handle, 0, os.SEEK_END, 0)
        kernel.refuses(errno.EINVAL, Operation.LSEEK, node, body)

    def test_rights_are_those_of_whoever_serves(self, kernel: FuseKernel, directory: Path) -> None:
        (directory / "file").touch(0o644)
        node, found = kernel.lookup("file")
        assert (found.uid, found.gid) == (GUEST_ID, GUEST_ID)
        kernel.ask(Operation.ACCESS, node, struct.pack("<II", os.R_OK | os.W_OK, 0))
        kernel.refuses(errno.EACCES, Operation.ACCESS, node, struct.pack("<II", os.X_OK, 0))

    def test_others_are_nobody(self, kernel: FuseKernel, directory: Path, needs_root: None) -> None:
        (directory / "file").touch()
        os.chown(directory / "file", 12_345, directory.stat().st_gid)
        _, found = kernel.lookup("file")
        assert (found.uid, found.gid) == (NOBODY, GUEST_ID)


class TestAttributes:
    def test_mode_size_and_times_are_set(self, kernel: FuseKernel, directory: Path) -> None:
        path = directory / "file"
        path.write_text("some text")
        node, _ = kernel.lookup("file")
        assert kernel.setattr(node, MODE, mode=0o600).mode == stat.S_IFREG | 0o600
        assert kernel.setattr(node, SIZE, size=4).size == 4
        handle = kernel.open(node)
        assert kernel.setattr(node, SIZE | OF_HANDLE, size=6, fh=handle).size == 6
        assert path.read_bytes() == b"some\0\0"
        before = path.stat()
        kernel.setattr(node, MTIME, mtime=2**64 - 5, mtime_ns=7)
        after = path.stat()
        assert (after.st_mtime_ns, after.st_atime_ns) == (-5 * 10**9 + 7, before.st_atime_ns)
        kernel.setattr(node, ATIME | MTIME | ATIME_NOW | MTIME_NOW)
        assert path.stat().st_mtime_ns >= before.st_mtime_ns
        with pytest.raises(OSError, match="Invalid"):
            kernel.setattr(node, MTIME, mtime_ns=10**9)

    def test_a_file_belongs_to_whoever_it_belongs_to(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / "file").touch()
        node, _ = kernel.lookup("file")
        kernel.setattr(node, UID | GID, uid=GUEST_ID, gid=GUEST_ID)
        for value in (0, 1, GUEST_ID + 1, NOBODY):
            with pytest.raises(PermissionError):
                kernel.setattr(node, UID, uid=value)
            with pytest.raises(PermissionError):
                kernel.setattr(node, GID, gid=value)

    @pytest.mark.parametrize("bit", [stat.S_ISUID, stat.S_ISGID])
    def test_no_program_runs_with_rights_of_its_owner(
        self, kernel: FuseKernel, directory: Path, bit: int
    ) -> None:
        node, _ = kernel.create("file", 0o755)
        with pytest.raises(PermissionError):
            kernel.setattr(node, MODE, mode=0o755 | bit)
        with pytest.raises(PermissionError):
            kernel.create("other", 0o755 | bit)
        body = struct.pack("<IIII", stat.S_IFREG | 0o755 | bit, 0, 0, 0) + named("third")
        kernel.refuses(errno.EPERM, Operation.MKNOD, ROOT, body)
        made = kernel.mkdir("below", 0o755 | bit)
        assert stat.S_IMODE((directory / "below").stat().st_mode) == 0o755
        if bit == stat.S_ISGID:
            kernel.setattr(made, MODE, mode=0o755 | bit)
        assert sorted(os.listdir(directory)) == ["below", "file"]

    def test_a_file_system_tells_its_size(self, kernel: FuseKernel, directory: Path) -> None:
        said = struct.unpack_from("<5Q4I", kernel.ask(Operation.STATFS))
        found = os.statvfs(directory)
        assert (said[0], said[5], said[7]) == (found.f_blocks, found.f_bsize, found.f_frsize)


class TestNames:
    def test_directories_are_made_listed_and_removed(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        below = kernel.mkdir("below")
        names = {f"file {number}" for number in range(500)}
        for name in names:
            (directory / "below" / name).touch()
        for piece in (4096, 128, 65_536):
            found = [os.fsdecode(name) for name in kernel.names(below, piece)]
            assert len(found) == 502
            assert set(found) == names | {".", ".."}
        kernel.refuses(errno.ENOTEMPTY, Operation.RMDIR, ROOT, named("below"))
        for name in names:
            kernel.ask(Operation.UNLINK, below, named(name))
        kernel.ask(Operation.RMDIR, ROOT, named("below"))
        assert os.listdir(directory) == []

    def test_a_piece_without_room_for_a_name_is_not_the_end(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / ("x" * 200)).touch()
        with pytest.raises(OSError, match="Invalid"):
            kernel.names(ROOT, 64)

    def test_files_are_renamed_and_exchanged(self, kernel: FuseKernel, directory: Path) -> None:
        for name in ("one", "two"):
            (directory / name).write_text(name)
        below = kernel.mkdir("below")
        kernel.rename("one", "two", flags=2)
        assert (directory / "one").read_text() == "two"
        with pytest.raises(FileExistsError):
            kernel.rename("one", "two", flags=1)
        kernel.rename("one", "moved", below)
        assert (directory / "below" / "moved").read_text() == "two"
        body = struct.pack("<Q", ROOT) + named("two") + named("again")
        kernel.ask(Operation.RENAME, ROOT, body)
        assert sorted(os.listdir(directory)) == ["again", "below"]
        body = struct.pack("<QII", ROOT, 4, 0) + named("again") + named("x")
        kernel.refuses(errno.EINVAL, Operation.RENAME2, ROOT, body)

    def test_a_file_with_two_names_is_one(self, kernel: FuseKernel, directory: Path) -> None:
        node, _ = kernel.create("file")
        body = struct.pack("<Q", node) + named("other")
        linked, found = parse_entry(kernel.ask(Operation.LINK, ROOT, body))
        assert (linked, found.links) == (node, 2)
        assert (directory / "other").samefile(directory / "file")
        body = struct.pack("<Q", kernel.mkdir("below")) + named("x")
        kernel.refuses(errno.EPERM, Operation.LINK, ROOT, body)

    def test_nodes_stay_what_they_are_whatever_their_names(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / "one").write_text("one")
        node, _ = kernel.lookup("one")
        (directory / "one").rename(directory / "two")
        (directory / "one").write_text("another")
        other, _ = kernel.lookup("one")
        assert other != node
        assert kernel.lookup("two")[0] == node
        assert kernel.read(kernel.open(node), 10) == b"one"

    def test_the_kernel_forgets_what_it_was_told_and_not_more(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        (directory / "file").touch()
        (directory / "other").touch()
        node, other = kernel.lookup("file")[0], kernel.lookup("other")[0]
        kernel.lookup("file")
        kernel.say(Operation.FORGET, node, struct.pack("<Q", 1))
        assert kernel.getattr(node).size == 0
        body = struct.pack("<IIQQQQ", 2, 0, node, 1, other, 1)
        kernel.say(Operation.BATCH_FORGET, 0, body)
        kernel.refuses(errno.ESTALE, Operation.GETATTR, node, bytes(16))
        kernel.say(Operation.FORGET, ROOT, struct.pack("<Q", 2**64 - 1))
        kernel.getattr(ROOT)
        with pytest.raises(Breach, match="more often than it was known"):
            kernel.say(Operation.FORGET, other, struct.pack("<Q", 1))
        body = struct.pack("<II", 2**32 - 1, 0) + struct.pack("<QQ", kernel.lookup("file")[0], 1)
        with pytest.raises(Breach, match="too short"):
            kernel.say(Operation.BATCH_FORGET, 0, body)

    def test_tables_are_bounded(self, kernel: FuseKernel, directory: Path) -> None:
        for number in range(BOUNDS.nodes):
            (directory / f"{number}").touch()
        for number in range(BOUNDS.nodes - 1):
            node, _ = kernel.lookup(f"{number}")
        for _ in range(3):
            kernel.refuses(errno.ENFILE, Operation.LOOKUP, ROOT, named(f"{number + 1}"))
        kernel.lookup("0")
        handles = [kernel.open(node) for _ in range(BOUNDS.handles)]
        with pytest.raises(OSError, match="Too many open files in system"):
            kernel.open(node)
        kernel.refuses(errno.ENFILE, Operation.OPENDIR, ROOT, bytes(8))
        with pytest.raises(OSError, match="Too many open files in system"):
            kernel.create("new")
        assert not (directory / "new").exists()
        kernel.release(node, handles[0])
        kernel.open(node)

    def test_what_is_not_served_is_said_to_be_so(self, kernel: FuseKernel) -> None:
        for operation in (21, 22, 23, 24, 37, 39, 40, 41, 43, 44, 47, 48, 51, 4096, 2**32 - 1):
            kernel.refuses(errno.ENOSYS, operation)


class TestWalls:
    """Nothing leads out of the directory, and nothing but files and directories is opened."""

    @pytest.fixture
    def secret(self, directory: Path) -> Path:
        path = directory.parent / "secret"
        path.write_text("secret")
        return path

    @pytest.mark.parametrize("name", ["", ".", "..", "../secret", "/etc/passwd", "a/b", "/"])
    def test_what_is_no_name_ends_the_conversation(
        self, kernel: FuseKernel, secret: Path, name: str
    ) -> None:
        asked: dict[Operation, bytes] = {
            Operation.LOOKUP: named(name),
            Operation.UNLINK: named(name),
            Operation.RMDIR: named(name),
            Operation.MKDIR: bytes(8) + named(name),
            Operation.MKNOD: bytes(16) + named(name),
            Operation.CREATE: bytes(16) + named(name),
            Operation.SYMLINK: named(name) + named("target"),
            Operation.LINK: struct.pack("<Q", ROOT) + named(name),
            Operation.RENAME: struct.pack("<Q", ROOT) + named("x") + named(name),
            Operation.RENAME2: struct.pack("<QII", ROOT, 0, 0) + named(name) + named("x"),
        }
        for operation, body in asked.items():
            with pytest.raises(Breach, match="is no name"):
                kernel.ask(operation, ROOT, body)
        assert secret.read_text() == "secret"

    def test_links_are_the_guest_s_to_follow(
        self, kernel: FuseKernel, directory: Path, secret: Path
    ) -> None:
        for number, target in enumerate((str(secret), "../secret", "/proc/self/root/etc")):
            name = f"link {number}"
            made = kernel.ask(Operation.SYMLINK, ROOT, named(name) + named(target))
            node, found = parse_entry(made)
            assert stat.S_ISLNK(found.mode)
            assert kernel.ask(Operation.READLINK, node) == os.fsencode(target)
            kernel.refuses(errno.EPERM, Operation.OPEN, node, struct.pack("<II", os.O_RDWR, 0))
            kernel.refuses(errno.ENOTDIR, Operation.LOOKUP, node, named("passwd"))
            kernel.refuses(errno.ENOTDIR, Operation.OPENDIR, node, bytes(8))
            with pytest.raises(PermissionError):
                kernel.setattr(node, SIZE, size=0)
            with pytest.raises(OSError, match="not supported"):
                kernel.setattr(node, MODE, mode=0o777)
            with pytest.raises(PermissionError):
                kernel.create(name)
        assert secret.read_text() == "secret"
        assert stat.S_IMODE(secret.stat().st_mode) != 0o777

    def test_what_is_no_file_is_seen_and_never_opened(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        os.mkfifo(directory / "pipe")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "socket"))
            for name in ("pipe", "socket"):
                node, found = kernel.lookup(name)
                assert not stat.S_ISREG(found.mode)
                for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                    body = struct.pack("<II", flags, 0)
                    kernel.refuses(errno.EPERM, Operation.OPEN, node, body)
                with pytest.raises(PermissionError):
                    kernel.setattr(node, SIZE, size=0)
                with pytest.raises(PermissionError):
                    kernel.create(name)

    @pytest.mark.parametrize(
        "kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR]
    )
    def test_nothing_but_files_is_made(
        self, kernel: FuseKernel, directory: Path, kind: int
    ) -> None:
        body = struct.pack("<IIII", kind | 0o666, 0x103, 0, 0) + named("made")
        kernel.refuses(errno.EPERM, Operation.MKNOD, ROOT, body)
        assert os.listdir(directory) == []
        body = struct.pack("<IIII", stat.S_IFREG | 0o666, 0, 0, 0) + named("made")
        _, found = parse_entry(kernel.ask(Operation.MKNOD, ROOT, body))
        assert stat.S_ISREG(found.mode)

    def test_positions_that_no_file_has_are_refused(self, kernel: FuseKernel) -> None:
        node, handle = kernel.create("file")
        for call in (
            lambda: kernel.read(handle, 1, 2**63),
            lambda: kernel.write(handle, b"x", 2**64 - 1),
            lambda: kernel.setattr(node, SIZE, size=2**63),
        ):
            with pytest.raises(OSError, match=r"Invalid argument|File too large"):
                call()
        with pytest.raises(Breach, match="bytes to be read"):
            kernel.read(handle, 2**32 - 1)

    def test_handles_are_for_what_they_were_opened_for(
        self, kernel: FuseKernel, directory: Path
    ) -> None:
        answer = kernel.ask(Operation.OPENDIR, ROOT, bytes(8))
        (handle,) = struct.unpack_from("<Q", answer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            kernel.read(handle, 1)
        kernel.refuses(errno.EBADF, Operation.RELEASE, ROOT, struct.pack("<QIIQ", handle, 0, 0, 0))
        _, own = kernel.create("file")
        body = struct.pack("<QQIIQII", own, 0, 4096, 0, 0, 0, 0)
        kernel.refuses(errno.EBADF, Operation.READDIR, ROOT, body)


class TestLocks:
    """Held on this host: ``other`` is another open file, as another machine has it."""

    @pytest.fixture
    def other(self, directory: Path) -> Iterator[int]:
        fd = os.open(directory / "file", os.O_RDWR | os.O_CREAT, 0o644)
        yield fd
        os.close(fd)

    def test_those_of_open_files(self, kernel: FuseKernel, other: int) -> None:
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        wanted = lock_body(handle, 1, fcntl.F_WRLCK, flags=1)
        kernel.ask(Operation.SETLK, node, wanted)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
        kernel.ask(Operation.SETLK, node, lock_body(handle, 1, fcntl.F_UNLCK, flags=1))
        fcntl.flock(other, fcntl.LOCK_SH)
        kernel.refuses(errno.EAGAIN, Operation.SETLK, node, wanted)
        kernel.ask(Operation.SETLK, node, lock_body(handle, 1, fcntl.F_RDLCK, flags=1))
        kernel.release(node, handle)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_those_of_processes(self, kernel: FuseKernel, other: int) -> None:
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        kernel.ask(Operation.SETLK, node, lock_body(handle, 7, fcntl.F_WRLCK, start=10, end=19))
        # Of the same owner it is none in the way; of another one it is, and on the host too.
        asked = lock_body(handle, 7, fcntl.F_WRLCK)
        assert (
            struct.unpack_from("<QQI", kernel.ask(Operation.GETLK, node, asked))[2] == fcntl.F_UNLCK
        )
        asked = lock_body(handle, 8, fcntl.F_RDLCK, start=15)
        said = struct.unpack_from("<QQI", kernel.ask(Operation.GETLK, node, asked))
        assert said == (10, 19, fcntl.F_WRLCK)
        kernel.refuses(errno.EAGAIN, Operation.SETLK, node, asked)
        with pytest.raises(BlockingIOError):
            _lock(other, 19, 1)
        _lock(other, 20, 1)
        kernel.flush(node, handle, 8)
        with pytest.raises(BlockingIOError):
            _lock(other, 10, 1)
        kernel.flush(node, handle, 7)
        _lock(other, 0, 0)

    def test_they_end_with_the_last_close(self, kernel: FuseKernel, other: int) -> None:
        node, _ = kernel.lookup("file")
        handles = [kernel.open(node) for _ in range(2)]
        kernel.ask(Operation.SETLK, node, lock_body(handles[0], 7, fcntl.F_WRLCK))
        kernel.release(node, handles[0])
        with pytest.raises(BlockingIOError):
            _lock(other, 0, 0)
        kernel.release(node, handles[1])
        _lock(other, 0, 0)

    def test_whoever_waits_is_answered_when_it_is_free(
        self, server: Server, kernel: FuseKernel, other: int
    ) -> None:
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        fcntl.flock(other, fcntl.LOCK_EX)
        _lock(other, 0, 0)
        wanted = [lock_body(handle, 1, fcntl.F_WRLCK, flags=1), lock_body(handle, 1, 1)]
        for number, body in enumerate(wanted):
            assert server.exchange(request(Operation.SETLKW, 100 + number, node, body)) == b""
        assert server.shared.locks.is_awaited
        assert list(server.shared.locks.retry()) == []
        assert kernel.getattr(node).size == 0  # meanwhile
        fcntl.flock(other, fcntl.LOCK_UN)
        assert list(server.shared.locks.retry()) == [struct.pack("<IiQ", 16, 0, 100)]
        interruption = request(Operation.INTERRUPT, 103, 0, struct.pack("<Q", 101))
        assert server.exchange(interruption) == struct.pack("<IiQ", 16, -errno.EINTR, 101)
        assert server.exchange(interruption) == b""
        assert not server.shared.locks.is_awaited
        kernel.ask(Operation.SETLKW, node, lock_body(handle, 1, fcntl.F_UNLCK, flags=1))

    def test_one_that_waits_for_what_is_closed_is_told(
        self, server: Server, kernel: FuseKernel, other: int
    ) -> None:
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        fcntl.flock(other, fcntl.LOCK_EX)
        body = lock_body(handle, 1, fcntl.F_WRLCK, flags=1)
        assert server.exchange(request(Operation.SETLKW, 100, node, body)) == b""
        kernel.release(node, handle)
        assert list(server.shared.locks.retry()) == [struct.pack("<IiQ", 16, -errno.EBADF, 100)]

    def test_they_are_bounded(self, server: Server, kernel: FuseKernel, other: int) -> None:
        node, _ = kernel.lookup("file")
        handle = kernel.open(node)
        for owner in range(BOUNDS.locks):
            body = lock_body(handle, owner, fcntl.F_RDLCK)
            kernel.ask(Operation.SETLK, node, body)
        body = lock_body(handle, 99, fcntl.F_RDLCK)
        kernel.refuses(errno.ENOLCK, Operation.SETLK, node, body)
        kernel.flush(node, handle, 0)
        kernel.ask(Operation.SETLK, node, body)
        fcntl.flock(other, fcntl.LOCK_EX)
        body = lock_body(handle, 1, fcntl.F_WRLCK, flags=1)
        for unique in range(100, 100 + BOUNDS.locks):
            assert server.exchange(request(Operation.SETLKW, unique, node, body)) == b""
        kernel.refuses(errno.ENOLCK, Operation.SETLKW, node, body)

    @pytest.mark.parametrize(
        ("kind", "start", "end"), [(3, 0, 0), (2**32 - 1, 0, 0), (1, 5, 4), (1, 0, 2**63)]
    )
    def test_what_is_no_lock_is_refused(
        self, kernel: FuseKernel, other: int, kind: int, start: int, end: int
    ) -> None:
        node, _ = kernel.lookup("file")
        body = lock_body(kernel.open(node), 1, kind, start=start, end=end)
        for operation in (Operation.SETLK, Operation.GETLK, Operation.SETLKW):
            kernel.refuses(errno.EINVAL, operation, node, body)


def _lock(fd: int, start: int, length: int) -> None:
    """By an owner that is no other one. BlockingIOError."""
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)


class TestHostility:
    """Whatever comes is answered, refused or a breach; and nothing outside is touched."""

    NODES = st.integers(0, 6) | st.integers(0, 2**64 - 1)
    NAMES = st.sampled_from(
        [b"file", b"below", b"link", b"up", b"pipe", b"new", b"..", b".", b"", b"a/b", b"x" * 300]
    ) | st.binary(max_size=8)
    NUMBERS = st.sampled_from([0, 1, 2, 3, 8, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
    WORDS = st.lists(NUMBERS.map(lambda number: struct.pack("<I", number)), max_size=24)
    BODIES = st.builds(
        lambda words, names, rest: b"".join(words) + b"".join(n + b"\0" for n in names) + rest,
        WORDS,
        st.lists(NAMES, max_size=3),
        st.binary(max_size=32),
    )
    OPERATIONS = st.sampled_from(list(Operation)) | st.integers(0, 60)
    REQUESTS = st.tuples(OPERATIONS, NODES, BODIES)

    @settings(max_examples=300, deadline=None)
    @given(asked=st.lists(REQUESTS, max_size=25))
    def test_requests_of_any_kind(self, asked: list[tuple[int, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place, "shared")
            _furnish(root)
            outside = _picture(Path(place))
            server = Server(root)
            try:
                server.exchange(request(Operation.INIT, 2, 0, init_body()))
                for name in (b"file\0", b"below\0", b"link\0", b"up\0", b"pipe\0"):
                    server.exchange(request(Operation.LOOKUP, 2, ROOT, name))
                for unique, (operation, node, body) in enumerate(asked):
                    answer = server.exchange(request(operation, unique, node, body))
                    if answer:
                        length, number, _ = struct.unpack_from("<IiQ", answer)
                        assert length == len(answer)
                        assert -4096 < number <= 0
                for answer in server.shared.locks.retry():
                    assert len(answer) == 16
            except Breach:
                pass
            finally:
                server.close()
            assert _picture(Path(place)) == outside

    @settings(max_examples=200, deadline=None)
    @given(data=st.binary(max_size=400))
    def test_bytes_of_any_kind(self, data: bytes) -> None:
        buffer = bytearray(data)
        try:
            for asked in split(buffer):
                assert 0 <= len(asked.body) <= len(data) - 40
        except Breach:
            return
        assert len(buffer) < max(40, REQUEST_MAX_BYTES)

    @pytest.mark.parametrize("length", [0, 39, REQUEST_MAX_BYTES + 1, 2**32 - 1])
    def test_a_length_that_cannot_be(self, length: int) -> None:
        with pytest.raises(Breach, match=f"a request of {length} bytes"):
            list(split(bytearray(struct.pack("<I36x", length))))

    @settings(max_examples=50, deadline=None)
    @given(cut=st.integers(1, 200))
    def test_requests_in_pieces(self, cut: int) -> None:
        data = b"".join(request(1, number, 1, b"x" * number) for number in range(20))
        buffer = bytearray()
        found: list[Any] = []
        for start in range(0, len(data), cut):
            buffer += data[start : start + cut]
            found += [(asked.unique, bytes(asked.body)) for asked in split(buffer)]
        assert found == [(number, b"x" * number) for number in range(20)]
        assert not buffer


def _furnish(root: Path) -> None:
    root.mkdir()
    (root / "file").write_text("file")
    (root / "below").mkdir()
    (root / "link").symlink_to("file")
    (root / "up").symlink_to("../outside")
    os.mkfifo(root / "pipe")
    outside = root.parent / "outside"
    outside.write_text("secret")
    outside.chmod(0o640)


def _picture(place: Path) -> list[tuple[str, int, int, bytes]]:
    """All that lies next to the shared directory."""
    found = []
    for path in sorted(place.iterdir()):
        if path.name != "shared":
            status = path.lstat()
            found.append((path.name, status.st_mode, status.st_mtime_ns, path.read_bytes()))
    return found
