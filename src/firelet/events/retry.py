"""What becomes of an asynchronous invocation after an attempt: pure, no clock, no I/O.

Source: docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html: function errors
are retried twice, after one and two minutes; throttles and system errors with exponential
back-off from 1 second to 5 minutes, until the event is 6 hours old.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from firelet.model import limits


class Result(Enum):
    """How one attempt ended."""

    SUCCEEDED = auto()
    FUNCTION_FAILED = auto()
    THROTTLED = auto()  # or the platform failed: the function did not run
    GONE = auto()  # the function does not exist any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The view: what is known after an attempt. ``failures`` counts function errors, this one
    included; ``attempts`` counts all earlier attempts."""

    result: Result
    attempts: int
    failures: int
    enqueued_ms: int


@dataclass(frozen=True, slots=True)
class Decision:
    """``due_ms`` None: the event is done with. ``reason`` says why it is given up, if it is."""

    due_ms: int | None
    reason: str | None = None


def decide(attempt: Attempt, now_ms: int) -> Decision:
    """When the event is due again, if at all."""
    if attempt.result is Result.SUCCEEDED:
        return Decision(None)
    if attempt.result is Result.GONE:
        return Decision(None, "FunctionNotFound")
    if attempt.result is Result.FUNCTION_FAILED:
        if attempt.failures > len(limits.ASYNC_RETRY_AFTER_S):
            return Decision(None, "RetriesExhausted")
        delay_s: float = limits.ASYNC_RETRY_AFTER_S[attempt.failures - 1]
    else:
        delay_s = min(
            limits.ASYNC_BACKOFF_MAX_S, limits.ASYNC_BACKOFF_MIN_S * 2 ** min(attempt.attempts, 16)
        )
    due_ms = now_ms + int(delay_s * 1000)
    if due_ms - attempt.enqueued_ms > limits.ASYNC_EVENT_AGE_MAX_S * 1000:
        return Decision(None, "EventAgeExceeded")
    return Decision(due_ms)
