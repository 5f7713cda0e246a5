"""The extensions of one environment: who has registered, and the rendezvous with each of them.

``worker.extension_host`` launches them and dispatches events; ``runtime.extension_api`` turns their
HTTP calls into the methods here. An external extension is a process of its own, known by the name
of its file before it registers; an internal one is a part of the runtime's process and exists from
its registration on.
Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html; error types and sentences
as in AWS's runtime interface emulator.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from firelet.model import limits
from firelet.runtime.extension_phases import (
    ExtensionEvent,
    ExtensionPhase,
    TransitionRefused,
    advance,
)
from firelet.wire.prompt import PromptFuture

INVOKE = "INVOKE"
SHUTDOWN = "SHUTDOWN"
INIT_ERROR = "Extension.InitError"
EXIT_ERROR = "Extension.ExitError"
CRASH = "Extension.Crash"
LAUNCH_ERROR = "Extension.LaunchError"

_INVALID_STATE = "Extension.InvalidExtensionState"
_NOT_ALLOWED = "State transition is not allowed"


class Refused(Exception):
    """The call is answered 403 with this error type and sentence."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message


@dataclass(frozen=True, slots=True)
class ExtensionFault:
    """What makes the whole environment fail. ``message`` is AWS's, without the request id."""

    error_type: str
    message: str


class ExtensionFailed(Exception):
    """An extension has ended or reported an error."""

    def __init__(self, fault: ExtensionFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


@dataclass(slots=True, eq=False)
class Extension:
    """One extension. ``error_type`` is what it called the error that it reported."""

    name: str
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    phase: ExtensionPhase = ExtensionPhase.STARTED
    events: tuple[str, ...] = ()
    error_type: str | None = None
    has_ended: bool = False
    next: PromptFuture[bytes] | None = None
    undelivered: bytes | None = None

    def advance(self, event: ExtensionEvent, target: ExtensionPhase, named: str) -> None:
        """``named`` and ``target`` are for the sentence of a refusal."""
        try:
            self.phase = advance(self.phase, event)
        except TransitionRefused:
            raise Refused(
                _INVALID_STATE,
                f"State transition from {self.phase.value} to {target.value} failed for extension"
                f" {named}. Error: {_NOT_ALLOWED}",
            ) from None

    def hand_over(self, event: bytes) -> None:
        """Gives it an event for which it asked; kept, if its connection is gone."""
        self.phase = advance(self.phase, ExtensionEvent.DISPATCH)
        waiting, self.next = self.next, None
        if waiting is not None and not waiting.done():
            waiting.set_result(event)
        else:
            self.undelivered = event


class Extensions:
    """One per environment. ``on_change`` is called after each step of any of them, ``on_fault``
    once, when one of them fails."""

    def __init__(
        self, on_change: Callable[[], None], on_fault: Callable[[ExtensionFault], None]
    ) -> None:
        self._on_change = on_change
        self._on_fault = on_fault
        self._by_id: dict[str, Extension] = {}
        self._external: dict[str, Extension] = {}
        self._is_open = False
        self._is_ending = False
        self._grace: asyncio.TimerHandle | None = None
        self.fault: ExtensionFault | None = None

    # The worker's side.

    @property
    def all(self) -> list[Extension]:
        return list(self._by_id.values())

    @property
    def are_there(self) -> bool:
        """Whether there is any, be it registered yet or not."""
        return bool(self._by_id)

    @property
    def has_external(self) -> bool:
        return bool(self._external)

    @property
    def have_registered(self) -> bool:
        """Whether no external one is still to register."""
        return all(each.phase is not ExtensionPhase.STARTED for each in self._external.values())

    @property
    def are_ready(self) -> bool:
        """Whether all of them wait for their next event."""
        return all(each.phase is ExtensionPhase.READY for each in self._by_id.values())

    @property
    def have_exited(self) -> bool:
        """Whether no process of one that was told of the shutdown is left."""
        return all(each.has_ended for each in self._external.values() if SHUTDOWN in each.events)

    def begin(self, names: Sequence[str]) -> None:
        """INIT begins: external ones of these names are about to be started; registration opens."""
        self._forget()
        for name in names:
            extension = Extension(name)
            self._external[name] = self._by_id[extension.identifier] = extension

    def close_registration(self) -> None:
        """The runtime is initialised."""
        self._is_open = False

    def launch_failed(self, name: str, message: str) -> None:
        """The process of an external one could not be started."""
        extension = self._external[name]
        extension.phase = advance(extension.phase, ExtensionEvent.LAUNCH_ERROR)
        extension.error_type = "UnknownError"
        extension.has_ended = True
        self._fail(ExtensionFault(LAUNCH_ERROR, message))

    def exited(self, name: str, how: str) -> None:
        """The process of an external one has ended; ``how`` in AWS's words."""
        extension = self._external.get(name)
        if extension is None:
            return
        extension.has_ended = True
        if self._is_ending:
            extension.phase = advance(extension.phase, ExtensionEvent.EXIT)
        if extension.next is not None:
            extension.next.cancel()
            extension.next = None
        if not self._is_ending:
            reported = {
                ExtensionPhase.INIT_ERROR: INIT_ERROR,
                ExtensionPhase.EXIT_ERROR: EXIT_ERROR,
            }.get(extension.phase, CRASH)
            self._fail(ExtensionFault(reported, how))
        self._on_change()

    def dispatch(self, kind: str, event: bytes) -> None:
        """Hands an event to each that has registered for its kind and asks for one."""
        for extension in self._by_id.values():
            if kind in extension.events and extension.phase is ExtensionPhase.READY:
                extension.hand_over(event)

    def begin_shutdown(self) -> None:
        """From now on it is no fault when one of them ends."""
        self._is_ending = True
        self._is_open = False
        self._cancel_grace()

    def end(self) -> None:
        """Every process has ended."""
        self.begin_shutdown()
        for extension in self._by_id.values():
            if extension.next is not None:
                extension.next.cancel()
        self._by_id.clear()
        self._external.clear()

    # The extensions' side.

    def register(self, name: str, events: Sequence[str]) -> Extension:
        """POST register. Refused when it is too late, and for the other reasons of the API."""
        extension = self._external.get(name)
        if extension is None:
            return self._register_internal(name, events)
        for event in events:
            if event not in (INVOKE, SHUTDOWN):
                raise Refused("Extension.InvalidEventType", f"{event}: invalid event type")
        extension.advance(ExtensionEvent.REGISTER, ExtensionPhase.REGISTERED, name)
        extension.events = tuple(dict.fromkeys(events))
        self._on_change()
        return extension

    def find(self, identifier: str) -> Extension | None:
        """By the identifier that registration has given it."""
        extension = self._by_id.get(identifier)
        is_known = extension is not None and extension.phase is not ExtensionPhase.STARTED
        return extension if is_known else None

    def ask(self, extension: Extension) -> PromptFuture[bytes]:
        """GET event/next: the Future gives the next event."""
        loop = asyncio.get_running_loop()
        future: PromptFuture[bytes] = PromptFuture(loop=loop)
        if extension.undelivered is not None:
            future.set_result(extension.undelivered)
            extension.undelivered = None
            return future
        if extension.next is not None and not extension.next.done():
            # It asks twice at a time; the first call goes on.
            raise Refused(
                _INVALID_STATE,
                f"State transition from {extension.phase.value} to {ExtensionPhase.READY.value}"
                f" failed for extension {extension.identifier}. Error: {_NOT_ALLOWED}",
            )
        extension.advance(ExtensionEvent.NEXT, ExtensionPhase.READY, extension.identifier)
        extension.next = future
        self._on_change()
        return future

    def withdraw(self, extension: Extension, waiting: PromptFuture[bytes]) -> None:
        """The connection that asked is gone; the next event is kept until it asks again."""
        if extension.next is waiting:
            extension.next = None
        waiting.cancel()

    def report(self, extension: Extension, event: ExtensionEvent, error_type: str) -> None:
        """POST init/error or exit/error: the environment fails as soon as the process ends, or
        after a while if it does not."""
        is_init = event is ExtensionEvent.INIT_ERROR
        target = ExtensionPhase.INIT_ERROR if is_init else ExtensionPhase.EXIT_ERROR
        extension.advance(event, target, extension.identifier)
        extension.error_type = extension.error_type or error_type
        if self._is_ending or self._grace is not None:
            return
        fault = ExtensionFault(INIT_ERROR if is_init else EXIT_ERROR, error_type)
        loop = asyncio.get_running_loop()
        self._grace = loop.call_later(limits.EXTENSION_EXIT_GRACE_S, self._fail, fault)

    def _register_internal(self, name: str, events: Sequence[str]) -> Extension:
        for event in events:
            if event == SHUTDOWN:
                raise Refused(
                    "Extension.InvalidEventType",
                    f"{event}: event not supported for internal extensions",
                )
            if event != INVOKE:
                raise Refused("Extension.InvalidEventType", f"{event}: invalid event type")
        if not self._is_open:
            raise Refused("Extension.RegistrationClosed", "Extension registration closed already")
        if any(each.name == name for each in self._by_id.values()):
            raise Refused(_INVALID_STATE, "Extension with this name already registered")
        if len(self._by_id) >= limits.EXTENSIONS_MAX:
            raise Refused(
                "Extension.TooManyExtensions",
                f"Extension limit ({limits.EXTENSIONS_MAX}) reached",
            )
        extension = Extension(name, phase=ExtensionPhase.REGISTERED)
        extension.events = tuple(dict.fromkeys(events))
        self._by_id[extension.identifier] = extension
        self._on_change()
        return extension

    def _fail(self, fault: ExtensionFault) -> None:
        self._cancel_grace()
        if self.fault is None and not self._is_ending:
            self.fault = fault
            self._on_fault(fault)

    def _forget(self) -> None:
        self._by_id.clear()
        self._external.clear()
        self._is_open = True
        self._is_ending = False
        self.fault = None
        self._cancel_grace()

    def _cancel_grace(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
