"""The phases of a runtime process as the Runtime API sees them: one table, one ``advance``.

Source: AWS's Runtime API (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html); which calls are
allowed in which state was read off AWS's runtime interface emulator. The table is what
``docs/architecture.md`` draws.
"""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Where the runtime process is."""

    STOPPED = auto()  # no process; the next start runs INIT
    STARTED = auto()  # INIT runs
    INIT_FAILED = auto()  # init/error was posted; the process is about to exit
    SNAPSHOT = auto()  # at the restore point: only clones of the process go on
    READY = auto()  # blocked in GET next
    RUNNING = auto()  # has an event and owes a response
    RESPONDING = auto()  # streams its response
    RESPONDED = auto()  # has answered and owes GET next


class Event(Enum):
    """What can happen to it."""

    START = auto()
    NEXT = auto()
    INIT_ERROR = auto()
    RESTORE_NEXT = auto()
    DISPATCH = auto()
    RESPONSE = auto()
    STREAM = auto()
    STREAM_END = auto()
    ERROR = auto()
    ENDED = auto()


class InvalidTransition(Exception):
    """The event is not allowed in this phase: answered 403 to the runtime."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"State transition is not allowed: {event.name} in {phase.name}")


_TABLE: dict[tuple[Phase, Event], Phase] = {
    (Phase.STOPPED, Event.START): Phase.STARTED,
    (Phase.STARTED, Event.NEXT): Phase.READY,
    (Phase.STARTED, Event.INIT_ERROR): Phase.INIT_FAILED,
    (Phase.STARTED, Event.RESTORE_NEXT): Phase.SNAPSHOT,
    (Phase.READY, Event.NEXT): Phase.READY,  # the runtime lost its connection and asks again
    (Phase.READY, Event.DISPATCH): Phase.RUNNING,
    (Phase.RUNNING, Event.RESPONSE): Phase.RESPONDED,
    (Phase.RUNNING, Event.ERROR): Phase.RESPONDED,
    (Phase.RUNNING, Event.STREAM): Phase.RESPONDING,
    (Phase.RESPONDING, Event.STREAM_END): Phase.RESPONDED,
    (Phase.RESPONDED, Event.NEXT): Phase.READY,
    **{(phase, Event.ENDED): Phase.STOPPED for phase in Phase},
}


def advance(phase: Phase, event: Event) -> Phase:
    """The phase after ``event``; InvalidTransition when the table does not list it."""
    try:
        return _TABLE[phase, event]
    except KeyError:
        raise InvalidTransition(phase, event) from None
