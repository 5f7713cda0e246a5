"""Which worker serves or makes an environment of a function version.

A policy: no clock, no I/O. A worker must be there, not draining, and have memory to admit one more;
among those, what is warm comes first as long as the worker is not loaded, then the least loaded.
Called by the worker manager when it has several workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

# Memory sizes of functions are limits and most use far less, so that an operator may set more than
# 1; with 1 all may use what they were promised.
OVERCOMMIT_DEFAULT = 1.0
# A worker that was not heard of for so long is taken for dead: three missed reports of a second.
LOST_AFTER_S = 3.0
# From this many environments at work for each core on, what is warm is not worth the queue.
LOADED_PER_CORE = 2.0


class Warmth(IntEnum):
    """What a worker has of the version already, the best first."""

    IDLE_ENVIRONMENT = 0
    SNAPSHOT = 1
    CODE = 2
    NOTHING = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """``reserved_mib`` is the sum of the memory sizes of its environments, ``active`` how many of
    them are starting or busy; ``seen_at`` is the time of its last report."""

    name: str
    memory_mib: int
    reserved_mib: int
    cores: int
    active: int
    warmth: Warmth
    seen_at: float
    is_draining: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The workers, and the memory size of the function version to be placed."""

    workers: Sequence[WorkerView]
    memory_mib: int
    overcommit: float = OVERCOMMIT_DEFAULT


@dataclass(frozen=True, slots=True)
class Decision:
    """``worker`` is None when none may take it. ``is_new`` says that an environment has to be made,
    else one that is idle there serves."""

    worker: str | None
    is_new: bool


def decide(view: View, now: float) -> Decision:
    """The best of the workers that may take it."""
    admitted = [worker for worker in view.workers if admits(worker, view, now)]
    if not admitted:
        return Decision(None, False)
    best = min(admitted, key=_rank)
    return Decision(best.name, best.warmth is not Warmth.IDLE_ENVIRONMENT)


def admits(worker: WorkerView, view: View, now: float) -> bool:
    """Whether this worker may take it at all. An idle environment is reserved for already."""
    if not is_serving(worker, now):
        return False
    new_mib = 0 if worker.warmth is Warmth.IDLE_ENVIRONMENT else view.memory_mib
    return worker.reserved_mib + new_mib <= worker.memory_mib * view.overcommit


def is_serving(worker: WorkerView, now: float) -> bool:
    """Whether it takes anything, as far as is known."""
    return not worker.is_draining and now - worker.seen_at <= LOST_AFTER_S


def _rank(worker: WorkerView) -> tuple[bool, int, float, float, str]:
    """Smaller is better; the name makes it the same answer for the same view."""
    load = worker.active / worker.cores
    reserved = worker.reserved_mib / worker.memory_mib
    return (load >= LOADED_PER_CORE, worker.warmth, load, reserved, worker.name)
