"""Whether and when an asynchronous event is tried again.

What it is: AWS's table of retries as a pure decision: no clock, no I/O. What it is not: the
sending of what has ended to a destination; the ``Discard`` says under which condition.
Called by ``events.dispatcher``.

    function error, time-out          twice more, after 1 and 2 minutes
    throttle, system error            after 1 s, 2 s, 4 s … up to 5 min, until the event is too old
    the event can never be run, the   not again
    function is off or calls itself

Source: AWS guide, "How Lambda handles errors and retries with asynchronous invocation";
MaximumRetryAttempts and MaximumEventAgeInSeconds in the service model.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

RETRIES_DEFAULT = 2  # MaximumRetryAttempts
AGE_DEFAULT_MS = 21_600_000  # MaximumEventAgeInSeconds, 6 h
FAILURE_DELAY_MS = 60_000  # times the number of the retry: 1 minute, then 2
BACKOFF_FIRST_MS = 1_000
BACKOFF_MAX_MS = 300_000


class Ending(Enum):
    """How an attempt ended."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function error"
    POSTPONED = "throttle or system error"  # the function did not run
    SWITCHED_OFF = "reserved concurrency is 0"
    LOOPED = "the function calls itself"
    REJECTED = "rejected"  # it cannot run, now or later


class Condition(StrEnum):
    """Why an event is done with; the words are those of AWS's destination records, except the
    last two: AWS does not document the one, and keeps no record for the other."""

    SUCCESS = "Success"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    EVENT_AGE_EXCEEDED = "EventAgeExceeded"
    ZERO_RESERVED_CONCURRENCY = "ZeroReservedConcurrency"
    RECURSIVE_INVOCATION = "RecursiveInvocation"
    REJECTED = "Rejected"


_FINAL = {
    Ending.SUCCESS: Condition.SUCCESS,
    Ending.SWITCHED_OFF: Condition.ZERO_RESERVED_CONCURRENCY,
    Ending.LOOPED: Condition.RECURSIVE_INVOCATION,
    Ending.REJECTED: Condition.REJECTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt that has ended. ``failures`` counts the function errors of the attempts before
    it, ``postponements`` how often the event could not be tried."""

    ending: Ending
    enqueued_ms: int
    failures: int = 0
    postponements: int = 0
    retries_max: int = RETRIES_DEFAULT
    age_max_ms: int = AGE_DEFAULT_MS


@dataclass(frozen=True, slots=True)
class Again:
    """Try again when it is due."""

    due_ms: int
    is_failure: bool


@dataclass(frozen=True, slots=True)
class Discard:
    """The event is done with."""

    condition: Condition


def decide(attempt: Attempt, now_ms: int) -> Again | Discard:
    """What becomes of an event after ``attempt``."""
    final = _FINAL.get(attempt.ending)
    if final is not None:
        return Discard(final)
    if attempt.ending is Ending.FUNCTION_ERROR:
        if attempt.failures >= attempt.retries_max:
            return Discard(Condition.RETRIES_EXHAUSTED)
        again = Again(now_ms + FAILURE_DELAY_MS * (attempt.failures + 1), is_failure=True)
    else:
        # The exponent is bounded because a number of 2**postponements bits is not.
        doublings = min(attempt.postponements, 16)
        delay_ms = min(BACKOFF_FIRST_MS << doublings, BACKOFF_MAX_MS)
        again = Again(now_ms + delay_ms, is_failure=False)
    if is_too_old(attempt.enqueued_ms, again.due_ms, attempt.age_max_ms):
        return Discard(Condition.EVENT_AGE_EXCEEDED)
    return again


def is_too_old(enqueued_ms: int, at_ms: int, age_max_ms: int = AGE_DEFAULT_MS) -> bool:
    """Whether an event may no longer be tried at ``at_ms``."""
    return at_ms - enqueued_ms > age_max_ms
