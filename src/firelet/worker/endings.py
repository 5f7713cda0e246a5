"""How an invocation ended, and how an INIT failed, before either is written down or answered.

Values only: what the caller of ``worker.slots`` gets for what the platform observed. The sentences
are those of ``runtime.failures``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from firelet.model.errors import (
    FireletError,
    PlatformError,
    SnapStartFailed,
    SnapStartTimeout,
)
from firelet.model.function import FunctionVersion
from firelet.runtime.environment import image_process_of
from firelet.runtime.exchange import RuntimeAnswer, StreamFacts
from firelet.runtime.extensions import ExtensionFault
from firelet.runtime.failures import (
    EXIT_ERROR,
    INVALID_ENTRYPOINT,
    TIMED_OUT,
    describe_exit,
    describe_image_launch,
    describe_launch,
    describe_timeout,
    format_platform_error,
)
from firelet.sandbox.driver import RuntimeExit


@dataclass(slots=True)
class Ending:
    """What the caller gets, and what the report line says. With ``stream``, the caller has had
    the response already. ``produced_bytes`` is what the function has sent: none of an error
    document that the platform made."""

    payload: bytes
    status: str = "success"  # success, timeout, error
    error_type: str | None = None
    function_error: str | None = None
    stream: StreamFacts | None = None
    produced_bytes: int = 0
    reset_reason: str | None = None  # why the environment is to be reset, with extensions


class InitFault(Enum):
    """Why an INIT came to nothing."""

    TIMEOUT = auto()
    RUNTIME_ENDED = auto()
    EXTENSION = auto()  # one has ended or reported an error
    REPORTED = auto()  # by the runtime, with init/error
    NO_ENTRY_POINT = auto()


@dataclass(frozen=True, slots=True)
class InitFailure:
    """An INIT that came to nothing; ``ending`` makes, from a request id, the ending of the
    invocation that waited for it."""

    fault: InitFault
    ending: Callable[[str], Ending]

    def restore_error(self) -> FireletError:
        """The error for a clone that failed so while it was restored."""
        if self.fault is InitFault.TIMEOUT:
            return SnapStartTimeout(
                "Lambda couldn't restore the snapshot within the timeout limit."
            )
        if self.fault is InitFault.RUNTIME_ENDED:
            return PlatformError("The execution environment ended while it was restored.")
        if self.fault is InitFault.EXTENSION:
            return SnapStartFailed(
                "An extension failed while the execution environment was restored:"
                f" {self.ending('').error_type}. For more information, check the Amazon CloudWatch"
                " logs."
            )
        return SnapStartFailed(
            "The afterRestore() runtime hook encountered an error. For more information, check the"
            " Amazon CloudWatch logs."
        )


def ending_of(answer: RuntimeAnswer) -> Ending:
    """The ending that the runtime has posted."""
    stream = answer.stream
    produced = len(answer.payload) if stream is None else stream.produced_bytes
    if answer.is_error:
        return Ending(answer.payload, "error", answer.error_type, "Unhandled", stream, produced)
    return Ending(answer.payload, stream=stream, produced_bytes=produced)


def timed_out(request_id: str, timeout_s: float) -> Ending:
    """The function's time was over."""
    payload = format_platform_error(request_id, TIMED_OUT, describe_timeout(timeout_s))
    return Ending(payload, "timeout", TIMED_OUT, "Unhandled")


def no_entry_point(request_id: str, sentence: str) -> Ending:
    """There was nothing to start."""
    payload = format_platform_error(request_id, INVALID_ENTRYPOINT, sentence)
    return Ending(payload, "error", INVALID_ENTRYPOINT, "Unhandled")


def runtime_ended(request_id: str, exit_: RuntimeExit) -> Ending:
    """The runtime's process ended before it answered."""
    error_type, message = exit_error(exit_)
    payload = format_platform_error(request_id, error_type, message)
    return Ending(payload, "error", error_type, "Unhandled")


def exit_error(exit_: RuntimeExit) -> tuple[str, str]:
    """Error type and sentence for how the process ended, or for why it never began."""
    failure = exit_.launch_failure
    if failure is not None:
        return describe_launch(failure.step, failure.path, failure.reason)
    number = exit_.signal
    if exit_.is_out_of_memory:
        number = number or signal.SIGKILL
    return EXIT_ERROR, describe_exit(exit_.code, number)


def extension_failed(request_id: str, fault: ExtensionFault) -> Ending:
    """An extension made the environment fail."""
    payload = format_platform_error(request_id, fault.error_type, fault.message)
    return Ending(payload, "error", fault.error_type, "Unhandled", reset_reason="failure")


def launch_line(version: FunctionVersion, exit_: RuntimeExit) -> str | None:
    """What the function's log says of the process of an image that never began; None if it did."""
    process = image_process_of(version)
    if exit_.launch_failure is None or process is None:
        return None
    return describe_image_launch(
        exit_error(exit_)[1], process.entry_point, process.command, process.working_directory
    )
