"""The namespaces driver: sandboxes out of Linux namespaces, control groups and seccomp.

A zygote per runtime forks embryos; an embryo becomes a sandbox when it is told its function.
A few embryos per runtime in use are made ahead, so that a start does not wait for namespaces.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from firelet.model.errors import InvalidRuntime, PlatformError
from firelet.sandbox import rootfs
from firelet.sandbox.cell import Cell
from firelet.sandbox.cgroups import Cgroup, CgroupTree
from firelet.sandbox.driver import Sandbox, SandboxSpec
from firelet.sandbox.embryo_pool import EmbryoPool
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.java import ensure_client
from firelet.sandbox.pid1_messages import preload_of
from firelet.sandbox.removal import Removals
from firelet.sandbox.seccomp_profile import Profile
from firelet.sandbox.snapshot import CloneCell, SnapshotCell
from firelet.sandbox.uids import UidRange
from firelet.sandbox.zygote import Zygote

log = logging.getLogger(__name__)

_UID_ROOTLESS = 993

# The runtime, and whether it is for what is to be cloned.
_ZygoteKind = tuple[str, bool]
_CellParts = tuple[
    str, int, Cgroup | None, Removals, bool, Callable[[Cell], None], Callable[[Cell], None]
]


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacesSettings:
    """What the driver is told by the configuration and by the probe of the host.

    ``snapshot_profile`` is the filter of what is to be cloned; ``embryos`` bounds how many are kept
    ready for each runtime that is in use; ``file_systems`` are directories of the host that
    sandboxes may share, by the ARN of their access point.
    """

    code_store: Path
    is_rootless: bool
    profile: Profile
    snapshot_profile: Profile
    embryos: Bounds
    file_systems: Mapping[str, Path] = field(default_factory=dict)

    @property
    def client_store(self) -> Path:
        """Where runtime clients are kept that are compiled on this host."""
        return self.code_store.parent / "clients"


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
        self._zygotes: dict[_ZygoteKind, asyncio.Task[Zygote]] = {}
        self._pools: dict[str, EmbryoPool[Cell]] = {}
        self._cells: set[Cell] = set()
        self._removals = Removals()
        self._uids = UidRange()

    async def open(self) -> None:
        """Zygotes start with the first function of their runtime; the janitor starts now.
        PlatformError when there are no user ids for sandboxes."""
        if not self._settings.is_rootless:
            self._uids.open()
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.start)

    def expect(self, runtime: str) -> None:
        """Starts the zygote and the first embryos of a runtime."""
        self._pool(runtime).fill()

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox with the function's code mounted and its rights dropped; no runtime yet."""
        pool = self._pool(spec.runtime)
        cell = await pool.take()
        try:
            return await self._assign(cell, spec)
        except PlatformError:
            # Most likely the embryo had died unseen: a fresh one, and only one, is tried.
            log.warning("embryo could not be assigned runtime=%s", spec.runtime, exc_info=True)
        return await self._assign(await pool.make(), spec)

    async def create_snapshot(self, spec: SandboxSpec) -> SnapshotCell:
        """A sandbox whose runtime is to reach its restore point, from where it is cloned."""
        if self._interpreters[spec.runtime].family != "python":
            raise PlatformError(f"SnapStart is not available for {spec.runtime} on this host.")
        # Snapshots have a zygote of their own, since their pid 1 must not have a filter.
        zygote = await self._zygote(spec.runtime, makes_snapshots=True)

        async def make_clone(snapshot: SnapshotCell) -> CloneCell:
            return await self._make_clone(snapshot)

        cell = SnapshotCell(*self._parts_of_cell(self._take_uid()), make_clone=make_clone)
        self._cells.add(cell)
        try:
            await cell.hatch(zygote, None)
            await cell.assign(spec)
        except BaseException:
            await cell.stop()
            raise
        return cell

    async def seal(self, snapshot: Sandbox) -> None:
        """Its runtime waits to fork, and that costs nothing."""

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> CloneCell:
        """One more environment of a snapshot that this driver has made."""
        assert isinstance(snapshot, SnapshotCell)
        return await snapshot.clone(spec)

    async def _make_clone(self, snapshot: SnapshotCell) -> CloneCell:
        """An init in namespaces of its own, below the snapshot's; its runtime is not there yet."""
        identity, _, cgroup, removals, is_rootless, on_ended, _ = self._parts_of_cell(snapshot.uid)
        cell = CloneCell(
            identity,
            snapshot.uid,
            cgroup,
            removals,
            is_rootless,
            on_ended,
            self._cells.discard,  # the uid is the snapshot's
            parent=snapshot,
        )
        self._cells.add(cell)
        try:
            await cell.hatch(snapshot, None)
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
        await asyncio.gather(*(pool.close() for pool in self._pools.values()))
        for starting in self._zygotes.values():
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await starting.result().stop()
            else:
                starting.cancel()
        await asyncio.gather(*self._zygotes.values(), return_exceptions=True)
        await asyncio.gather(*(cell.stop() for cell in list(self._cells)))
        await self._removals.close()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.stop)
        self._uids.close()

    def _pool(self, runtime: str) -> EmbryoPool[Cell]:
        pool = self._pools.get(runtime)
        if pool is None:
            pool = EmbryoPool(
                runtime, functools.partial(self._make_embryo, runtime), self._settings.embryos
            )
            self._pools[runtime] = pool
        return pool

    def _on_ended(self, cell: Cell) -> None:
        """It ended by itself. A sandbox is given back by who uses it; an embryo has nobody yet."""
        for pool in self._pools.values():
            if pool.drop(cell):
                return

    async def _make_embryo(self, runtime: str) -> Cell:
        zygote = await self._zygote(runtime)
        cell = Cell(*self._parts_of_cell(self._take_uid()))
        self._cells.add(cell)
        try:
            await cell.hatch(zygote, preload_of(self._interpreters[runtime]))
        except BaseException:
            await cell.stop()
            raise
        return cell

    def _parts_of_cell(self, uid: int) -> _CellParts:
        identity = uuid.uuid4().hex
        cgroup = None if self._cgroups is None else self._cgroups.create(identity)
        rootless = self._settings.is_rootless
        return (identity, uid, cgroup, self._removals, rootless, self._on_ended, self._forget)

    def _forget(self, cell: Cell) -> None:
        self._cells.discard(cell)
        self._uids.give_back(cell.uid)

    async def _zygote(self, runtime: str, *, makes_snapshots: bool = False) -> Zygote:
        kind = (runtime, makes_snapshots)
        task = self._zygotes.get(kind)
        if task is None:
            task = asyncio.create_task(self._start_zygote(kind))
            self._zygotes[kind] = task
        try:
            return await asyncio.shield(task)
        except Exception:
            # A failed start is not remembered: the next request tries again.
            if self._zygotes.get(kind) is task:
                del self._zygotes[kind]
            raise

    async def _start_zygote(self, kind: _ZygoteKind) -> Zygote:
        runtime, makes_snapshots = kind
        interpreter = self._interpreters.get(runtime)
        if interpreter is None:
            raise InvalidRuntime(f"This host has no interpreter for {runtime}.")
        java_client = None
        if interpreter.family == "java":
            java_client = await asyncio.to_thread(
                ensure_client, self._interpreters.values(), self._settings.client_store
            )
        plan = rootfs.plan_root(
            interpreter,
            self._settings.code_store,
            is_rootless=self._settings.is_rootless,
            file_systems=self._settings.file_systems,
            java_client=java_client,
        )
        settings = self._settings
        zygote = Zygote(
            plan,
            settings.snapshot_profile if makes_snapshots else settings.profile,
            on_end=lambda: self._drop_zygote(kind),
        )
        await zygote.start()
        return zygote

    def _drop_zygote(self, kind: _ZygoteKind) -> None:
        """It ended by itself; the next start makes another one."""
        self._zygotes.pop(kind, None)

    def _take_uid(self) -> int:
        return _UID_ROOTLESS if self._settings.is_rootless else self._uids.take()
