"""The phases of one extension as the Extensions API sees them: one table, one ``advance``.

Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html; the names of the states,
which are part of the API's error messages and log lines, are those of AWS's runtime interface
emulator, and so is what is allowed in each.
"""

from __future__ import annotations

from enum import Enum, auto


class ExtensionPhase(Enum):
    """Where an extension is. The value is AWS's name of the state."""

    STARTED = "Started"  # its process runs; it has not registered
    REGISTERED = "Registered"  # it owes its first GET next
    READY = "Ready"  # blocked in GET next
    RUNNING = "Running"  # has an event and owes GET next
    LAUNCH_ERROR = "LaunchError"  # its process could not be started
    INIT_ERROR = "InitError"  # it has posted init/error
    EXIT_ERROR = "ExitError"  # it has posted exit/error
    EXITED = "Exited"  # its process has ended


class ExtensionEvent(Enum):
    """What can happen to it."""

    REGISTER = auto()
    NEXT = auto()
    DISPATCH = auto()
    INIT_ERROR = auto()
    EXIT_ERROR = auto()
    LAUNCH_ERROR = auto()
    EXIT = auto()


class TransitionRefused(Exception):
    """The event is not allowed in this phase: answered 403 to the extension."""


_PHASE = ExtensionPhase
_EVENT = ExtensionEvent

_TABLE: dict[tuple[ExtensionPhase, ExtensionEvent], ExtensionPhase] = {
    (_PHASE.STARTED, _EVENT.REGISTER): _PHASE.REGISTERED,
    (_PHASE.STARTED, _EVENT.LAUNCH_ERROR): _PHASE.LAUNCH_ERROR,
    (_PHASE.REGISTERED, _EVENT.NEXT): _PHASE.READY,
    (_PHASE.REGISTERED, _EVENT.INIT_ERROR): _PHASE.INIT_ERROR,
    (_PHASE.REGISTERED, _EVENT.EXIT_ERROR): _PHASE.EXIT_ERROR,
    (_PHASE.READY, _EVENT.NEXT): _PHASE.READY,  # only if the connection that asked is gone
    (_PHASE.READY, _EVENT.DISPATCH): _PHASE.RUNNING,
    (_PHASE.READY, _EVENT.EXIT_ERROR): _PHASE.EXIT_ERROR,
    (_PHASE.RUNNING, _EVENT.NEXT): _PHASE.READY,
    (_PHASE.RUNNING, _EVENT.EXIT_ERROR): _PHASE.EXIT_ERROR,
    # More than one call is allowed; the first one counts.
    (_PHASE.INIT_ERROR, _EVENT.INIT_ERROR): _PHASE.INIT_ERROR,
    (_PHASE.EXIT_ERROR, _EVENT.EXIT_ERROR): _PHASE.EXIT_ERROR,
    **{(phase, _EVENT.EXIT): _PHASE.EXITED for phase in _PHASE},
}


def advance(phase: ExtensionPhase, event: ExtensionEvent) -> ExtensionPhase:
    """The phase after ``event``; TransitionRefused when the table does not list it."""
    try:
        return _TABLE[phase, event]
    except KeyError:
        raise TransitionRefused from None
