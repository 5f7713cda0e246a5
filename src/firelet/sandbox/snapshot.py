"""Snapshots and clones of the namespaces driver: the host's side of ``guest.snapshot``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from firelet.model.errors import PlatformError, SandboxEnded
from firelet.sandbox.cell import STEP_TIMEOUT_S, Cell
from firelet.sandbox.cgroups import Limits
from firelet.sandbox.channel import close_all
from firelet.sandbox.driver import RuntimeExit, RuntimeStart, SandboxSpec
from firelet.sandbox.pid1_messages import parse_wait_status

log = logging.getLogger(__name__)

MakeClone = Callable[["SnapshotCell"], Awaitable["CloneCell"]]


class SnapshotCell(Cell):
    """A sandbox that is cloned, and the parent (``Spawner``) of its clones.

    ``make_clone`` is set by the driver, which owns what a clone is made of. One clone waits ahead
    of its assignment, so that a start does not wait for namespaces.
    """

    def __init__(self, *arguments: Any, make_clone: MakeClone, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._make_clone = make_clone
        self._clones: dict[str, CloneCell] = {}
        self._spawns: dict[str, asyncio.Future[int]] = {}
        self._ahead: asyncio.Task[CloneCell] | None = None
        self._turn = asyncio.Lock()

    @property
    def _processes(self) -> int | None:
        """All clones are one user: what each may have is for control groups to say, if there are
        any."""
        return None if self._cgroup is not None else super()._processes

    async def clone(self, spec: SandboxSpec) -> CloneCell:
        """A clone with limits of its own. PlatformError when the snapshot is of no use."""
        ahead, self._ahead = self._ahead, None
        cell = await (self._make() if ahead is None else ahead)
        if cell.is_dead:
            await cell.stop()
            cell = await self._make()
        try:
            cell.limit(spec)
        except BaseException:
            await cell.stop()
            raise
        return cell

    def _make_ahead(self) -> None:
        """Begins the next clone, for whoever asks next."""
        if self._ahead is None and not self.is_dead:
            self._ahead = asyncio.create_task(self._make())
            self._ahead.add_done_callback(_look_at_failure)

    async def spawn(self, identity: str, request: dict[str, Any], fds: Sequence[int]) -> int:
        """A pidfd of the init of a new clone, which the caller owns."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._spawns[identity] = future
        try:
            async with self._turn, asyncio.timeout(STEP_TIMEOUT_S):
                wanted = ("hostname", "port", "tmp_mib")
                message = {name: request[name] for name in wanted}
                self._send({"op": "spawn", "id": identity, **message}, fds)
                return await future
        except TimeoutError:
            raise PlatformError("A snapshot did not make a clone in time.") from None
        finally:
            del self._spawns[identity]

    def restore(self, clone: CloneCell, start: RuntimeStart) -> None:
        """Continues the function in the clone; how that ends, the clone is told."""
        self._clones[clone.id] = clone
        self._send(
            {
                "op": "restore",
                "id": clone.id,
                "environment": dict(start.environment),
                "name": start.name,
            }
        )
        # Behind the order to restore, which somebody waits for.
        self._make_ahead()

    def signal(self, clone: CloneCell, number: int) -> None:
        """Signals the runtime of a clone."""
        self._send({"op": "signal clone", "id": clone.id, "number": number})

    def forget(self, clone: CloneCell) -> None:
        """The clone was stopped. That goes on though the snapshot may have ended unseen."""
        if self._clones.pop(clone.id, None) is None and not self.is_dead:
            with contextlib.suppress(PlatformError):
                self._send({"op": "forget", "id": clone.id})

    async def stop(self) -> None:
        """Ends the clones as well: they are below its pid namespace."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
            if not ahead.cancelled() and ahead.exception() is None:
                await ahead.result().stop()
        await super().stop()

    async def _make(self) -> CloneCell:
        return await self._make_clone(self)

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        event = message["event"]
        identity = message.get("id", "")
        spawned = self._spawns.get(identity)
        if event == "spawned":
            if spawned is None or spawned.done():
                close_all(fds)  # the caller gave up
            else:
                spawned.set_result(fds[0])
        elif event == "failed":
            error = PlatformError(f"A snapshot failed at: {message['step']}")
            log.warning("clone not made id=%s: %s", identity, error.message)
            if spawned is not None and not spawned.done():
                spawned.set_exception(error)
            elif identity in self._clones:
                self._clones.pop(identity).on_runtime_ended(None)
        elif event == "clone exited":
            clone = self._clones.get(identity)
            if clone is not None:
                clone.on_runtime_ended(message["status"])
        else:
            super()._on_message(message, fds)

    def _on_close(self) -> None:
        for future in self._spawns.values():
            if not future.done():
                future.set_exception(PlatformError("The snapshot has ended."))
        super()._on_close()


class CloneCell(Cell):
    """A sandbox that continues from a snapshot. It ends with its runtime: whatever state that was
    in, the next clone starts from the restore point."""

    def __init__(self, *arguments: Any, parent: SnapshotCell, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._parent = parent

    def limit(self, spec: SandboxSpec) -> None:
        """Sets the limits of its function, with all of the host's CPU until it is restored."""
        if self._cgroup is not None:
            self._cgroup.set_limits(Limits(memory_mib=spec.memory_mib, vcpus=None))

    def start_runtime(self, start: RuntimeStart) -> None:
        if self.is_dead:
            raise SandboxEnded
        self._parent.restore(self, start)

    def signal_runtime(self, number: int) -> None:
        if self.is_dead:
            raise SandboxEnded
        self._parent.signal(self, number)

    async def kill_processes(self) -> None:
        raise PlatformError("A clone is not reset.")

    def memory_peak_bytes(self) -> int:
        """What it shares with the snapshot counts as its own."""
        return self._parent.memory_peak_bytes() + super().memory_peak_bytes()

    def on_runtime_ended(self, status: int | None) -> None:
        """Its runtime has ended with that wait status, or was never restored (None). Extensions
        that are still there have a little time of their own."""
        self.is_dead = self._watcher is None
        self._tell(RuntimeExit(None, None) if status is None else parse_wait_status(status))

    async def stop(self) -> None:
        if not self._is_stopped:
            self._parent.forget(self)
        await super().stop()


def _look_at_failure(task: asyncio.Task[CloneCell]) -> None:
    """Whoever takes it hears of it; until then it is no news."""
    if not task.cancelled():
        task.exception()
