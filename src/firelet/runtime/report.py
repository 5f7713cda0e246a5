"""The platform's own lines in a function's log: INIT_START, START, END, REPORT and their kin.

Two formats: Text, with the words and tabs of the real service, and JSON, with the records of the
Telemetry API. Source: recorded log streams; the event schema reference in the Lambda guide.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from firelet.model.function import FunctionVersion, InitializationType
from firelet.runtime import platform_records as records
from firelet.runtime.platform_records import (
    Measured,
    RuntimeDone,
    billed_ms,
    format_iso_ms,
    has_error_type,
    runtime_version_arn,
    runtime_version_name,
    used_mib,
)

__all__ = ["Measured", "Reporter", "billed_ms", "format_iso_ms", "runtime_version_arn"]

Write = Callable[[int, str], None]

_NAME = re.compile(r"[\w.:$-]+")

# Levels at which the JSON format reports the platform's events, by type.
_LEVELS = {"DEBUG": 0, "INFO": 1, "WARN": 2}


def _one_word(error_type: str) -> str:
    """A type that the function chose must not look like a line of ours."""
    return error_type if _NAME.fullmatch(error_type) else "Function.Unknown"


def _on_one_line(text: str) -> str:
    """The name of a file, which an archive may have given any characters."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Reporter:
    """Writes the platform's lines of one sandbox through ``write(timestamp_ms, message)``."""

    def __init__(
        self,
        version: FunctionVersion,
        instance_id: str,
        write: Write,
        initialization: InitializationType = InitializationType.ON_DEMAND,
    ) -> None:
        self._initialization = initialization
        self._version = version
        self._instance_id = instance_id
        self._write = write
        self.is_json = version.logging.log_format == "JSON"
        self._level = _LEVELS.get(version.logging.system_log_level or "INFO", 1)

    def init_start(self) -> None:
        self._begin("init", "INIT_START", "platform.initStart")

    def init_report(
        self, duration_ms: float, phase: str, status: str, error_type: str | None = None
    ) -> None:
        """For an INIT that failed or timed out; a good one is told by REPORT, and here only if
        the environment is provisioned."""
        is_good = status == "success"
        if self.is_json:
            record = records.init_record(
                self._initialization, phase, status, error_type, duration_ms
            )
            self._record("INFO" if is_good else "WARN", "platform.initReport", record)
            return
        text = f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}"
        if not is_good:
            text += f"\tStatus: {status}"
        if error_type is not None and has_error_type(status):
            text += f"\tError Type: {error_type}"
        self._line(text + "\n")

    def restore_start(self) -> None:
        """A clone of a snapshot begins."""
        self._begin("restore", "RESTORE_START", "platform.restoreStart")

    def restore_report(self, duration_ms: float, status: str, error_type: str | None) -> None:
        """How the restore went."""
        if self.is_json:
            record = records.init_record(self._initialization, "restore", status, error_type)
            is_good = status == "success"
            self._record("DEBUG" if is_good else "WARN", "platform.restoreRuntimeDone", record)
            record = {**record, "metrics": {"durationMs": round(duration_ms, 3)}}
            self._record("INFO" if is_good else "WARN", "platform.restoreReport", record)
            return
        text = f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms"
        if status != "success":
            text += f"\tStatus: {status}"
        if error_type is not None and has_error_type(status):
            text += f"\tError Type: {error_type}"
        self._line(text + "\n")

    def start(self, request_id: str, now_s: float, tenant_id: str | None = None) -> None:
        if self.is_json:
            record = records.start_record(request_id, self._version, tenant_id)
            self._record("INFO", "platform.start", record)
            return
        self._write(
            int(now_s * 1000), f"START RequestId: {request_id} Version: {self._version.version}\n"
        )

    def timed_out(self, request_id: str, timeout_s: float) -> None:
        if not self.is_json:
            self._line(
                f"{format_iso_ms(time.time())} {request_id} Task timed out after"
                f" {timeout_s:.2f} seconds\n\n"
            )

    def report(
        self,
        request_id: str,
        measured: Measured,
        now_s: float,
        tenant_id: str | None = None,
        spans: Sequence[records.Record] = (),
    ) -> None:
        """END and REPORT; in JSON ``runtime_done`` came before."""
        if self.is_json:
            level = "INFO" if measured.status == "success" else "WARN"
            record = records.report_record(request_id, measured, self._version, tenant_id, spans)
            self._record(level, "platform.report", record)
            return
        text = (
            f"REPORT RequestId: {request_id}\tDuration: {measured.duration_ms:.2f} ms\t"
            f"Billed Duration: {billed_ms(measured)} ms\t"
            f"Memory Size: {self._version.memory_mib} MB\t"
            f"Max Memory Used: {used_mib(self._version, measured.memory_bytes)} MB\t"
        )
        if measured.init_ms is not None:
            text += f"Init Duration: {measured.init_ms:.2f} ms\t"
        if measured.restore_ms is not None:
            text += (
                f"Restore Duration: {measured.restore_ms:.2f} ms\t"
                f"Billed Restore Duration: {math.ceil(measured.restore_ms)} ms\t"
            )
        if measured.status != "success":
            text += f"Status: {measured.status}"
            if measured.error_type and has_error_type(measured.status):
                text += f"\tError Type: {_one_word(measured.error_type)}"
        timestamp = int(now_s * 1000)
        self._write(timestamp, f"END RequestId: {request_id}\n")
        self._write(timestamp, text + "\n")

    def runtime_done(
        self, request_id: str, done: RuntimeDone, tenant_id: str | None = None
    ) -> None:
        """The runtime has answered, or never will; the JSON format tells."""
        if self.is_json:
            level = "DEBUG" if done.status == "success" else "WARN"
            record = records.runtime_done_record(request_id, done, tenant_id)
            self._record(level, "platform.runtimeDone", record)

    def extension(
        self, name: str, state: str, events: Sequence[str], error_type: str | None
    ) -> None:
        """What became of one extension in INIT."""
        if self.is_json:
            record = records.extension_record(name, state, events, error_type)
            self._record("INFO" if error_type is None else "WARN", "platform.extension", record)
            return
        text = (
            f"EXTENSION\tName: {_on_one_line(name)}\tState: {state}\tEvents: [{','.join(events)}]"
        )
        if error_type is not None:
            text += f"\tError Type: {error_type}"
        self._line(text + "\n")

    def subscription(self, word: str, name: str, types: Sequence[str]) -> None:
        """An extension has subscribed; ``word`` is TELEMETRY or LOGS."""
        if self.is_json:
            kind = "telemetrySubscription" if word == "TELEMETRY" else "logsSubscription"
            record = records.subscription_record(name, types)
            self._record("INFO", f"platform.{kind}", record)
            return
        listed = ", ".join(each.capitalize() for each in types)
        self._line(f"{word}\tName: {name}\tState: Subscribed\tTypes: [{listed}]\n")

    def failed(self, request_id: str, message: str, error_type: str) -> None:
        """Why the environment has failed, in a line of its own (Text only: JSON has the type)."""
        if not self.is_json:
            said = _on_one_line(message)
            self._line(f"RequestId: {request_id} Error: {said}\n{error_type}\n")

    def _begin(self, phase: str, word: str, kind: str) -> None:
        version = self._version
        if not self.is_json:
            self._line(
                f"{word} Runtime Version: {runtime_version_name(version)}\t"
                f"Runtime Version ARN: {runtime_version_arn(version)}\n"
            )
            return
        record = records.begin_record(version, self._initialization, phase, self._instance_id)
        self._record("INFO", kind, record)

    def _record(self, level: str, kind: str, record: dict[str, Any]) -> None:
        if _LEVELS[level] < self._level:
            return
        now = time.time()
        document = {"time": format_iso_ms(now), "type": kind, "record": record}
        self._write(int(now * 1000), orjson.dumps(document).decode() + "\n")

    def _line(self, text: str) -> None:
        self._write(int(time.time() * 1000), text)
