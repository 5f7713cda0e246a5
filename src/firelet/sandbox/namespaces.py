"""The namespaces driver: sandboxes out of Linux namespaces, control groups and seccomp.

A zygote per runtime forks embryos; an embryo becomes a sandbox when it is told its function.
A few embryos per runtime in use are made ahead, so that a start does not wait for namespaces.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import os
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from firelet.model.errors import InvalidRuntime, PlatformError
from firelet.model.layout import NODE_EMBRYO
from firelet.sandbox import rootfs
from firelet.sandbox.cell import Cell, Preload
from firelet.sandbox.cgroups import Cgroup, CgroupTree
from firelet.sandbox.driver import Sandbox, SandboxSpec
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.snapshot import CloneCell, SnapshotCell
from firelet.sandbox.zygote import Zygote

log = logging.getLogger(__name__)

# Above every range that distributions and container tools hand out
# (systemd.io/UIDS-GIDS: 1,879,048,192 and up are unused).
_UID_FIRST = 1_900_000_000
_UID_ROOTLESS = 993
_UIDS_PER_PLATFORM = 8_192
_PLATFORMS = 20_000

# So long the processors are left to the first invocations of a sandbox that took an embryo.
_REFILL_AFTER_S = 0.1

_CellParts = tuple[str, int, Cgroup | None, bool, Callable[[Cell], None], Callable[[Cell], None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacesSettings:
    """What the driver is told by the configuration and by the probe of the host.

    ``snapshot_filter`` is the filter of runtimes that are to be cloned, if it is another one;
    ``embryos`` is how many are kept ready for each runtime that is in use.
    """

    code_store: Path
    is_rootless: bool
    filter_program: bytes
    snapshot_filter: bytes | None = None
    embryos: int = 2


class NamespacesDriver:
    """Implements ``SandboxDriver``. Owns the zygotes, the embryos and the cgroup tree.

    ``cgroups`` is None only where the operator has accepted to run without; the janitor cleans
    them up after a crash.
    """

    def __init__(
        self,
        settings: NamespacesSettings,
        interpreters: Mapping[str, Interpreter],
        cgroups: CgroupTree | None,
        janitor: Janitor | None = None,
    ) -> None:
        self._settings = settings
        self._interpreters = interpreters
        self._cgroups = cgroups
        self._janitor = janitor
        self._filter = base64.b64encode(settings.filter_program).decode()
        self._snapshot_filter = base64.b64encode(
            settings.snapshot_filter or settings.filter_program
        ).decode()
        self._zygotes: dict[str, asyncio.Task[Zygote]] = {}
        self._embryos: dict[str, deque[Cell]] = {}
        self._cells: set[Cell] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._refilling: dict[str, asyncio.Task[None]] = {}
        self._refills_due: dict[str, asyncio.TimerHandle] = {}
        first = _UID_FIRST + os.getpid() % _PLATFORMS * _UIDS_PER_PLATFORM
        self._uids = itertools.cycle(range(first, first + _UIDS_PER_PLATFORM))
        self._uids_in_use: set[int] = set()
        self._is_closed = False

    async def open(self) -> None:
        """Zygotes start with the first function of their runtime; the janitor starts now."""
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.start)

    def expect(self, runtime: str) -> None:
        """Starts the zygote and the first embryos of a runtime."""
        self._embryos.setdefault(runtime, deque())
        self._refill(runtime)

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox with the function's code mounted and its rights dropped; no runtime yet."""
        cell = await self._take_embryo(spec.runtime)
        try:
            return await self._assign(cell, spec)
        except PlatformError:
            # Most likely the embryo had died unseen: a fresh one, and only one, is tried.
            log.warning("embryo could not be assigned runtime=%s", spec.runtime, exc_info=True)
        return await self._assign(await self._make_embryo(spec.runtime), spec)

    async def create_snapshot(self, spec: SandboxSpec) -> SnapshotCell:
        """A sandbox whose runtime is to reach its restore point, from where it is cloned."""
        if self._interpreters[spec.runtime].family != "python":
            raise PlatformError(f"SnapStart is not available for {spec.runtime} on this host.")
        zygote = await self._zygote(spec.runtime)

        async def make_clone(snapshot: SnapshotCell) -> CloneCell:
            return await self._make_clone(snapshot)

        cell = SnapshotCell(*self._parts_of_cell(self._take_uid()), make_clone=make_clone)
        self._cells.add(cell)
        try:
            await cell.hatch(zygote, self._filter, None)
            await cell.assign(spec, self._snapshot_filter)
        except BaseException:
            await cell.stop()
            raise
        return cell

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> CloneCell:
        """One more environment of a snapshot that this driver has made."""
        assert isinstance(snapshot, SnapshotCell)
        return await snapshot.clone(spec)

    async def _make_clone(self, snapshot: SnapshotCell) -> CloneCell:
        """An init in namespaces of its own, below the snapshot's; its runtime is not there yet."""
        identity, _, cgroup, is_rootless, on_ended, _ = self._parts_of_cell(snapshot.uid)
        cell = CloneCell(
            identity,
            snapshot.uid,
            cgroup,
            is_rootless,
            on_ended,
            self._cells.discard,  # the uid is the snapshot's
            parent=snapshot,
        )
        self._cells.add(cell)
        try:
            await cell.hatch(snapshot, self._filter, None)
        except BaseException:
            await cell.stop()
            raise
        return cell

    async def _assign(self, cell: Cell, spec: SandboxSpec) -> Cell:
        try:
            await cell.assign(spec)
        except BaseException:
            await cell.stop()
            raise
        return cell

    async def close(self) -> None:
        """Ends all sandboxes, embryos and zygotes, then removes the control groups."""
        self._is_closed = True
        for due in self._refills_due.values():
            due.cancel()
        refilling = list(self._refilling.values())
        for task in refilling:
            task.cancel()
        await asyncio.gather(*refilling, return_exceptions=True)
        for starting in self._zygotes.values():
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await starting.result().stop()
            else:
                starting.cancel()
        await asyncio.gather(*self._stopping, *(cell.stop() for cell in list(self._cells)))
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.stop)

    async def _take_embryo(self, runtime: str) -> Cell:
        embryos = self._embryos.setdefault(runtime, deque())
        cell: Cell | None = None
        while embryos and (cell is None or cell.is_dead):
            cell = embryos.popleft()
        if cell is None or cell.is_dead:
            cell = await self._make_embryo(runtime)
        self._refill_soon(runtime)
        return cell

    def _refill_soon(self, runtime: str) -> None:
        """At once if no embryo is left, else a little later: to make one takes a processor for
        milliseconds, and whoever asked for the sandbox is about to use it."""
        if not self._embryos[runtime]:
            self._refill(runtime)
        elif runtime not in self._refills_due and not self._is_closed:
            loop = asyncio.get_running_loop()
            due = loop.call_later(_REFILL_AFTER_S, self._refill, runtime)
            self._refills_due[runtime] = due

    def _refill(self, runtime: str) -> None:
        """Sees to it that one task, and only one, fills up the embryos of a runtime."""
        due = self._refills_due.pop(runtime, None)
        if due is not None:
            due.cancel()
        if runtime in self._refilling or self._is_closed:
            return
        task = asyncio.create_task(self._make_ahead(runtime))
        self._refilling[runtime] = task
        task.add_done_callback(lambda _: self._refilling.pop(runtime, None))

    async def _make_ahead(self, runtime: str) -> None:
        embryos = self._embryos[runtime]
        while len(embryos) < self._settings.embryos:
            try:
                cell = await self._make_embryo(runtime)
            except PlatformError as error:
                # The next request for this runtime meets the same error and reports it.
                log.warning("embryo not made runtime=%s: %s", runtime, error.message)
                return
            embryos.append(cell)

    def _on_ended(self, cell: Cell) -> None:
        """It ended by itself. A sandbox is given back by who uses it; an embryo has nobody yet."""
        for embryos in self._embryos.values():
            if cell in embryos:
                embryos.remove(cell)
                break
        else:
            return
        task = asyncio.create_task(cell.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _make_embryo(self, runtime: str) -> Cell:
        zygote = await self._zygote(runtime)
        cell = Cell(*self._parts_of_cell(self._take_uid()))
        self._cells.add(cell)
        try:
            await cell.hatch(zygote, self._filter, self._preload(runtime))
        except BaseException:
            await cell.stop()
            raise
        return cell

    def _parts_of_cell(self, uid: int) -> _CellParts:
        identity = uuid.uuid4().hex
        cgroup = None if self._cgroups is None else self._cgroups.create(identity)
        rootless = self._settings.is_rootless
        return (identity, uid, cgroup, rootless, self._on_ended, self._forget)

    def _forget(self, cell: Cell) -> None:
        self._cells.discard(cell)
        self._uids_in_use.discard(cell.uid)

    async def _zygote(self, runtime: str) -> Zygote:
        task = self._zygotes.get(runtime)
        if task is None:
            task = asyncio.create_task(self._start_zygote(runtime))
            self._zygotes[runtime] = task
        try:
            return await asyncio.shield(task)
        except Exception:
            # A failed start is not remembered: the next request tries again.
            if self._zygotes.get(runtime) is task:
                del self._zygotes[runtime]
            raise

    async def _start_zygote(self, runtime: str) -> Zygote:
        interpreter = self._interpreters.get(runtime)
        if interpreter is None:
            raise InvalidRuntime(f"This host has no interpreter for {runtime}.")
        plan = rootfs.plan_root(
            interpreter, self._settings.code_store, is_rootless=self._settings.is_rootless
        )
        zygote = Zygote(plan, on_end=lambda: self._drop_zygote(runtime))
        await zygote.start()
        return zygote

    def _drop_zygote(self, runtime: str) -> None:
        """It ended by itself; the next start makes another one."""
        self._zygotes.pop(runtime, None)

    def _preload(self, runtime: str) -> Preload | None:
        """The runtime process that is started in embryos; ``provided`` has none to start."""
        interpreter = self._interpreters[runtime]
        if interpreter.family == "python":
            return Preload()
        if interpreter.family == "nodejs":
            return Preload(
                arguments=(f"/var/lang/{interpreter.executable}", NODE_EMBRYO),
                environment={**rootfs.START_ENVIRONMENT, "PATH": "/var/lang/bin:/usr/bin:/bin"},
            )
        return None

    def _take_uid(self) -> int:
        if self._settings.is_rootless:
            return _UID_ROOTLESS
        for uid in itertools.islice(self._uids, _UIDS_PER_PLATFORM):
            if uid not in self._uids_in_use:
                self._uids_in_use.add(uid)
                return uid
        raise PlatformError("Every user id for sandboxes is in use.")
