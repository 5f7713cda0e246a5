"""Which requests of a function with active tracing are traced, where their callers leave it open.

The first request of every second, and one of twenty of the others. Called by ``control.targets``.
Source: the guide, "Visualize Lambda function invocations using AWS X-Ray".
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from firelet.model import limits
from firelet.model.sampling import find_decision, with_decision, with_parent

ACTIVE = "Active"


class TraceSampler:
    """Decides for one function. ``now`` in seconds; ``draw`` gives numbers from 0 to 1."""

    __slots__ = ("_draw", "_now", "_second")

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._now = now
        self._draw = draw
        self._second: int | None = None

    def sample(self, header: str) -> str:
        """The trace header for the function: with a decision, and when it is to be traced with a
        segment of its own as the parent."""
        is_sampled = find_decision(header)
        if is_sampled is None:
            is_sampled = self._decide()
            header = with_decision(header, is_sampled=is_sampled)
        return with_parent(header, os.urandom(8).hex()) if is_sampled else header

    def _decide(self) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second = second
            return True
        return self._draw() < limits.TRACE_SAMPLED_SHARE


def pass_through(header: str) -> str:
    """The trace header for a function that does not begin traces itself."""
    if find_decision(header) is None:
        return with_decision(header, is_sampled=False)
    return header
