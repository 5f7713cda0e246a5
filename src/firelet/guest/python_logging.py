"""Where a Python function's log lines go, and how they look.

``print`` writes to standard output as it is. The ``logging`` module's records, and the errors that
the runtime reports, get AWS's text or JSON form and go to a sink: framed records on the telemetry
pipe if the platform offers one, else standard output. Set up once by python_runtime.
Source: logging set-up, formatters and frames of the official client.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import time
import traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, MutableMapping

_FRAME_TEXT = 0xA55A0003
_FRAME_JSON = 0xA55A0002
_TELEMETRY_VARIABLE = "_LAMBDA_TELEMETRY_LOG_FD"
_TEXT_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
_JSON_TIME = "%Y-%m-%dT%H:%M:%SZ"
_NO_BREAK_SPACE = "\u00a0"

# What a JSON line does not repeat as extra fields. The official client does not know taskName
# (Python 3.12) and lets it through.
_HIDDEN_ATTRIBUTES = {
    *vars(logging.LogRecord("", 0, "", 0, "", (), None)),
    "aws_request_id",
    "tenant_id",
    "_frame_type",
} - {"taskName"}


class CurrentInvocation:
    """Which invocation a log line belongs to; empty during INIT."""

    __slots__ = ("request_id", "tenant_id")

    def __init__(self) -> None:
        self.request_id = ""
        self.tenant_id: str | None = None


class StandardOutputSink:
    """Writes to whatever ``sys.stdout`` is at that moment."""

    def log(self, msg: str, frame_type: int | None = None) -> None:
        sys.stdout.write(msg)

    def log_error(self, lines: list[str], frame_type: int) -> None:
        # Carriage returns keep a multi-line error in one event where lines are the only frames.
        sys.stdout.write("\r".join(lines) + "\n")


class TelemetrySink:
    """Writes framed records: type, length, time in microseconds, text; all big-endian."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._pipe = io.FileIO(descriptor, "wb")
        self._lock = threading.Lock()

    def log(self, msg: str, frame_type: int | None = None) -> None:
        text = msg.encode("utf-8")
        frame = b"".join(
            (
                (frame_type or _FRAME_TEXT).to_bytes(4, "big"),
                len(text).to_bytes(4, "big"),
                (time.time_ns() // 1000).to_bytes(8, "big"),
                text,
            )
        )
        with self._lock:
            # Short only if a signal comes while a large frame waits for room in the pipe.
            while frame:
                frame = frame[self._pipe.write(frame) :]

    def log_error(self, lines: list[str], frame_type: int) -> None:
        self.log("\n".join(lines), frame_type)


if TYPE_CHECKING:
    LogSink = StandardOutputSink | TelemetrySink


def open_sink(environ: MutableMapping[str, str]) -> LogSink:
    """The telemetry pipe if the platform offers one, hidden from the function's children."""
    descriptor = environ.pop(_TELEMETRY_VARIABLE, None)
    if descriptor is None:
        return StandardOutputSink()
    return TelemetrySink(int(descriptor))


def unbuffer_standard_streams() -> None:
    """Makes each write reach the pipe at once: a crash or a time-out loses nothing printed."""
    sys.stdout = _unbuffered(1, "<stdout>", "surrogateescape")
    sys.stderr = _unbuffered(2, "<stderr>", "backslashreplace")


def _unbuffered(descriptor: int, name: str, errors: str) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "wb", closefd=False)
    raw.name = name
    # The platform's pipes are UTF-8, whatever locale this interpreter was started in. AWS's
    # locale (C.UTF-8) lets undecodable file names through to standard output.
    stream = io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)
    stream.mode = "w"  # type: ignore[misc]
    return stream


class LambdaLoggerHandler(logging.Handler):
    """The root logger's handler. Libraries look for this name and for ``log_sink``."""

    def __init__(self, log_sink: LogSink, has_level_frames: bool) -> None:
        super().__init__()
        self.log_sink = log_sink
        self._has_level_frames = has_level_frames

    def emit(self, record: logging.LogRecord) -> None:
        """Errors are not swallowed as logging's own handlers do: AWS's client raises them."""
        text = self.format(record)
        frame_type = None
        if self._has_level_frames:
            default = _frame_type(_FRAME_TEXT, _rounded_level(record))
            frame_type = getattr(record, "_frame_type", None) or default
        self.log_sink.log(text, frame_type)


class _InvocationFilter(logging.Filter):
    def __init__(self, current: CurrentInvocation) -> None:
        super().__init__()
        self._current = current

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self._current.request_id
        record.tenant_id = self._current.tenant_id
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object per record; extra fields of the record are added, absent ones left out."""

    _encode = json.JSONEncoder(ensure_ascii=False, default=str).encode

    def __init__(self) -> None:
        super().__init__(datefmt=_JSON_TIME)

    def format(self, record: logging.LogRecord) -> str:
        record.levelno = _rounded_level(record)
        record.levelname = logging.getLevelName(record.levelno)
        record._frame_type = _frame_type(_FRAME_JSON, record.levelno)
        is_document = isinstance(record.msg, dict) and not record.args
        line: dict[str, Any] = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": record.levelname,
            "message": record.msg if is_document else record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            kind, error, trace = record.exc_info
            line["stackTrace"] = traceback.format_tb(trace)
            line["errorType"] = kind.__name__ if kind is not None else None
            line["errorMessage"] = str(error)
        line["requestId"] = getattr(record, "aws_request_id", None)
        if record.exc_info:
            line["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
        line["tenantId"] = getattr(record, "tenant_id", None)
        for name, value in vars(record).items():
            if name not in _HIDDEN_ATTRIBUTES and name not in line:
                line[name] = value
        return (
            self._encode({name: value for name, value in line.items() if value is not None}) + "\n"
        )


class ErrorLog:
    """Writes the errors that the runtime reports, in the format that the function chose."""

    def __init__(self, sink: LogSink, is_json: bool) -> None:
        self._sink = sink
        self._is_json = is_json
        self._frame_type = _frame_type(_FRAME_JSON if is_json else _FRAME_TEXT, logging.ERROR)

    def write(self, document: dict[str, Any]) -> None:
        """``document`` is what goes to the Runtime API: errorType, errorMessage, stackTrace."""
        lines = _json_error(document) if self._is_json else _text_error(document)
        self._sink.log_error(lines, self._frame_type)


def set_up_logging(
    environ: MutableMapping[str, str], sink: LogSink, current: CurrentInvocation
) -> ErrorLog:
    """Gives the root logger its handler, format and level."""
    is_json = environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    level = environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if level == "TRACE":
        level = "DEBUG"
    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler(sink, has_level_frames=is_json or bool(level))
    if is_json:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter(_TEXT_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(_InvocationFilter(current))
    root = logging.getLogger()
    if level and isinstance(logging.getLevelName(level), int):
        root.setLevel(level)
    root.addHandler(handler)
    return ErrorLog(sink, is_json)


def _rounded_level(record: logging.LogRecord) -> int:
    return min(50, max(0, record.levelno)) // 10 * 10


def _frame_type(kind: int, level: int) -> int:
    """The platform's frame type: the kind with the level in bits 2 to 4; none for NOTSET."""
    return kind | (level // 10 + 1) * 4 if level else kind


def _json_error(document: dict[str, Any]) -> list[str]:
    now = time.strftime(_JSON_TIME, time.gmtime())
    return [json.dumps({"timestamp": now, "level": "ERROR", **document}, ensure_ascii=False)]


def _text_error(document: dict[str, Any]) -> list[str]:
    first = "[ERROR]"
    if document["errorType"]:
        first += " " + document["errorType"]
    if document["errorMessage"]:
        first += ": " + document["errorMessage"]
    lines = [first, "Traceback (most recent call last):"]
    for entry in document["stackTrace"]:
        lines.extend(_keep_indent(line) for line in entry.splitlines() or [""])
    return lines


def _keep_indent(line: str) -> str:
    """Blanks at the start of a line would be trimmed by the console; no-break spaces are not."""
    text = line.lstrip(" ")
    return _NO_BREAK_SPACE * (len(line) - len(text)) + text
