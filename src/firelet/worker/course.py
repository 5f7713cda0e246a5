"""The course of one invocation, and how it is told of.

The caller has its answer as soon as the runtime has posted it. With extensions, the invocation is
over when the runtime and all of them ask for their next event; without any, it is over then. Used
by ``worker.slots``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from firelet.model.invocation import Invocation, Settled
from firelet.runtime import platform_records as records
from firelet.runtime.platform_events import PlatformEvents
from firelet.runtime.platform_records import Measured, Record, RuntimeDone
from firelet.runtime.report import Reporter
from firelet.worker.endings import Ending


@dataclass(slots=True, kw_only=True)
class Course:
    """When what happened, in seconds of the monotonic clock; ``epoch`` is the wall clock's time at
    ``began``. ``init_ms`` and ``restore_ms`` are those of the first invocation. ``runtime_done``
    is 0 while the runtime has not asked for its next event, and without extensions."""

    began: float
    epoch: float
    init_ms: float | None = None
    restore_ms: float | None = None
    dispatched: float = 0.0
    answered: float = 0.0
    runtime_done: float = 0.0

    def epoch_of(self, moment: float) -> float:
        return self.epoch + moment - self.began


def _describe_runtime_done(ending: Ending, course: Course) -> RuntimeDone:
    """What is known once the runtime has answered: what it still has to do after that, before it
    asks for more, is known only with ``runtime_done``."""
    dispatched = course.dispatched or course.began
    done = course.runtime_done or course.answered
    stream = ending.stream
    # One that is not streamed is looked at when it is there as a whole: what it took is latency.
    first = course.answered if stream is None else stream.first_byte_at
    last = course.answered if stream is None else stream.last_byte_at
    spans: list[Record] = []
    if ending.status != "timeout":
        parts = [("responseLatency", dispatched, first), ("responseDuration", first, last)]
        if course.runtime_done:
            parts.append(("runtimeOverhead", last, done))
        spans = [
            records.span(name, course.epoch_of(start), (end - start) * 1000)
            for name, start, end in parts
        ]
    return RuntimeDone(
        status=ending.status,
        error_type=ending.error_type,
        duration_ms=(done - dispatched) * 1000,
        produced_bytes=ending.produced_bytes,
        spans=tuple(spans),
    )


def tell_runtime_done(
    events: PlatformEvents | None,
    reporter: Reporter,
    invocation: Invocation,
    ending: Ending,
    course: Course,
) -> None:
    """The runtime has answered and asks for more, or never will. Without extensions there are no
    ``events``, and the answer is all that is waited for."""
    done = _describe_runtime_done(ending, course)
    reporter.runtime_done(invocation.request_id, done, invocation.tenant_id)
    if events is not None:
        events.runtime_done(invocation, done)


def measure(ending: Ending, course: Course, memory_bytes: int) -> Measured:
    """What the invocation came to, now that it is over."""
    now = time.monotonic()
    runtime_done = course.runtime_done or now
    return Measured(
        duration_ms=(now - course.began) * 1000,
        memory_bytes=memory_bytes,
        init_ms=course.init_ms,
        restore_ms=course.restore_ms,
        extension_ms=(now - runtime_done) * 1000,
        status=ending.status,
        error_type=ending.error_type,
    )


def tell_settled(invocation: Invocation, measured: Measured) -> None:
    """Tells whoever counts how long the whole of it took."""
    if invocation.on_settled is not None:
        invocation.on_settled(
            Settled(duration_ms=measured.duration_ms, extensions_ms=measured.extension_ms or 0.0)
        )


def tell_report(
    events: PlatformEvents,
    reporter: Reporter,
    invocation: Invocation,
    measured: Measured,
    course: Course,
) -> None:
    """END and REPORT, and their event."""
    spans = [
        records.span(
            "extensionOverhead",
            course.epoch_of(course.runtime_done),
            measured.extension_ms or 0.0,
        )
    ]
    reporter.report(invocation.request_id, measured, time.time(), invocation.tenant_id, spans)
    events.report(invocation, measured, spans)
