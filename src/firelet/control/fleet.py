"""The fleet: several worker processes on this host, and which of them makes an environment.

What it is: the worker manager's ``Fleet`` over processes. ``placement`` decides, the fleet asks
it; a worker that ends is started again, ever later when it keeps ending, and one that is silent
for long is ended. What it is not: how a process is made (``app``), or which idle environment
serves an invocation (``manager``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from firelet.control.placement import View, Warmth, WorkerView, decide, is_serving
from firelet.control.remote import Link, RemoteEnvironment, RemoteWorker, Stay
from firelet.model import limits
from firelet.model.errors import PlatformError, Unavailable
from firelet.model.function import FunctionKey, FunctionVersion, InitializationType
from firelet.model.isolation import Isolation
from firelet.wire.rpc import PeerLost
from firelet.wire.worker_messages import Expect, StreamEvents

log = logging.getLogger(__name__)

T = TypeVar("T")


class WorkerProcess(Protocol):
    """One process, as ``app`` starts it."""

    @property
    def pid(self) -> int: ...
    @property
    def link(self) -> Link: ...
    async def end(self) -> None:
        """Lets it end its environments and itself, by force if it takes too long."""

    async def kill(self) -> None:
        """Ends it at once; returns when it is gone. May be called for one that has ended."""


class Launcher(Protocol):
    """Starts worker processes."""

    async def launch(self, name: str) -> WorkerProcess: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """``memory_mib`` and ``cores`` are the host's, which the workers share; ``overcommit`` is how
    many times that memory the memory sizes of all environments may add up to."""

    workers: int
    memory_mib: int
    cores: int
    overcommit: float


class Fleet:
    """``open`` first. ``admit`` gives what an environment has from its start to its end;
    ``on_events`` takes what functions write."""

    def __init__(
        self,
        launcher: Launcher,
        settings: FleetSettings,
        admit: Callable[[FunctionVersion], Stay],
        on_events: Callable[[StreamEvents], None],
        clock: Callable[[], float],
    ) -> None:
        self._launcher = launcher
        self._settings = settings
        self._admit = admit
        self._on_events = on_events
        self._clock = clock
        self._workers: dict[str, RemoteWorker] = {}
        self._processes: dict[str, WorkerProcess] = {}
        self._expected: set[tuple[str, Isolation | None]] = set()
        self._keeping: list[asyncio.Task[None]] = []
        self._arrived = asyncio.Event()

    async def open(self) -> None:
        """Starts every worker. PlatformError when one cannot be started."""
        names = [f"worker-{number}" for number in range(1, self._settings.workers + 1)]
        try:
            async with asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._launch(name))
        except BaseException:
            await self.close()
            raise
        self._keeping = [asyncio.create_task(self._keep(name), name=name) for name in names]

    async def close(self) -> None:
        """Ends every worker with all that runs in it."""
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(process.end() for process in self._processes.values()))
        self._processes.clear()

    def expect(self, runtime: str, isolation: Isolation | None = None) -> None:
        """Functions of this runtime and isolation are about to come: each worker makes ready for
        them."""
        self._expected.add((runtime, isolation))
        for worker in self._workers.values():
            worker.link.tell(Expect(runtime, isolation))

    async def activate(self, version: FunctionVersion) -> None:
        """Makes the snapshot of a version with SnapStart. FunctionError when its INIT fails."""
        stay = self._admit(version)
        try:
            await self._try_workers(version, lambda worker: worker.activate(version, stay))
        finally:
            stay.end()

    def retire(self, function: FunctionKey, version: str | None) -> None:
        """A version, or all of a function, is gone: so are its snapshots."""
        for worker in self._workers.values():
            worker.retire(function, version)

    async def start(
        self,
        version: FunctionVersion,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> RemoteEnvironment:
        """An environment that has been through INIT, in the worker that ``placement`` names; in
        another one when that is lost meanwhile. Unavailable when none may take it."""
        stay = self._admit(version)
        try:
            return await self._try_workers(
                version, lambda worker: worker.start(version, initialization, stay)
            )
        except BaseException:
            stay.end()
            raise

    async def recycle(self) -> None:
        """Replaces every worker by a fresh one, one after the other: what is running finishes, and
        the others serve meanwhile."""
        for name, worker in list(self._workers.items()):
            process = self._processes[name]
            log.info("worker draining worker=%s", name)
            await worker.drain()
            await process.end()
            worker.lose()
            while self._workers.get(name) in (worker, None):
                await self._arrival()

    async def _try_workers(
        self, version: FunctionVersion, work: Callable[[RemoteWorker], Awaitable[T]]
    ) -> T:
        """What the worker that is chosen gives; another one when that is lost meanwhile."""
        for _ in range(limits.WORKER_START_ATTEMPTS):
            worker = await self._choose(version)
            try:
                return await work(worker)
            except PeerLost:
                log.warning("work lost with its worker worker=%s", worker.name)
        raise Unavailable("The worker processes end while they start the function.")

    async def _choose(self, version: FunctionVersion) -> RemoteWorker:
        """Waits for a worker while there is none that could take anything; memory that is all
        promised is not waited for."""
        try:
            async with asyncio.timeout(limits.WORKER_WAIT_S):
                while True:
                    now = self._clock()
                    view = self._view(version)
                    decision = decide(view, now)
                    if decision.worker is not None:
                        return self._workers[decision.worker]
                    if any(is_serving(worker, now) for worker in view.workers):
                        raise Unavailable("The memory of this host is promised to other functions.")
                    await self._arrival()
        except TimeoutError:
            raise Unavailable("No worker process is there to start the function.") from None

    def _view(self, version: FunctionVersion) -> View:
        overcommit = self._settings.overcommit
        # One that has ended is here until its supervisor has had a turn.
        alive = [worker for worker in self._workers.values() if not worker.ended.is_set()]
        reserved_mib = sum(worker.reserved_mib for worker in alive)
        cores = max(1, self._settings.cores // self._settings.workers)
        workers = []
        for worker in alive:
            # The host's memory is one: a worker has what the others have not been promised.
            others_mib = reserved_mib - worker.reserved_mib
            workers.append(
                WorkerView(
                    name=worker.name,
                    memory_mib=int(self._settings.memory_mib - others_mib / overcommit),
                    reserved_mib=worker.reserved_mib,
                    cores=cores,
                    active=worker.active,
                    warmth=_warmth(worker, version),
                    seen_at=worker.seen_at,
                    is_draining=worker.is_draining,
                )
            )
        # INIT of a version with SnapStart runs once: where its snapshot is, it is restored.
        holders = [
            worker
            for worker in workers
            if worker.warmth is Warmth.SNAPSHOT and is_serving(worker, self._clock())
        ]
        return View(
            workers=holders or workers, memory_mib=version.memory_mib, overcommit=overcommit
        )

    async def _arrival(self) -> None:
        """Returns when another worker has come, or one may have been heard of again."""
        self._arrived.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.WORKER_REPORT_S):
                await self._arrived.wait()

    async def _launch(self, name: str) -> None:
        process = await self._launcher.launch(name)
        try:
            worker = RemoteWorker(name, process.link, self._clock, self._on_events)
            await worker.open()
        except BaseException:
            await process.kill()
            raise
        for runtime, isolation in self._expected:
            worker.link.tell(Expect(runtime, isolation))
        self._workers[name] = worker
        self._processes[name] = process
        log.info("worker ready worker=%s pid=%d", name, process.pid)
        self._arrived.set()

    async def _keep(self, name: str) -> None:
        """The supervisor of one worker: whenever it has ended, another one is started."""
        failures = 0
        while True:
            worker = self._workers.get(name)
            if worker is not None:
                began = self._clock()
                await self._watch(worker)
                del self._workers[name]
                await self._processes.pop(name).kill()
                is_early = self._clock() - began < limits.WORKER_STEADY_S
                failures = failures + 1 if is_early and not worker.is_draining else 0
            await asyncio.sleep(pause_s(failures))
            try:
                await self._launch(name)
            except (PlatformError, OSError):
                failures += 1
                log.exception("worker not started worker=%s", name)

    async def _watch(self, worker: RemoteWorker) -> None:
        """Returns when it has ended; ends one that was not heard of for long."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.WORKER_REPORT_S):
                    await worker.ended.wait()
            if worker.ended.is_set():
                if not worker.is_draining:
                    log.error("worker ended by itself worker=%s", worker.name)
                return
            if self._clock() - worker.seen_at > limits.WORKER_SILENT_S:
                log.error("worker hangs and is ended worker=%s", worker.name)
                await self._processes[worker.name].kill()
                worker.lose()


def pause_s(failures: int) -> float:
    """Before a worker is started again, after so many that ended early, one after the other."""
    if failures < 2:
        return 0.0
    return float(min(limits.WORKER_PAUSE_S * 2 ** (failures - 2), limits.WORKER_PAUSE_MAX_S))


def _warmth(worker: RemoteWorker, version: FunctionVersion) -> Warmth:
    if version.key in worker.snapshots:
        return Warmth.SNAPSHOT
    return Warmth.CODE if version.code.digest in worker.codes else Warmth.NOTHING
