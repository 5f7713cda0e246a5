"""The records of the platform's events: the JSON log format and the Telemetry API share them.

Pure: values in, dictionaries out. Source:
docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firelet.model import limits
from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.runtimes import format_runtime_version_arn

Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one invocation used. Durations in ms; ``init_ms`` (in a clone ``restore_ms``) only for
    the first one. ``duration_ms`` includes ``extension_ms``, which extensions took after the
    runtime was done; None where there are none."""

    duration_ms: float
    memory_bytes: int
    init_ms: float | None = None
    restore_ms: float | None = None
    extension_ms: float | None = None
    status: str = "success"  # success, timeout, error
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeDone:
    """How the runtime's part of one invocation ended. ``produced_bytes`` is what the function
    itself has answered: nothing, when the platform made the answer."""

    status: str
    error_type: str | None
    duration_ms: float
    produced_bytes: int
    spans: tuple[Record, ...]


def billed_ms(measured: Measured) -> int:
    """Duration plus INIT, rounded up to whole milliseconds (since August 2025)."""
    return max(1, math.ceil(measured.duration_ms + (measured.init_ms or 0.0)))


def has_error_type(status: str) -> bool:
    """A timeout is one by its status, in AWS's logs."""
    return status not in ("success", "timeout")


def used_mib(version: FunctionVersion, memory_bytes: int) -> int:
    """The peak of the environment in whole MB; never more than it may have."""
    return min(version.memory_mib, math.ceil(memory_bytes / limits.MIB))


def format_iso_ms(epoch_s: float) -> str:
    """2026-11-23T07:00:00.000Z."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch_s))
    return f"{whole}.{int(epoch_s * 1000) % 1000:03d}Z"


def runtime_version_name(version: FunctionVersion) -> str:
    """``python:3.13.firelet``."""
    name = (version.runtime or "image").replace("python", "python:").replace("nodejs", "nodejs:")
    return f"{name}.firelet"


def runtime_version_arn(version: FunctionVersion) -> str:
    """The one of RuntimeVersionConfig; images have one of their own in logs alone."""
    return format_runtime_version_arn(version.region, version.runtime or "image")


def begin_record(
    version: FunctionVersion, initialization: InitializationType, phase: str, instance_id: str
) -> Record:
    """platform.initStart and platform.restoreStart."""
    return {
        "initializationType": initialization.value,
        "phase": phase,
        "runtimeVersion": runtime_version_name(version),
        "runtimeVersionArn": runtime_version_arn(version),
        "functionName": version.name,
        "functionVersion": version.version,
        "instanceId": instance_id,
        "instanceMaxMemory": version.memory_mib * limits.MIB,
    }


def init_record(
    initialization: InitializationType,
    phase: str,
    status: str,
    error_type: str | None = None,
    duration_ms: float | None = None,
) -> Record:
    """platform.initRuntimeDone and platform.initReport (with a duration), and those of restores."""
    record: Record = {
        "initializationType": initialization.value,
        "phase": phase,
        "status": status,
    }
    if error_type and has_error_type(status):
        record["errorType"] = error_type
    if duration_ms is not None:
        record["metrics"] = {"durationMs": round(duration_ms, 3)}
    return record


def start_record(request_id: str, version: FunctionVersion, tenant_id: str | None) -> Record:
    """platform.start."""
    record = {
        "requestId": request_id,
        "functionArn": version.unqualified_arn,
        "version": version.version,
    }
    return _of_tenant(record, tenant_id)


def runtime_done_record(request_id: str, done: RuntimeDone, tenant_id: str | None) -> Record:
    """platform.runtimeDone. After a timeout it has no spans."""
    record = _outcome(request_id, done.status, done.error_type)
    if done.spans:
        record["spans"] = list(done.spans)
    record["metrics"] = {
        "durationMs": round(done.duration_ms, 3),
        "producedBytes": done.produced_bytes,
    }
    return _of_tenant(record, tenant_id)


def report_record(
    request_id: str,
    measured: Measured,
    version: FunctionVersion,
    tenant_id: str | None,
    spans: Sequence[Record],
) -> Record:
    """platform.report; it has spans where there are extensions."""
    metrics: Record = {
        "durationMs": round(measured.duration_ms, 3),
        "billedDurationMs": billed_ms(measured),
        "memorySizeMB": version.memory_mib,
        "maxMemoryUsedMB": used_mib(version, measured.memory_bytes),
    }
    if measured.init_ms is not None:
        metrics["initDurationMs"] = round(measured.init_ms, 3)
    if measured.restore_ms is not None:
        metrics["restoreDurationMs"] = round(measured.restore_ms, 3)
        metrics["billedRestoreDurationMs"] = math.ceil(measured.restore_ms)
    record = _outcome(request_id, measured.status, measured.error_type)
    record["metrics"] = metrics
    if spans:
        record["spans"] = list(spans)
    return _of_tenant(record, tenant_id)


def tracing(trace_id: str) -> Record:
    """The member ``tracing`` of an event that belongs to a request."""
    return {"type": "X-Amzn-Trace-Id", "value": trace_id}


def span(name: str, start_s: float, duration_ms: float) -> Record:
    """``start_s`` is in seconds of the epoch."""
    return {
        "name": name,
        "start": format_iso_ms(start_s),
        "durationMs": round(max(0.0, duration_ms), 3),
    }


def extension_record(
    name: str, state: str, events: Sequence[str], error_type: str | None
) -> Record:
    """platform.extension."""
    record: Record = {"name": name, "state": state, "events": list(events)}
    if error_type is not None:
        record["errorType"] = error_type
    return record


def subscription_record(name: str, types: Sequence[str]) -> Record:
    """platform.telemetrySubscription and platform.logsSubscription."""
    return {"name": name, "state": "Subscribed", "types": list(types)}


def _of_tenant(record: Record, tenant_id: str | None) -> Record:
    """With the tenant for whom it was, if the function keeps its tenants apart. Source: AWS
    guide, "Monitoring tenant-isolated Lambda functions"."""
    if tenant_id is not None:
        record["tenantId"] = tenant_id
    return record


def _outcome(request_id: str, status: str, error_type: str | None) -> Record:
    outcome: Record = {"requestId": request_id, "status": status}
    if error_type and has_error_type(status):
        outcome["errorType"] = error_type
    return outcome
