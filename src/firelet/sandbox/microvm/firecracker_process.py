"""The process of one Firecracker: in a jail or directly, with its files, its API and its outputs.

What it is: everything around the program, from an empty directory to an API that answers, and back
to nothing. What it is not: a machine; ``firecracker_vmm`` tells it what to run.

    DIRECTORY/vmm                        direct: where Firecracker starts
    DIRECTORY/vmm/PROGRAM/ID/root        jailed: the root of its jail, where it starts as well
        api.socket  vsock.socket         made by Firecracker
        log  metrics                     named pipes, which are read here: the end of each is kept
        kernel, initrd, vda …            the machine's files: bound (jailed) or symbolic links

The sockets are reached through the open directory: their paths may be longer than a socket's
address. Blocking work is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from firelet.linux import process as processes
from firelet.sandbox.cgroups import remove_directory
from firelet.sandbox.microvm import jailer
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.firecracker_client import FirecrackerClient
from firelet.sandbox.microvm.firecracker_requests import API_SOCKET, LOG, METRICS
from firelet.sandbox.microvm.vmm import VmmEnded, VmmError, VmmMissing, VmmSilent, WrongState
from firelet.sandbox.microvm.vmm_process import VmmProcess, start

PROGRAM = "firecracker"
API_TIMEOUT_S = 10.0
_HOME = "vmm"
_POLL_S = 0.005
_TAIL = 2_000
_READ_BYTES = 65_536


class PipeTail:
    """The end of what is written into a named pipe. Reads as soon as something is there, so that
    its writer, which does not wait, loses nothing."""

    def __init__(self, path: Path) -> None:
        """Makes the pipe."""
        os.mkfifo(path, 0o600)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._kept = Console()

    def follow(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, self._on_data)

    def drain(self) -> bool:
        """Reads what is there by now. False if nobody has it open for writing."""
        try:
            while data := os.read(self._fd, _READ_BYTES):
                self._kept.write(data)
        except BlockingIOError:
            return True
        return False

    def _on_data(self) -> None:
        if not self.drain():
            # The writer has ended, which would be told again and again.
            asyncio.get_running_loop().remove_reader(self._fd)

    def text(self) -> str:
        return self._kept.text()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


class FirecrackerProcess:
    """Constructing it does nothing. ``policy`` None: without a jail, as this process's user, which
    is for those who are not root; Firecracker's own filter of system calls is on in any case."""

    def __init__(
        self,
        directory: Path,
        *,
        program: Path,
        policy: jailer.JailPolicy | None,
        jailer_program: str,
        cgroup_files: tuple[int, ...],
    ) -> None:
        self.console = Console()
        self._directory = directory
        self._program = program
        self._cgroup_files = cgroup_files
        self._jailer_program = jailer_program
        self._id = secrets.token_hex(8)
        self._home = directory / _HOME
        self._policy = policy
        self._jail: jailer.Jail | None = None  # known when it is started
        self._process: VmmProcess | None = None
        self._root_fd = -1
        self._pipes: dict[str, PipeTail] = {}
        self._client: FirecrackerClient | None = None

    @property
    def root(self) -> Path:
        """Where Firecracker starts: its relative paths are below."""
        return self._home if self._jail is None else self._jail.root

    @property
    def client(self) -> FirecrackerClient:
        if self._client is None:
            raise WrongState("The machine has not been started.")
        return self._client

    @property
    def process(self) -> VmmProcess:
        if self._process is None:
            raise WrongState("The machine has not been started.")
        return self._process

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.has_ended

    def path_of(self, name: str) -> str:
        """A path to something below ``root`` that is short enough for a socket's address."""
        return f"/proc/self/fd/{self._root_fd}/{name}"

    def output(self, name: str) -> str:
        """The end of ``log`` or ``metrics``."""
        pipe = self._pipes[name]
        pipe.drain()
        return pipe.text()

    def tail(self) -> str:
        """The last of the console and of the log, for an error."""
        parts = [self.console.text()[-_TAIL:]]
        parts += [self.output(LOG)[-_TAIL:]] if LOG in self._pipes else []
        return "\n".join(part.strip() for part in parts if part.strip())

    async def start(self, files: Mapping[str, Path]) -> None:
        """Starts it with ``files`` by their names and waits for its API. VmmMissing, VmmEnded,
        VmmSilent, VmmError; then ``close`` it."""
        await asyncio.to_thread(self._prepare, files)
        for pipe in self._pipes.values():
            pipe.follow()
        self._client = FirecrackerClient(self.path_of(API_SOCKET))
        arguments = ["--api-sock", API_SOCKET]
        if self._jail is None:
            command = ["env", "--chdir", str(self.root), str(self._program), "--id", self._id]
            command += arguments
        else:
            command = jailer.build_command(self._jail, arguments)
            command = jailer.wrap_command(self._jail, files, command)
        self._process = start(command, self.console, cgroup_files=self._cgroup_files)
        try:
            async with asyncio.timeout(API_TIMEOUT_S):
                await self._await_api()
        except TimeoutError:
            sentence = f"Firecracker's API has not answered within {API_TIMEOUT_S:g} s."
            raise VmmSilent(f"{sentence} {self.tail()}".rstrip()) from None

    async def kill(self) -> None:
        """Ends it at once, with all that it started. Its console is complete then."""
        if self._process is not None:
            await self._kill(self._process)

    async def close(self) -> None:
        """Ends it at once, with all that it started, and removes what there was of it. May be
        called again, and whatever ``start`` has come to."""
        await self.kill()
        if self._process is not None:
            self._process.close()
        if self._client is not None:
            await self._client.close()
        for pipe in self._pipes.values():
            pipe.close()
        self._pipes = {}
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1
        await asyncio.to_thread(self._remove)

    async def _await_api(self) -> None:
        while True:
            try:
                await self.client.describe()
            except VmmEnded:
                if self.has_ended:
                    status = await self.process.wait()
                    sentence = f"Firecracker ended at once, with status {status}."
                    raise VmmEnded(sentence, self.tail()) from None
                await asyncio.sleep(_POLL_S)
            else:
                return

    async def _kill(self, process: VmmProcess) -> None:
        """In a jail pid 1 of its namespace is ended: the kernel ends all others in there before
        that is seen to have ended, and what waits for it ends by itself."""
        if self._jail is None or process.has_ended:
            await process.kill()
            return
        init = await self._open_init(self._jail, process)
        if init < 0:
            await process.kill()
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                processes.pidfd_send_signal(init, signal.SIGKILL)
            await process.wait()
        finally:
            os.close(init)

    async def _open_init(self, jail: jailer.Jail, process: VmmProcess) -> int:
        """A pidfd of pid 1 of the jail; -1 if it has ended, or has not been started and will not
        be any more."""
        while not process.has_ended:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
                pid = int(jail.init_file.read_text())
                init = processes.pidfd_open(pid)
                if _parent_of(pid) == process.pid:
                    return init
                os.close(init)
            await asyncio.sleep(_POLL_S)
        return -1

    def _prepare(self, files: Mapping[str, Path]) -> None:
        for program in (str(self._program), *([self._jailer_program] if self._policy else [])):
            if shutil.which(program) is None:
                raise VmmMissing(f"{program} is not there, or cannot be executed.")
        if self._policy is not None:
            # The jailer follows links too, and names the jail by what it finds.
            self._jail = jailer.Jail(
                id=self._id,
                firecracker=self._program.resolve(),
                base=self._home,
                policy=self._policy,
                jailer=self._jailer_program,
            )
        self.root.mkdir(parents=True, mode=0o700)
        self._root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in (LOG, METRICS):
            self._pipes[name] = PipeTail(self.root / name)
        if self._jail is None:
            for name, path in files.items():
                (self.root / name).symlink_to(path.absolute())
            return
        policy = self._jail.policy
        _check_file_system(self._home)
        for name in (LOG, METRICS):
            os.chown(self.root / name, policy.uid, policy.gid)
        for name, path in files.items():
            if not jailer.is_readable(path.stat(), policy.uid, policy.gid):
                who = f"user {policy.uid} of group {policy.gid}"
                raise VmmError(f"The jailed machine cannot read {path}: it runs as {who}.")
            (self.root / name).touch(mode=0o600)

    def _remove(self) -> None:
        if self._jail is not None:
            for group in jailer.control_groups(self._jail, Path("/proc/mounts").read_text()):
                remove_directory(group)
        if self._home.exists():
            shutil.rmtree(self._home)


def _check_file_system(directory: Path) -> None:
    flags = os.statvfs(directory).f_flag
    if flags & (os.ST_NODEV | os.ST_NOEXEC):
        raise VmmError(
            f"{directory} is on a file system without devices or programs (mount options nodev,"
            " noexec): a jail needs both."
        )


def _parent_of(pid: int) -> int:
    """ProcessLookupError if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    return int(stat.rpartition(")")[2].split()[1])
