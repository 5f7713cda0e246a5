"""What the caller of a failed invocation gets: AWS's bodies for what the platform observed.

Source: recorded answers of the real service; the key order is errorType first.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

import orjson

TIMED_OUT = "Sandbox.Timedout"
EXIT_ERROR = "Runtime.ExitError"
INVALID_ENTRYPOINT = "Runtime.InvalidEntrypoint"
INVALID_WORKING_DIRECTORY = "Runtime.InvalidWorkingDir"

# As the runtime interface of AWS, written in Go, names them (Go's syscall.Signal.String).
_SIGNAL_NAMES: dict[int, str] = {
    signal.SIGABRT: "aborted",
    signal.SIGALRM: "alarm clock",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGHUP: "hangup",
    signal.SIGILL: "illegal instruction",
    signal.SIGINT: "interrupt",
    signal.SIGKILL: "killed",
    signal.SIGPIPE: "broken pipe",
    signal.SIGQUIT: "quit",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGSYS: "bad system call",
    signal.SIGTERM: "terminated",
    signal.SIGTRAP: "trace/breakpoint trap",
}


def format_platform_error(request_id: str, error_type: str, message: str) -> bytes:
    """The body for an error that the platform, not the function, tells."""
    return orjson.dumps(
        {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    )


def describe_exit(code: int | None, signal_number: int | None) -> str:
    """How the runtime process ended, in AWS's words."""
    if signal_number is not None:
        name = _SIGNAL_NAMES.get(signal_number, f"signal {signal_number}")
        return f"Runtime exited with error: signal: {name}"
    if not code:
        return "Runtime exited without providing a reason"
    return f"Runtime exited with error: exit status {code}"


def describe_end(code: int | None, signal_number: int | None) -> str:
    """How the process of an extension ended, in AWS's words."""
    if signal_number is not None:
        return f"signal: {_SIGNAL_NAMES.get(signal_number, f'signal {signal_number}')}"
    return f"exit status {code}" if code else "exit code 0"


def describe_launch(step: str, path: str, reason: str) -> tuple[str, str]:
    """The error type of a process that could not be started, and the sentence: those of the Go
    standard library, in which AWS's runtime interface is written. For the working directory the
    sentence is not recorded; the type is that of AWS's runtime interface emulator."""
    if step == "chdir":
        return INVALID_WORKING_DIRECTORY, f"chdir {path}: {reason}"
    if step == "look_up":
        return INVALID_ENTRYPOINT, f'exec: "{path}": {reason}'
    return INVALID_ENTRYPOINT, f"fork/exec {path}: {reason}"


def describe_image_launch(
    sentence: str, entry_point: Sequence[str], command: Sequence[str], directory: str
) -> str:
    """AWS's line in the log for an image that does not start, as users of the service quote it."""
    return (
        f"IMAGE\tLaunch error: {sentence}\tEntrypoint: [{','.join(entry_point)}]"
        f"\tCmd: [{','.join(command)}]\tWorkingDir: [{directory}]\n"
    )


def describe_timeout(timeout_s: float) -> str:
    return f"Task timed out after {timeout_s:.2f} seconds"
