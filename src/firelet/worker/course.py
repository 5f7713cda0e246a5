"""The course of one invocation in an environment with extensions, and how it is told of.

The caller has its answer as soon as the runtime has posted it; the invocation is over when the
runtime and all extensions ask for their next event. Used by ``worker.slots``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from firelet.model.invocation import Invocation
from firelet.runtime import platform_records as records
from firelet.runtime.platform_events import PlatformEvents
from firelet.runtime.platform_records import Measured, Record
from firelet.runtime.report import Reporter
from firelet.worker.endings import Ending


@dataclass(slots=True, kw_only=True)
class Course:
    """When what happened, in seconds of the monotonic clock; ``epoch`` is the wall clock's time at
    ``began``. ``init_ms`` and ``restore_ms`` are those of the first invocation."""

    began: float
    epoch: float
    init_ms: float | None
    restore_ms: float | None
    dispatched: float = 0.0
    answered: float = 0.0
    runtime_done: float = 0.0

    def epoch_of(self, moment: float) -> float:
        return self.epoch + moment - self.began


def tell_runtime_done(
    events: PlatformEvents,
    reporter: Reporter,
    invocation: Invocation,
    ending: Ending,
    course: Course,
) -> None:
    """The runtime has answered and asks for more, or never will."""
    dispatched = course.dispatched or course.began
    duration_ms = (course.runtime_done - dispatched) * 1000
    reporter.runtime_done(invocation.request_id, ending.status, ending.error_type, duration_ms)
    spans: list[Record] = []
    stream = ending.stream
    # One that is not streamed is looked at when it is there as a whole: what it took is latency.
    first = course.answered if stream is None else stream.first_byte_at
    last = course.answered if stream is None else stream.last_byte_at
    if ending.status != "timeout":
        spans = [
            records.span(name, course.epoch_of(start), (end - start) * 1000)
            for name, start, end in (
                ("responseLatency", dispatched, first),
                ("responseDuration", first, last),
                ("runtimeOverhead", last, course.runtime_done),
            )
        ]
    events.runtime_done(
        invocation,
        ending.status,
        ending.error_type,
        spans,
        duration_ms,
        len(ending.payload) if stream is None else stream.produced_bytes,
    )


def measure(ending: Ending, course: Course, memory_bytes: int) -> Measured:
    """What the invocation came to, now that it is over."""
    now = time.monotonic()
    return Measured(
        duration_ms=(now - course.began) * 1000,
        memory_bytes=memory_bytes,
        init_ms=course.init_ms,
        restore_ms=course.restore_ms,
        extension_ms=(now - course.runtime_done) * 1000,
        status=ending.status,
        error_type=ending.error_type,
    )


def tell_report(
    events: PlatformEvents,
    reporter: Reporter,
    invocation: Invocation,
    measured: Measured,
    course: Course,
) -> None:
    """END and REPORT, and their event."""
    reporter.report(invocation.request_id, measured, time.time())
    span = records.span(
        "extensionOverhead",
        course.epoch_of(course.runtime_done),
        measured.extension_ms or 0.0,
    )
    events.report(invocation, measured, [span])
