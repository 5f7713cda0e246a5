"""Removals on control groups that note who removed them, with real processes that have ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import cast

import pytest

from firelet.linux import process
from firelet.sandbox.cgroups import Cgroup
from firelet.sandbox.removal import Remains, Removals


class FakeCgroup:
    """``removed_by`` is the thread that removed it."""

    def __init__(self, error: OSError | None = None) -> None:
        self.removed_by: int | None = None
        self._error = error

    def remove(self) -> None:
        if self._error is not None:
            raise self._error
        self.removed_by = threading.get_ident()


def remains_of(group: FakeCgroup, pidfd: int = -1) -> Remains:
    return Remains(cast(Cgroup, group), pidfd)


async def test_what_ends_together_is_removed_in_one_turn_of_another_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = 0
    real = asyncio.to_thread

    async def counted(*arguments: object) -> object:
        nonlocal turns
        turns += 1
        return await real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("asyncio.to_thread", counted)
    removals = Removals(collect_s=0)
    groups = [FakeCgroup() for _ in range(5)]
    await asyncio.gather(*(removals.remove(remains_of(group)) for group in groups))
    assert turns == 1
    (thread,) = {group.removed_by for group in groups}
    assert thread not in (None, threading.get_ident())


async def test_what_comes_later_gets_a_turn_of_its_own() -> None:
    removals = Removals(collect_s=0)
    for _ in range(2):
        group = FakeCgroup()
        await removals.remove(remains_of(group))
        assert group.removed_by is not None


async def test_a_group_waits_for_the_end_of_its_pid_1_whose_descriptor_is_closed() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    pidfd = process.pidfd_open(child.pid)
    group = FakeCgroup()
    removing = asyncio.create_task(Removals(collect_s=0).remove(remains_of(group, pidfd)))
    for _ in range(10):
        await asyncio.sleep(0)
    assert group.removed_by is None
    child.kill()
    await removing
    child.communicate()
    assert group.removed_by is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pidfd)


async def test_a_failure_is_told_to_its_owner_alone() -> None:
    removals = Removals(collect_s=0)
    bad, good = FakeCgroup(OSError("busy")), FakeCgroup()
    outcomes = await asyncio.gather(
        removals.remove(remains_of(bad)), removals.remove(remains_of(good)), return_exceptions=True
    )
    assert isinstance(outcomes[0], OSError)
    assert outcomes[1] is None
    assert good.removed_by is not None


async def test_who_gives_up_waiting_does_not_keep_it_from_being_removed() -> None:
    removals = Removals(collect_s=0)
    group, other = FakeCgroup(), FakeCgroup()
    impatient = asyncio.create_task(removals.remove(remains_of(group)))
    await asyncio.sleep(0)
    impatient.cancel()
    await removals.remove(remains_of(other))
    assert group.removed_by is not None


async def test_closing_waits_for_what_nobody_waits_for() -> None:
    removals = Removals(collect_s=0)
    group = FakeCgroup()
    impatient = asyncio.create_task(removals.remove(remains_of(group)))
    await asyncio.sleep(0)
    impatient.cancel()
    await removals.close()
    await removals.close()
    assert group.removed_by is not None


async def test_a_sandbox_without_a_group_has_only_its_descriptor() -> None:
    reader, writer = os.pipe()
    os.close(writer)  # a descriptor that poll finds ended at once, as that of an ended process
    await Removals(collect_s=0).remove(Remains(None, reader))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
