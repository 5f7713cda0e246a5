"""Machines at rest from which others are made: one for each runtime and size.

An embryo is a machine whose guest has booted and waits for its function: the zygote is there, and
the process of the runtime where that can be started ahead. It is made once, put to rest, and kept
below the data directory; it is found by what it was made of, so that another kernel, another VMM or
another interpreter makes another one. A start restores it with the function's files in its slots.
Called by ``driver``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firelet.model import limits
from firelet.model.errors import PlatformError
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.microvm.disk_store import Disk
from firelet.sandbox.microvm.machine_sandbox import GUEST_UID, MachineSandbox
from firelet.sandbox.microvm.runtime_disk import RuntimeDisk
from firelet.sandbox.microvm.vm_snapshot import SnapshotDamaged, SnapshotForeign
from firelet.sandbox.microvm.vmm import VmmEnded, VmSnapshot
from firelet.sandbox.pid1_messages import preload_of, spawn_request
from firelet.sandbox.seccomp_profile import Profile
from firelet.sandbox.zygote import profile_message

log = logging.getLogger(__name__)

IDLE_S = 600.0
BOOT_TIMEOUT_S = 120.0  # emulated, on a host with much else to do
_CONSOLE_TAIL = 2_000
UNUSED_S = 14 * 86_400.0
CLOSED = "No machines are made any more."


@dataclass(frozen=True, slots=True)
class Size:
    """Of a machine."""

    memory_mib: int
    vcpus: int


@dataclass(frozen=True, slots=True)
class Template:
    """A machine at rest: clones have its size, its kernel and its first two drives."""

    snapshot: VmSnapshot
    size: Size
    drives: tuple[Disk, Disk]


class Templates:
    """Owns the directory ``root``. ``image`` is the digest of the guest image. Those in use are
    held in memory, some 80 MiB each; what nobody has wanted for ``IDLE_S`` is on the disk alone."""

    def __init__(
        self,
        root: Path,
        image: str,
        profile: Profile,
        make_machine: Callable[[Size, tuple[Disk, ...]], Awaitable[MachineSandbox]],
        runtime_disk: Callable[[Interpreter], RuntimeDisk],
        base: Disk,
        empty: Callable[[], Disk],
        has_network: bool,
    ) -> None:
        self._root = root
        self._image = image
        self._has_network = has_network
        self._profile = profile
        self._make_machine = make_machine
        self._runtime_disk = runtime_disk
        self._base = base
        self._empty = empty
        self._made: dict[tuple[str, Size], asyncio.Task[Template]] = {}
        self._wanted_at: dict[tuple[str, Size], float] = {}
        self._is_closed = False

    async def of(self, interpreter: Interpreter, size: Size) -> Template:
        """The one for this runtime and size; it is made now if there is none. Whoever comes
        meanwhile waits for the same one. PlatformError."""
        key = (interpreter.runtime, size)
        self._wanted_at[key] = time.monotonic()
        self._let_go()
        task = self._made.get(key)
        if task is None or (task.done() and not _is_good(task)):
            if self._is_closed:
                raise PlatformError(CLOSED)
            task = self._made[key] = asyncio.create_task(self._obtain(interpreter, size))
        # It outlives who waits for it, and is cancelled by ``close``, which nobody else is.
        await asyncio.wait([task])
        if task.cancelled():
            raise PlatformError(CLOSED)
        return task.result()

    def _let_go(self) -> None:
        """Of what has been idle for long: it is loaded again when it is wanted, in a quarter of a
        second. Clones that live have their own hold on what they share."""
        oldest = time.monotonic() - IDLE_S
        for key, task in list(self._made.items()):
            if _is_good(task) and self._wanted_at[key] < oldest:
                del self._made[key]
                task.result().snapshot.close()

    async def give_up(self, template: Template) -> None:
        """It could not be restored: the next one is made anew, unless that has happened already."""
        for key, task in list(self._made.items()):
            if _is_good(task) and task.result() is template:
                del self._made[key]
                template.snapshot.close()
                # At once, for the next one takes its place.
                given_up = self._root / f".{uuid.uuid4().hex}"
                template.snapshot.state.parent.rename(given_up)
                await asyncio.to_thread(shutil.rmtree, given_up)

    def sweep(self) -> None:
        """Removes those that have not been used for long: of interpreters, images and programs that
        are no more. Blocks."""
        if not self._root.is_dir():
            return
        oldest = time.time() - UNUSED_S
        for place in self._root.iterdir():
            if place.stat().st_mtime < oldest:
                shutil.rmtree(place, ignore_errors=True)  # another process may do the same

    async def close(self) -> None:
        """What is at rest stays on the disk. Whoever waits for one hears of it."""
        self._is_closed = True
        for task in self._made.values():
            task.cancel()
        await asyncio.gather(*self._made.values(), return_exceptions=True)
        for task in self._made.values():
            if _is_good(task):
                task.result().snapshot.close()
        self._made.clear()

    async def boot(self, machine: MachineSandbox, interpreter: Interpreter) -> None:
        """Until the machine, which has not been started, has an embryo of that runtime. What its
        console says is in the error if it does not get there."""
        runtime = await asyncio.to_thread(self._runtime_disk, interpreter)
        plan, request = runtime.plan.message(), _request(interpreter)
        try:
            async with asyncio.timeout(BOOT_TIMEOUT_S):
                await machine.boot()
                await machine.attach().hello()
                await machine.enter(plan, profile_message(self._profile), request)
        except TimeoutError:
            tail = machine.vmm.console.text()[-_CONSOLE_TAIL:]
            raise VmmEnded("A machine did not boot in time.", tail) from None
        except PlatformError as error:
            tail = machine.vmm.console.text()[-_CONSOLE_TAIL:]
            raise VmmEnded(f"A machine did not boot: {error.message}", tail) from error

    async def _obtain(self, interpreter: Interpreter, size: Size) -> Template:
        runtime = await asyncio.to_thread(self._runtime_disk, interpreter)
        empty = await asyncio.to_thread(self._empty)
        drives = (self._base, runtime.disk, empty, empty)
        told = [runtime.plan.message(), _request(interpreter), self._image, self._has_network]
        text = json.dumps([told, size.memory_mib, size.vcpus, *(disk.digest for disk in drives)])
        name = f"{interpreter.runtime}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"
        place = self._root / name
        machine = await self._make_machine(size, drives)
        with contextlib.ExitStack() as undo:
            try:
                snapshot = await self._load(machine, place)
                if snapshot is None:
                    began = time.monotonic()
                    await self.boot(machine, interpreter)
                    snapshot = await _put_to_rest(machine, place)
                    took_s = time.monotonic() - began
                    log.info("machine made name=%s memory=%d s=%.1f", name, size.memory_mib, took_s)
                undo.callback(snapshot.close)
            finally:
                await machine.stop()
            undo.pop_all()
        return Template(snapshot, size, drives[:2])

    async def _load(self, machine: MachineSandbox, place: Path) -> VmSnapshot | None:
        """None when there is none, or none that is of use: that is made anew."""
        if not await asyncio.to_thread(place.is_dir):
            return None
        await asyncio.to_thread(os.utime, place)
        try:
            return await machine.vmm.load(place)
        except (SnapshotDamaged, SnapshotForeign) as error:
            log.warning("machine at rest is of no use: %s", error.message)
            await asyncio.to_thread(shutil.rmtree, place)
            return None


async def _put_to_rest(machine: MachineSandbox, place: Path) -> VmSnapshot:
    """In the machine's own directory, with which it goes if it is not finished."""
    unfinished = machine.directory / "rest"
    unfinished.mkdir()
    snapshot = await machine.rest(unfinished)
    try:
        await asyncio.to_thread(_move, unfinished, place)
    except BaseException:
        snapshot.close()
        raise
    return replace(snapshot, state=place / snapshot.state.name, memory=place / snapshot.memory.name)


def _move(source: Path, place: Path) -> None:
    """Another process may have put the same there meanwhile."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(source)


def _request(interpreter: Interpreter) -> dict[str, Any]:
    return spawn_request(
        GUEST_UID,
        is_rootless=False,
        processes=limits.PIDS_MAX,
        preload=preload_of(interpreter),
    )


def _is_good(task: asyncio.Task[Template]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
