"""What every sandbox does, whatever isolates it: the real one and the fake pass the same tests.

A subclass gives the fixture ``sandbox`` and says how each kind of runtime is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.sandbox.driver import ExtensionStart, RuntimeExit, RuntimeStart, Sandbox

PATIENCE_S = 30.0


class Watched:
    """A sandbox and the endings that it has told of."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.endings: list[RuntimeExit] = []
        self._changed = asyncio.Event()
        sandbox.watch(self._on_exit)

    def _on_exit(self, ending: RuntimeExit) -> None:
        self.endings.append(ending)
        self._changed.set()

    async def ending(self) -> RuntimeExit:
        async with asyncio.timeout(PATIENCE_S):
            await self._changed.wait()
        self._changed.clear()
        return self.endings[-1]

    async def read(self, fd: int, expected: bytes) -> bytes:
        """Reads until ``expected`` has come."""
        data = b""
        async with asyncio.timeout(PATIENCE_S):
            while expected not in data:
                try:
                    data += os.read(fd, 65536)
                except BlockingIOError:
                    await asyncio.sleep(0.005)
        return data


@contextlib.contextmanager
def output_of(fd: int) -> Iterator[None]:
    """Open as long as it is wanted: whoever writes to a closed pipe ends."""
    try:
        yield
    finally:
        os.close(fd)


class Told:
    """What a sandbox has told of the processes of extensions."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []
        self.exited: list[tuple[str, RuntimeExit]] = []
        self._changed = asyncio.Event()

    def on_launch_failed(self, name: str, reason: str) -> None:
        self.failed.append((name, reason))
        self._changed.set()

    def on_exited(self, name: str, ending: RuntimeExit) -> None:
        self.exited.append((name, ending))
        self._changed.set()

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._changed.wait()
        self._changed.clear()


class SandboxContract:
    """``starts`` maps ``exit 3``, ``killed``, ``hang``, ``print`` and ``log`` to a start;
    ``extension_of`` does so for ``print`` (its variable OWN), ``hang`` and ``missing``."""

    def extension_of(self, kind: str) -> ExtensionStart:
        raise NotImplementedError

    def start_of(self, kind: str) -> RuntimeStart:
        raise NotImplementedError

    def runtime_api_port(self, sandbox: Any) -> int:
        """Where the sandbox's ``listener`` is reached from its inside."""
        return limits.RUNTIME_API_PORT

    @pytest.fixture
    async def watched(self, sandbox: Sandbox) -> Watched:
        return Watched(sandbox)

    async def test_its_id_is_32_hexadecimal_characters(self, watched: Watched) -> None:
        assert re.fullmatch("[0-9a-f]{32}", watched.sandbox.id)

    async def test_the_end_of_the_runtime_is_told_with_its_status(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("exit 3"))
        assert await watched.ending() == RuntimeExit(3, None)

    async def test_the_end_of_the_runtime_is_told_with_its_signal(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("killed"))
        assert await watched.ending() == RuntimeExit(None, signal.SIGKILL)

    async def test_a_runtime_may_be_started_after_the_last_one_ended(
        self, watched: Watched
    ) -> None:
        for _ in range(2):
            watched.sandbox.start_runtime(self.start_of("exit 3"))
            await watched.ending()
        assert len(watched.endings) == 2

    async def test_a_reset_ends_the_runtime_and_tells_no_ending(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("hang"))
        await watched.sandbox.kill_processes()
        watched.sandbox.start_runtime(self.start_of("exit 3"))
        assert await watched.ending() == RuntimeExit(3, None)
        assert len(watched.endings) == 1

    async def test_an_extension_runs_beside_the_runtime_and_has_a_pipe_of_its_own(
        self, watched: Watched
    ) -> None:
        told = Told()
        watched.sandbox.start_runtime(self.start_of("hang"))
        fd = watched.sandbox.start_extension(self.extension_of("print"), told)
        try:
            await watched.read(fd, b"OWN=mine\n")
            await told.wait()
        finally:
            os.close(fd)
        assert told.exited == [("print", RuntimeExit(0, None))]
        assert watched.endings == []

    async def test_an_extension_that_cannot_be_started_is_told(self, watched: Watched) -> None:
        told = Told()
        os.close(watched.sandbox.start_extension(self.extension_of("missing"), told))
        await told.wait()
        assert told.failed == [("missing", "no such file or directory")]
        assert told.exited == []

    async def test_a_reset_ends_extensions_and_tells_no_ending(self, watched: Watched) -> None:
        told = Told()
        with output_of(watched.sandbox.start_extension(self.extension_of("hang"), told)):
            await watched.sandbox.kill_processes()
            watched.sandbox.start_runtime(self.start_of("exit 3"))
            await watched.ending()
        assert told.exited == []

    async def test_the_runtime_alone_is_signalled(self, watched: Watched) -> None:
        told = Told()
        watched.sandbox.signal_runtime(signal.SIGTERM)  # there is none
        watched.sandbox.start_runtime(self.start_of("hang"))
        with output_of(watched.sandbox.start_extension(self.extension_of("hang"), told)):
            watched.sandbox.signal_runtime(signal.SIGTERM)
            assert await watched.ending() == RuntimeExit(None, signal.SIGTERM)
            assert told.exited == []
            await watched.sandbox.kill_processes()

    async def test_what_listens_inside_can_be_connected_to(self, watched: Watched) -> None:
        loop = asyncio.get_running_loop()
        listener = watched.sandbox.listener
        listener.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            with await watched.sandbox.connect(self.runtime_api_port(watched.sandbox)) as sock:
                assert sock.type == socket.SOCK_STREAM
                assert not sock.getblocking()
                accepted, _ = await loop.sock_accept(listener)
                with accepted:
                    await loop.sock_sendall(sock, b"there")
                    assert await loop.sock_recv(accepted, 100) == b"there"
                    await loop.sock_sendall(accepted, b"back")
                    assert await loop.sock_recv(sock, 100) == b"back"
                assert await loop.sock_recv(sock, 100) == b""

    async def test_where_nothing_listens_a_connection_is_refused(self, watched: Watched) -> None:
        with socket.create_server(("127.0.0.1", 0)) as gone:
            port = gone.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await watched.sandbox.connect(port)

    async def test_a_reset_without_a_runtime_is_fine(self, watched: Watched) -> None:
        await watched.sandbox.kill_processes()
        await watched.sandbox.kill_processes()

    async def test_output_and_records_arrive_on_their_own_pipes(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("print"))
        await watched.read(watched.sandbox.output_fd, b"printed\n")
        await watched.ending()
        watched.sandbox.start_runtime(self.start_of("log"))
        await watched.read(watched.sandbox.log_fd, b"logged\n")

    async def test_reading_from_an_empty_pipe_does_not_block(self, watched: Watched) -> None:
        with pytest.raises(BlockingIOError):
            os.read(watched.sandbox.output_fd, 1)
        with pytest.raises(BlockingIOError):
            os.read(watched.sandbox.log_fd, 1)

    async def test_its_listener_listens(self, watched: Watched) -> None:
        listener = watched.sandbox.listener
        if listener.family != socket.AF_UNIX:  # one that is relayed may be reached by anything
            assert listener.getsockname()[0] == "127.0.0.1"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()

    async def test_freezing_and_thawing_may_be_repeated(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("hang"))
        for _ in range(2):
            watched.sandbox.freeze()
            watched.sandbox.freeze()
            watched.sandbox.thaw()
            watched.sandbox.thaw()
        await watched.sandbox.kill_processes()

    async def test_dead_stays_dead(self, watched: Watched) -> None:
        sandbox = watched.sandbox
        sandbox.start_runtime(self.start_of("hang"))
        await sandbox.stop()
        await sandbox.stop()
        assert sandbox.is_dead
        with pytest.raises(PlatformError):
            sandbox.start_runtime(self.start_of("exit 3"))
        with pytest.raises(PlatformError):
            await sandbox.kill_processes()
        with pytest.raises(PlatformError):
            sandbox.start_extension(self.extension_of("hang"), Told())
        with pytest.raises(PlatformError):
            sandbox.signal_runtime(signal.SIGTERM)
        with pytest.raises(PlatformError):
            await sandbox.connect(self.runtime_api_port(sandbox))
        sandbox.freeze()
        sandbox.thaw()
        sandbox.set_vcpus(1.0)
        assert sandbox.memory_peak_bytes() == 0
        assert sandbox.memory_bytes() == 0
        assert watched.endings == []

    async def test_a_killed_one_is_dead_and_holds_what_it_holds_until_it_is_stopped(
        self, watched: Watched
    ) -> None:
        sandbox = watched.sandbox
        sandbox.start_runtime(self.start_of("hang"))
        sandbox.freeze()
        sandbox.kill()
        sandbox.kill()
        assert sandbox.is_dead
        with pytest.raises(PlatformError):
            sandbox.start_runtime(self.start_of("exit 3"))
        os.fstat(sandbox.output_fd)
        assert sandbox.listener.fileno() >= 0
        await sandbox.stop()
        assert watched.endings == []

    async def test_a_frozen_one_can_be_reset_and_stopped(self, watched: Watched) -> None:
        watched.sandbox.start_runtime(self.start_of("hang"))
        watched.sandbox.freeze()
        await watched.sandbox.kill_processes()
        watched.sandbox.start_runtime(self.start_of("hang"))
        watched.sandbox.freeze()
        await watched.sandbox.stop()

    async def test_it_is_alive_until_it_is_stopped(self, watched: Watched, sandbox: Any) -> None:
        assert sandbox.is_dead is False
