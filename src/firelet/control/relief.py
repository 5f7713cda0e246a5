"""Relief when memory is short: which idle environments end, for the host or for a start.

Joins the policy (``control.evict``) to the pools of the worker manager, its only user. There are
two shortages: of the memory that is there (``press``), for which an environment counts with what it
holds, and of the memory that may be promised (``make_room``), for which it counts with its size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from firelet.control import evict
from firelet.control.capacity import pressure_of
from firelet.control.pool import Environment, Pool, VersionKey
from firelet.control.room import Room

log = logging.getLogger(__name__)


class Reserves(Protocol):
    """What else holds memory and can be given up last: snapshots of which nothing runs."""

    def candidates(self) -> Sequence[evict.Candidate]: ...
    def end(self, identity: str) -> None: ...


class NoReserves:
    """A platform without any."""

    def candidates(self) -> Sequence[evict.Candidate]:
        return ()

    def end(self, identity: str) -> None:
        raise AssertionError(f"nothing was offered: {identity}")


class Relief:
    """``pressure`` is that of ``control.capacity``; while memory ``is_short`` nothing is to be
    started that no invocation waits for."""

    def __init__(
        self,
        pools: Mapping[VersionKey, Pool],
        room: Room,
        discard: Callable[[Environment], None],
        reserves: Reserves,
    ) -> None:
        self._pools = pools
        self._reserves = reserves
        self._room = room
        self._discard = discard
        self.pressure = 0.0
        self.is_short = False

    def press(self, used_mib: float, memory_mib: float, now: float) -> None:
        """Is told how much of the host's memory is in use, by whomever."""
        share = used_mib / memory_mib
        self.pressure = pressure_of(share)
        self.is_short = share > evict.HIGH_SHARE
        if self.is_short:
            candidates = [
                pool.candidate(environment, environment.idle_mib or pool.upkeep.idle_mib)
                for pool in self._pools.values()
                for idle in pool.idle_stacks
                for environment in idle
            ]
            reserves = self._reserves.candidates()
            candidates += reserves
            view = evict.View(used_mib=used_mib, memory_mib=memory_mib, candidates=candidates)
            chosen = evict.decide(view, now).stop
            self._end(chosen)
            for reserve in reserves:
                if reserve.id in chosen:
                    log.info("snapshot ended for memory id=%s", reserve.id)
                    self._reserves.end(reserve.id)

    def make_room(self, now: float) -> None:
        """For the starts that wait for it. Provisioned environments stay: they were promised."""
        short_mib = self._room.short_mib
        if short_mib > 0:
            candidates = [
                pool.candidate(environment, environment.version.memory_mib)
                for pool in self._pools.values()
                for environment in pool.idle
            ]
            self._end(evict.choose(candidates, short_mib, now))

    def _end(self, ids: Collection[str]) -> None:
        if not ids:
            return
        log.info("idle environments ended for memory: %d", len(ids))
        wanted = set(ids)
        for pool in self._pools.values():
            for idle in pool.idle_stacks:
                gone = [environment for environment in idle if environment.id in wanted]
                idle[:] = [environment for environment in idle if environment.id not in wanted]
                for environment in gone:
                    self._discard(environment)
