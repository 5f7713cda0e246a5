"""The directories of this host that one machine shares, and the processes that serve them.

What a guest asks of them is not looked at here: a stream of the link leads to a process of their
own (``directory_process``), which has the owner's rights and no more, is in the machine's control
groups and ends with it. Called by ``machine_sandbox``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from firelet.linux import process as processes
from firelet.model.errors import FileSystemMountFailure
from firelet.sandbox.microvm import directory_process, vmm_process
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.vmm_process import VmmProcess

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
_SAID_MAX = 500


class DirectoryServer:
    """Owns a process, and the socket that leads to it until that is taken."""

    def __init__(self, process: VmmProcess, console: Console, connection: socket.socket) -> None:
        self._process = process
        self._console = console
        self._connection: socket.socket | None = connection

    def take_connection(self) -> socket.socket:
        """LookupError when it has been taken."""
        connection, self._connection = self._connection, None
        if connection is None:
            raise LookupError("it is connected already")
        return connection

    async def wait(self) -> str:
        """Until it has ended, and why it has."""
        status = await self._process.wait()
        return self._console.text().strip()[-_SAID_MAX:] or f"status {status}"

    def kill(self) -> None:
        if not self._process.has_ended:
            with contextlib.suppress(ProcessLookupError):
                processes.pidfd_send_signal(self._process.pidfd, signal.SIGKILL)

    async def stop(self) -> None:
        """Nothing is left of it, unless it hangs in a file system that does not answer."""
        if self._connection is not None:
            self._connection.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.kill()
        except TimeoutError:
            log.warning("process of a shared directory not ended pid=%d", self._process.pid)
        else:
            self._process.close()


class DirectoryServers:
    """Those of one machine, by the names that it has for them. ``on_end`` hears of one that ends by
    itself, and why."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        self._on_end = on_end
        self._servers: dict[str, DirectoryServer] = {}
        self._watches: list[asyncio.Task[None]] = []

    def start(
        self, directories: Sequence[Path], guest_id: int, cgroup_files: Sequence[int]
    ) -> list[str]:
        """Their names. Takes a millisecond for each, in which the loop stands still."""
        for number, directory in enumerate(directories):
            server = start(directory, guest_id, cgroup_files)
            self._servers[f"files-{number}"] = server
            self._watches.append(asyncio.create_task(self._watch(server)))
        return list(self._servers)

    def take_connection(self, name: str) -> socket.socket:
        """LookupError for one that is not there, or is connected."""
        return self._servers[name].take_connection()

    def kill(self) -> None:
        for server in self._servers.values():
            server.kill()

    async def stop(self) -> None:
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await asyncio.gather(*(server.stop() for server in self._servers.values()))
        self._servers.clear()

    async def _watch(self, server: DirectoryServer) -> None:
        self._on_end(await server.wait())


def mount_failure(reason: str) -> FileSystemMountFailure:
    return FileSystemMountFailure(f"The function couldn't mount its file system: {reason}")


def start(directory: Path, guest_id: int, cgroup_files: Sequence[int]) -> DirectoryServer:
    """One that is about to serve it: should that not be possible, it ends and says why."""
    ours, theirs = socket.socketpair()
    console = Console()
    # -I -S -B: no environment, no site, nothing written; the program finds its own package.
    program = [sys.executable, "-I", "-S", "-B", directory_process.__file__]
    arguments = [str(theirs.fileno()), str(directory), str(guest_id)]
    with theirs:
        try:
            process = vmm_process.start(
                [*program, *arguments],
                console,
                fds=[theirs.fileno()],
                cgroup_files=cgroup_files,
            )
        except BaseException:
            ours.close()
            raise
    return DirectoryServer(process, console, ours)
