"""The data plane as several worker processes: how they are started, and what stays here.

Code is extracted here, once, into the directory that all workers share; credentials are made and
revoked here, and what functions write is stored here.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from firelet.app.worker import WorkerSettings
from firelet.control.fleet import Fleet
from firelet.control.remote import RemoteEnvironment
from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.isolation import Isolation
from firelet.wire.rpc import Peer, PeerLost, make_pair
from firelet.wire.worker_messages import Done, End, StreamEvents, control_codec
from firelet.worker.custody import Custody
from firelet.worker.runtime_starts import check_runtime
from firelet.worker.snapshots import Resting

log = logging.getLogger(__name__)

_WRITERS_MAX = 4_096


class LogWriter(Protocol):
    """One log stream of the log store."""

    def write(self, timestamp_ms: int, message: str) -> None: ...


class Workers:
    """What ``worker.node.Node`` is with one process, with several. ``check_isolation`` raises
    IsolationMissing for one that this host does not have."""

    def __init__(
        self,
        fleet: Fleet,
        custody: Custody,
        runtimes: Collection[str],
        check_isolation: Callable[[Isolation | None], Awaitable[None]],
    ) -> None:
        self._fleet = fleet
        self._custody = custody
        self._runtimes = runtimes
        self._check_isolation = check_isolation
        self._recycling: asyncio.Task[None] | None = None

    def recycle(self) -> None:
        """Replaces the worker processes one after the other, unless that is under way."""
        if self._recycling is None or self._recycling.done():
            self._recycling = asyncio.create_task(self._recycle())

    async def _recycle(self) -> None:
        try:
            await self._fleet.recycle()
        except Exception:
            # The supervisor of a replacement that nobody waits for.
            log.exception("worker processes not replaced")

    async def close(self) -> None:
        """Ends every worker process and waits for what is being removed."""
        if self._recycling is not None:
            self._recycling.cancel()
        await self._fleet.close()
        await self._custody.close()

    async def activate(self, version: FunctionVersion) -> None:
        """Makes a version ready to start: its interpreter and what it is isolated by are here, its
        code is on disk."""
        runtime = check_runtime(version, self._runtimes)
        await self._check_isolation(version.isolation)
        self._fleet.expect(runtime, version.isolation)
        await self._custody.prepare(version)
        if version.has_snap_start:
            await self._fleet.activate(version)

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone: so are its snapshots."""
        self._fleet.retire(function, version)

    def resting_snapshots(self) -> list[Resting]:
        """None: what snapshots of worker processes hold is not known here, and they stay."""
        return []

    def end_snapshot(self, identity: str) -> None:
        raise AssertionError(f"no snapshot was offered: {identity}")

    async def discard_code(self, digest: str) -> None:
        """No function wants this package any more; it goes when no environment uses it."""
        await self._custody.discard(digest)

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> RemoteEnvironment:
        return await self._fleet.start(version, initialization)


class ProcessLauncher:
    """Starts worker processes. Implements ``control.fleet.Launcher``."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings.format()

    async def launch(self, name: str) -> Process:
        ours, theirs = make_pair()
        try:
            process = await asyncio.to_thread(self._popen, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return Process(name, process, Peer(ours, control_codec()))

    def _popen(self, fd: int) -> subprocess.Popen[bytes]:
        # -P: what lies in the current directory is not imported. A session of its own keeps the
        # terminal's Ctrl-C away from it.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "firelet.app.worker", str(fd)],
            pass_fds=[fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(self._settings)
        return process


class Process:
    """A worker process and the conversation with it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], link: Peer) -> None:
        self.name = name
        self.link = link
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def end(self) -> None:
        """Lets it end its environments and itself, by force if it takes too long."""
        try:
            async with asyncio.timeout(limits.WORKER_END_S):
                await self.link.call(End(), Done)
                await asyncio.to_thread(self._process.wait)
        except PeerLost:
            log.debug("worker has ended already worker=%s", self.name)
        except (TimeoutError, PlatformError) as error:
            log.warning("worker does not end and is killed worker=%s: %s", self.name, error)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Ends it at once; returns when it is gone. May be called for one that has ended."""
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self.link.close()


class LogIntake:
    """Writes what workers send to the log store. ``open_stream`` takes account, region, group and
    name."""

    def __init__(self, open_stream: Callable[[str, str, str, str], LogWriter]) -> None:
        self._open_stream = open_stream
        self._writers: dict[tuple[str, str, str, str], LogWriter] = {}

    def take(self, stream: StreamEvents) -> None:
        key = (stream.account, stream.region, stream.group, stream.stream)
        writer = self._writers.get(key)
        if writer is None:
            if len(self._writers) >= _WRITERS_MAX:
                # Streams of environments that have ended are not told from others: all are opened
                # again, which costs little, and what was written keeps its order.
                self._writers.clear()
            writer = self._writers[key] = self._open_stream(*key)
        for timestamp_ms, message in stream.events:
            writer.write(timestamp_ms, message)
