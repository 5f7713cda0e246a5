"""What went wrong in a Python function, as the documents that AWS's Python client reports.

A ``Fault`` is the runtime's own verdict (bad handler name, result that is no JSON); any other
exception is the function's. Both become an error document, and a cause for X-Ray.
"""

from __future__ import annotations

import json
import os
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Sequence, Tuple

    Frame = Tuple[str, int, str, str]

_OWN_FILES = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Fault(Exception):
    """An error that the runtime itself reports, under an AWS name such as Runtime.MarshalError."""

    def __init__(self, error_type: str, message: str, trace: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.trace = trace


class ErrorReport:
    """One error, ready to be logged and posted."""

    __slots__ = ("error_type", "frames", "message", "trace", "xray_type")

    def __init__(
        self,
        error_type: str,
        message: str,
        trace: Sequence[str],
        frames: Sequence[Frame],
        xray_type: str,
    ) -> None:
        self.error_type = error_type
        self.message = message
        self.trace = trace
        self.frames = frames
        self.xray_type = xray_type

    def document(self, request_id: str) -> dict[str, Any]:
        """The body of /error; ``request_id`` is empty during INIT."""
        return {
            "errorMessage": self.message,
            "errorType": self.error_type,
            "requestId": request_id,
            "stackTrace": list(self.trace),
        }

    def xray_cause(self) -> bytes:
        """The document of Lambda-Runtime-Function-XRay-Error-Cause: ASCII, fit for a header."""
        stack = [{"label": name, "path": path, "line": line} for path, line, name, _ in self.frames]
        cause = {
            "working_directory": os.getcwd(),
            "exceptions": [{"message": self.message, "type": self.xray_type, "stack": stack}],
            "paths": sorted({frame[0] for frame in self.frames}),
        }
        return json.dumps(cause).encode("ascii")


def describe(error: BaseException) -> ErrorReport:
    """The report of what a handler or a module raised."""
    if isinstance(error, Fault):
        return ErrorReport(
            error.error_type, error.message, error.trace, (), "LambdaValidationError"
        )
    frames = _user_frames(error.__traceback__)
    name = type(error).__name__
    # As tuples: the official client's lines carry no carets under the failing expression.
    return ErrorReport(name, str(error), traceback.format_list(frames), frames, name)


def _user_frames(trace: TracebackType | None) -> list[Frame]:
    """The frames from the function's own code on; all of them if none is (a handler that does not
    take two arguments fails in the caller's frame)."""
    frames = [
        (frame.filename, frame.lineno or 0, frame.name, frame.line or "")
        for frame in traceback.extract_tb(trace)
    ]
    for index, frame in enumerate(frames):
        if not frame[0].startswith(_OWN_FILES):
            return frames[index:]
    return frames
