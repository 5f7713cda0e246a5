"""What the platform has to tell of one environment, as events of the Telemetry API.

The log has lines of its own (``report``): other formats, other levels, and it is there without
extensions too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.invocation import Invocation
from firelet.runtime import platform_records as records
from firelet.runtime.platform_records import Measured, Record, RuntimeDone
from firelet.runtime.telemetry import Telemetry
from firelet.runtime.telemetry_events import TelemetryEvent
from firelet.runtime.telemetry_subscription import Api, Subscription


class PlatformEvents:
    """Emits them to ``telemetry``. Times are in seconds of the epoch."""

    def __init__(
        self,
        telemetry: Telemetry,
        version: FunctionVersion,
        initialization: InitializationType,
        instance_id: str,
    ) -> None:
        self._telemetry = telemetry
        self._version = version
        self._initialization = initialization
        self._instance_id = instance_id

    def init_start(self, phase: str, began_s: float) -> None:
        record = records.begin_record(self._version, self._initialization, phase, self._instance_id)
        self._emit(_named("Start", phase), record, began_s)

    def init_runtime_done(self, phase: str, status: str, error_type: str | None) -> None:
        record = records.init_record(self._initialization, phase, status, error_type)
        self._emit(_named("RuntimeDone", phase), record)

    def init_report(
        self, phase: str, status: str, error_type: str | None, duration_ms: float
    ) -> None:
        record = records.init_record(self._initialization, phase, status, error_type, duration_ms)
        self._emit(_named("Report", phase), record)

    def start(self, invocation: Invocation, now_s: float) -> None:
        record = records.start_record(invocation.request_id, self._version, invocation.tenant_id)
        self._emit("platform.start", _traced(record, invocation), now_s)

    def runtime_done(self, invocation: Invocation, done: RuntimeDone) -> None:
        record = records.runtime_done_record(invocation.request_id, done, invocation.tenant_id)
        self._emit("platform.runtimeDone", _traced(record, invocation))

    def report(self, invocation: Invocation, measured: Measured, spans: Sequence[Record]) -> None:
        record = records.report_record(
            invocation.request_id, measured, self._version, invocation.tenant_id, spans
        )
        self._emit("platform.report", _traced(record, invocation))

    def extension(
        self, name: str, state: str, events: Sequence[str], error_type: str | None
    ) -> None:
        record = records.extension_record(name, state, events, error_type)
        self._emit("platform.extension", record)

    def subscription(self, subscription: Subscription) -> None:
        record = records.subscription_record(subscription.extension, subscription.types)
        is_logs = subscription.api is Api.LOGS
        kind = "logsSubscription" if is_logs else "telemetrySubscription"
        self._emit(f"platform.{kind}", record)

    def fault(self, request_id: str, message: str, error_type: str) -> None:
        """The environment has failed (the Logs API alone knows this event)."""
        self._telemetry.emit(
            TelemetryEvent(
                time.time(),
                "platform.fault",
                f"RequestId: {request_id} Error: {message}\n{error_type}",
            )
        )

    def _emit(self, kind: str, record: Record, time_s: float | None = None) -> None:
        now = time.time() if time_s is None else time_s
        self._telemetry.emit(TelemetryEvent(now, kind, record))


def _named(what: str, phase: str) -> str:
    """A clone of a snapshot has a restore instead of an INIT."""
    return f"platform.{'restore' if phase == 'restore' else 'init'}{what}"


def _traced(record: Record, invocation: Invocation) -> Record:
    if invocation.trace_id:
        record["tracing"] = records.tracing(invocation.trace_id)
    return record
