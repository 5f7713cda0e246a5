"""Room for environments: the memory sizes that this host may promise at the same time.

Each environment counts with the memory size of its function from before its start until after its
end, whatever it uses of it. What does not fit waits its turn, and is refused when that takes too
long. What it is not: the eviction of idle environments (``control.evict``), which it only says the
need of. The worker manager is its only user.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass

from firelet.model import limits
from firelet.model.errors import EC2Throttled

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """Somebody who waits for room."""

    memory_mib: int
    refused_at: float
    granted: asyncio.Future[None]


class Room:
    """``capacity_mib`` is the host's memory times the over-commit ratio."""

    def __init__(self, capacity_mib: float = math.inf) -> None:
        self._capacity_mib = capacity_mib
        self._claims: deque[Claim] = deque()
        self._leaving_mib = 0
        self.taken_mib = 0

    @property
    def short_mib(self) -> float:
        """How much would have to go, beside what is on its way out, for all who wait."""
        if not self._claims:
            return 0.0
        wanted = sum(claim.memory_mib for claim in self._claims)
        return wanted + self.taken_mib - self._leaving_mib - self._capacity_mib

    def take(self, memory_mib: int) -> bool:
        """Takes it at once if it is there and nobody waits for it."""
        if self._claims or self.taken_mib + memory_mib > self._capacity_mib:
            return False
        self.taken_mib += memory_mib
        return True

    def claim(self, memory_mib: int, now: float) -> Claim:
        """Gets in line for it; the caller waits with ``granted``, and sees to it that something
        goes. EC2Throttled when this host will never have so much."""
        if memory_mib > self._capacity_mib:
            log.warning("no host memory for %d MiB: at most %d", memory_mib, self._capacity_mib)
            raise EC2Throttled
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        claim = Claim(memory_mib, now + limits.ROOM_WAIT_S, granted)
        self._claims.append(claim)
        return claim

    async def granted(self, claim: Claim) -> None:
        """Returns when it has been taken. EC2Throttled when that takes too long."""
        try:
            await claim.granted
        except asyncio.CancelledError:
            if claim in self._claims:
                self._claims.remove(claim)
                self._grant()
            elif not claim.granted.cancelled() and claim.granted.exception() is None:
                self.give(claim.memory_mib)
            raise

    def leave(self, memory_mib: int) -> None:
        """An environment is about to end; ``left`` follows."""
        self._leaving_mib += memory_mib

    def left(self, memory_mib: int) -> None:
        """An environment has ended."""
        self._leaving_mib -= memory_mib
        self.give(memory_mib)

    def give(self, memory_mib: int) -> None:
        """Gives back what was taken."""
        self.taken_mib -= memory_mib
        self._grant()

    def refuse_late(self, now: float) -> None:
        """Ends the wait of those who have waited long enough. Called every now and then."""
        while self._claims and self._claims[0].refused_at <= now:
            claim = self._claims.popleft()
            if claim.granted.done():
                continue  # cancelled in this turn of the loop
            log.warning(
                "no host memory for %d MiB: %d of %d promised",
                claim.memory_mib,
                self.taken_mib,
                self._capacity_mib,
            )
            claim.granted.set_exception(EC2Throttled())
        self._grant()

    def _grant(self) -> None:
        """In the order in which they came: a large one is not overtaken for ever by small ones."""
        while self._claims:
            claim = self._claims[0]
            if not claim.granted.done():  # else cancelled in this turn of the loop
                if self.taken_mib + claim.memory_mib > self._capacity_mib:
                    return
                self.taken_mib += claim.memory_mib
                claim.granted.set_result(None)
            self._claims.popleft()
