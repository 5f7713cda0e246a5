"""The platform's own lines in a function's log: INIT_START, START, END, REPORT and their kin.

Two formats: Text, with the words and tabs of the real service, and JSON, with the records of the
Telemetry API. Source: recorded log streams; the event schema reference in the Lambda guide.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.model import limits
from firelet.model.function import FunctionVersion, InitializationType

Write = Callable[[int, str], None]

_NAME = re.compile(r"[\w.:$-]+")

# Levels at which the JSON format reports the platform's events, by type.
_LEVELS = {"DEBUG": 0, "INFO": 1, "WARN": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one invocation used. Durations in ms; ``init_ms`` (in a clone
    ``restore_ms``) only for the first one."""

    duration_ms: float
    memory_bytes: int
    init_ms: float | None = None
    restore_ms: float | None = None
    status: str = "success"  # success, timeout, error
    error_type: str | None = None


def runtime_version_arn(version: FunctionVersion) -> str:
    """Stable for one runtime identifier, in the form of AWS's."""
    digest = hashlib.sha256(f"firelet:{version.runtime}".encode()).hexdigest()
    return f"arn:aws:lambda:{version.region}::runtime:{digest}"


def format_iso_ms(epoch_s: float) -> str:
    """2026-11-23T07:00:00.000Z."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))
    return f"{whole}.{int(epoch_s * 1000) % 1000:03d}Z"


def billed_ms(measured: Measured) -> int:
    """Duration plus INIT, rounded up to whole milliseconds (since August 2025)."""
    return max(1, math.ceil(measured.duration_ms + (measured.init_ms or 0.0)))


def _one_word(error_type: str) -> str:
    """A type that the function chose must not look like a line of ours."""
    return error_type if _NAME.fullmatch(error_type) else "Function.Unknown"


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
        self._is_json = version.logging.log_format == "JSON"
        self._level = _LEVELS.get(version.logging.system_log_level or "INFO", 1)

    def init_start(self) -> None:
        self._begin("init", "INIT_START", "platform.initStart")

    def init_report(
        self, duration_ms: float, phase: str, status: str, error_type: str | None = None
    ) -> None:
        """For an INIT that failed or timed out; a good one is told by REPORT, and here only if
        the environment is provisioned."""
        is_good = status == "success"
        if self._is_json:
            record: dict[str, Any] = {
                "initializationType": self._initialization.value,
                "phase": phase,
                "status": status,
            }
            if error_type is not None:
                record["errorType"] = error_type
            record["metrics"] = {"durationMs": round(duration_ms, 3)}
            self._record("INFO" if is_good else "WARN", "platform.initReport", record)
            return
        text = f"INIT_REPORT Init Duration: {duration_ms:.2f} ms\tPhase: {phase}"
        if not is_good:
            text += f"\tStatus: {status}"
        if error_type is not None:
            text += f"\tError Type: {error_type}"
        self._line(text + "\n")

    def restore_start(self) -> None:
        """A clone of a snapshot begins."""
        self._begin("restore", "RESTORE_START", "platform.restoreStart")

    def restore_report(self, duration_ms: float, status: str, error_type: str | None) -> None:
        """How the restore went."""
        if self._is_json:
            record: dict[str, Any] = {
                "initializationType": self._initialization.value,
                "phase": "restore",
                "status": status,
            }
            if error_type is not None:
                record["errorType"] = error_type
            is_good = status == "success"
            self._record("DEBUG" if is_good else "WARN", "platform.restoreRuntimeDone", record)
            record = {**record, "metrics": {"durationMs": round(duration_ms, 3)}}
            self._record("INFO" if is_good else "WARN", "platform.restoreReport", record)
            return
        text = f"RESTORE_REPORT Restore Duration: {duration_ms:.2f} ms"
        if status != "success":
            text += f"\tStatus: {status}"
        if error_type is not None:
            text += f"\tError Type: {error_type}"
        self._line(text + "\n")

    def start(self, request_id: str, now_s: float) -> None:
        if self._is_json:
            self._record(
                "INFO",
                "platform.start",
                {"requestId": request_id, "version": self._version.version},
            )
            return
        self._write(
            int(now_s * 1000), f"START RequestId: {request_id} Version: {self._version.version}\n"
        )

    def timed_out(self, request_id: str, timeout_s: float) -> None:
        if not self._is_json:
            self._line(
                f"{format_iso_ms(time.time())} {request_id} Task timed out after"
                f" {timeout_s:.2f} seconds\n\n"
            )

    def report(self, request_id: str, measured: Measured, now_s: float) -> None:
        """END and REPORT."""
        used_mib = min(self._version.memory_mib, math.ceil(measured.memory_bytes / limits.MIB))
        if self._is_json:
            self._json_report(request_id, measured, used_mib)
            return
        text = (
            f"REPORT RequestId: {request_id}\tDuration: {measured.duration_ms:.2f} ms\t"
            f"Billed Duration: {billed_ms(measured)} ms\t"
            f"Memory Size: {self._version.memory_mib} MB\t"
            f"Max Memory Used: {used_mib} MB\t"
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
            if measured.status == "error" and measured.error_type:
                text += f"\tError Type: {_one_word(measured.error_type)}"
        timestamp = int(now_s * 1000)
        self._write(timestamp, f"END RequestId: {request_id}\n")
        self._write(timestamp, text + "\n")

    def _begin(self, phase: str, word: str, kind: str) -> None:
        version = self._version
        name = (
            (version.runtime or "image").replace("python", "python:").replace("nodejs", "nodejs:")
        )
        arn = runtime_version_arn(version)
        if not self._is_json:
            self._line(f"{word} Runtime Version: {name}.firelet\tRuntime Version ARN: {arn}\n")
            return
        self._record(
            "INFO",
            kind,
            {
                "initializationType": self._initialization.value,
                "phase": phase,
                "runtimeVersion": f"{name}.firelet",
                "runtimeVersionArn": arn,
                "functionName": version.name,
                "functionVersion": version.version,
                "instanceId": self._instance_id,
                "instanceMaxMemory": version.memory_mib * limits.MIB,
            },
        )

    def _json_report(self, request_id: str, measured: Measured, used_mib: int) -> None:
        metrics: dict[str, Any] = {
            "durationMs": round(measured.duration_ms, 3),
            "billedDurationMs": billed_ms(measured),
            "memorySizeMB": self._version.memory_mib,
            "maxMemoryUsedMB": used_mib,
        }
        if measured.init_ms is not None:
            metrics["initDurationMs"] = round(measured.init_ms, 3)
        if measured.restore_ms is not None:
            metrics["restoreDurationMs"] = round(measured.restore_ms, 3)
            metrics["billedRestoreDurationMs"] = math.ceil(measured.restore_ms)
        outcome: dict[str, Any] = {"requestId": request_id, "status": measured.status}
        if measured.error_type and measured.status != "success":
            outcome["errorType"] = measured.error_type
        level = "DEBUG" if measured.status == "success" else "WARN"
        self._record(
            level,
            "platform.runtimeDone",
            {**outcome, "metrics": {"durationMs": round(measured.duration_ms, 3)}},
        )
        level = "INFO" if measured.status == "success" else "WARN"
        self._record(level, "platform.report", {**outcome, "metrics": metrics})

    def _record(self, level: str, kind: str, record: dict[str, Any]) -> None:
        if _LEVELS[level] < self._level:
            return
        now = time.time()
        document = {"time": format_iso_ms(now), "type": kind, "record": record}
        self._write(int(now * 1000), orjson.dumps(document).decode() + "\n")

    def _line(self, text: str) -> None:
        self._write(int(time.time() * 1000), text)
