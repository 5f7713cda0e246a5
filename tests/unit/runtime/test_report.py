"""The platform's own log lines, character for character."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.function import FunctionVersion, InitializationType, LoggingConfig
from firelet.runtime.platform_records import RuntimeDone
from firelet.runtime.report import Measured, Reporter, billed_ms, format_iso_ms
from unit.versions import make_version

INSTANCE = "0123456789abcdef" * 2
NOW_S = 1_795_417_200.123  # 2026-11-23T07:00:00.123Z


class Log:
    """A reporter and what it wrote."""

    def __init__(self, **changes: Any) -> None:
        self.events: list[tuple[int, str]] = []
        self.version: FunctionVersion = make_version(**changes)
        self.reporter = Reporter(
            self.version, INSTANCE, lambda stamp, message: self.events.append((stamp, message))
        )

    @property
    def text(self) -> str:
        return "".join(message for _, message in self.events)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(message) for _, message in self.events]


def json_log(level: str | None = None, **changes: Any) -> Log:
    return Log(
        logging=LoggingConfig(
            log_format="JSON", log_group="/aws/lambda/hello", system_log_level=level
        ),
        **changes,
    )


def measured(**changes: Any) -> Measured:
    return Measured(**{"duration_ms": 1.231, "memory_bytes": 40 * 2**20 - 5, **changes})


def done(status: str = "success", error_type: str | None = None, **changes: Any) -> RuntimeDone:
    fields: dict[str, Any] = {"duration_ms": 1.2, "produced_bytes": 4, "spans": (), **changes}
    return RuntimeDone(status=status, error_type=error_type, **fields)


class TestText:
    @pytest.mark.parametrize(
        ("runtime", "name"),
        [
            ("python3.13", "python:3.13"),
            ("nodejs22.x", "nodejs:22.x"),
            ("provided.al2023", "provided.al2023"),
        ],
    )
    def test_init_start_names_the_runtime_and_its_version(self, runtime: str, name: str) -> None:
        log = Log(runtime=runtime)
        log.reporter.init_start()
        assert re.fullmatch(
            rf"INIT_START Runtime Version: {re.escape(name)}\.firelet\t"
            r"Runtime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}\n",
            log.text,
        )

    def test_start_names_the_request_and_the_version(self) -> None:
        log = Log(version="7")
        log.reporter.start("id-1", NOW_S)
        assert log.events == [(1_795_417_200_123, "START RequestId: id-1 Version: 7\n")]

    def test_end_and_report_follow_each_other_at_one_time(self) -> None:
        log = Log()
        log.reporter.report("id-1", measured(), NOW_S)
        assert log.events == [
            (1_795_417_200_123, "END RequestId: id-1\n"),
            (
                1_795_417_200_123,
                "REPORT RequestId: id-1\tDuration: 1.23 ms\tBilled Duration: 2 ms\t"
                "Memory Size: 128 MB\tMax Memory Used: 40 MB\t\n",
            ),
        ]

    def test_the_first_report_tells_and_bills_init(self) -> None:
        log = Log()
        log.reporter.report("id-1", measured(init_ms=148.1), NOW_S)
        assert log.events[1][1] == (
            "REPORT RequestId: id-1\tDuration: 1.23 ms\tBilled Duration: 150 ms\t"
            "Memory Size: 128 MB\tMax Memory Used: 40 MB\tInit Duration: 148.10 ms\t\n"
        )

    def test_a_timeout_is_a_status(self) -> None:
        log = Log()
        log.reporter.report(
            "id-1", measured(status="timeout", error_type="Sandbox.Timedout"), NOW_S
        )
        assert log.events[1][1].endswith("\tMax Memory Used: 40 MB\tStatus: timeout\n")

    def test_an_error_is_a_status_with_its_type(self) -> None:
        log = Log()
        log.reporter.report("id-1", measured(status="error", error_type="Runtime.ExitError"), NOW_S)
        assert log.events[1][1].endswith(
            "\tMax Memory Used: 40 MB\tStatus: error\tError Type: Runtime.ExitError\n"
        )

    def test_a_type_that_the_function_invented_cannot_forge_a_line(self) -> None:
        log = Log()
        log.reporter.report(
            "id-1", measured(status="error", error_type="E\nREPORT RequestId: x\tBilled"), NOW_S
        )
        assert log.events[1][1].count("\n") == 1
        assert log.events[1][1].count("RequestId") == 1

    def test_memory_is_never_told_above_the_limit(self) -> None:
        log = Log()
        log.reporter.report("id-1", measured(memory_bytes=129 * 2**20), NOW_S)
        assert "\tMax Memory Used: 128 MB\t" in log.text

    def test_a_timeout_has_a_line_of_its_own(self) -> None:
        log = Log()
        log.reporter.timed_out("id-1", 3)
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z id-1 Task timed out after 3\.00 seconds\n\n",
            log.text,
        )

    def test_a_failed_init_is_reported_with_its_phase(self) -> None:
        log = Log()
        log.reporter.init_report(10007.326, "init", "timeout", "Sandbox.Timedout")
        assert log.text == (
            "INIT_REPORT Init Duration: 10007.33 ms\tPhase: init\tStatus: timeout\n"
        )

    def test_a_good_init_is_reported_without_a_status(self) -> None:
        log = Log()
        log.reporter.init_report(166.03, "init", "success")
        assert log.text == "INIT_REPORT Init Duration: 166.03 ms\tPhase: init\n"


class TestJson:
    def test_a_provisioned_environment_is_called_so(self) -> None:
        log = json_log()
        reporter = Reporter(
            log.version,
            INSTANCE,
            lambda stamp, message: log.events.append((stamp, message)),
            InitializationType.PROVISIONED,
        )
        reporter.init_start()
        reporter.init_report(166.03, "init", "success")
        started, reported = (record["record"] for record in log.records)
        assert started["initializationType"] == "provisioned-concurrency"
        assert reported == {
            "initializationType": "provisioned-concurrency",
            "phase": "init",
            "status": "success",
            "metrics": {"durationMs": 166.03},
        }

    def test_every_record_has_a_time_a_type_and_ends_its_line(self) -> None:
        log = json_log("DEBUG")
        log.reporter.init_start()
        log.reporter.start("id-1", NOW_S)
        log.reporter.runtime_done("id-1", done())
        log.reporter.report("id-1", measured(), NOW_S)
        assert [record["type"] for record in log.records] == [
            "platform.initStart",
            "platform.start",
            "platform.runtimeDone",
            "platform.report",
        ]
        for (_, message), record in zip(log.events, log.records, strict=True):
            assert message.endswith("}\n")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
            assert list(record) == ["time", "type", "record"]

    def test_init_start_tells_the_environment(self) -> None:
        log = json_log()
        log.reporter.init_start()
        record = log.records[0]["record"]
        assert record["functionName"] == "hello"
        assert record["functionVersion"] == "$LATEST"
        assert record["instanceId"] == INSTANCE
        assert record["instanceMaxMemory"] == 128 * 2**20
        assert (record["initializationType"], record["phase"]) == ("on-demand", "init")

    def test_a_report_has_the_metrics_of_the_telemetry_api(self) -> None:
        log = json_log()
        log.reporter.report("id-1", measured(init_ms=148.1), NOW_S)
        assert log.records[0]["record"] == {
            "requestId": "id-1",
            "status": "success",
            "metrics": {
                "durationMs": 1.231,
                "billedDurationMs": 150,
                "memorySizeMB": 128,
                "maxMemoryUsedMB": 40,
                "initDurationMs": 148.1,
            },
        }

    def test_what_the_runtime_did_is_told_with_its_bytes_and_spans(self) -> None:
        log = json_log("DEBUG")
        span = {"name": "responseLatency", "start": "2026-11-23T07:00:00.000Z", "durationMs": 1.0}
        log.reporter.runtime_done("id-1", done(spans=(span,)))
        log.reporter.runtime_done("id-1", done("timeout", "Sandbox.Timedout", produced_bytes=0))
        assert [record["record"] for record in log.records] == [
            {
                "requestId": "id-1",
                "status": "success",
                "spans": [span],
                "metrics": {"durationMs": 1.2, "producedBytes": 4},
            },
            {
                "requestId": "id-1",
                "status": "timeout",
                "metrics": {"durationMs": 1.2, "producedBytes": 0},
            },
        ]

    def test_start_names_the_function_and_its_version(self) -> None:
        log = json_log(version="7")
        log.reporter.start("id-1", NOW_S)
        assert log.records[0]["record"] == {
            "requestId": "id-1",
            "functionArn": log.version.unqualified_arn,
            "version": "7",
        }

    def test_a_tenant_is_in_every_record_of_its_invocation(self) -> None:
        log = json_log("DEBUG")
        log.reporter.start("id-1", NOW_S, "blue")
        log.reporter.runtime_done("id-1", done(), "blue")
        log.reporter.report("id-1", measured(), NOW_S, "blue")
        assert [record["record"]["tenantId"] for record in log.records] == ["blue"] * 3

    def test_an_error_names_its_type_in_both_records(self) -> None:
        log = json_log()
        log.reporter.runtime_done("id-1", done("error", "Runtime.ExitError"))
        log.reporter.report("id-1", measured(status="error", error_type="Runtime.ExitError"), NOW_S)
        assert [record["type"] for record in log.records] == [
            "platform.runtimeDone",
            "platform.report",
        ]
        assert all(record["record"]["errorType"] == "Runtime.ExitError" for record in log.records)

    def test_a_timeout_has_no_line_of_its_own(self) -> None:
        log = json_log()
        log.reporter.timed_out("id-1", 3)
        assert log.events == []

    @pytest.mark.parametrize(
        ("level", "good", "bad"),
        [
            ("DEBUG", {"initStart", "start", "runtimeDone", "report"}, {"runtimeDone", "report"}),
            (None, {"initStart", "start", "report"}, {"runtimeDone", "report"}),
            ("INFO", {"initStart", "start", "report"}, {"runtimeDone", "report"}),
            ("WARN", set(), {"runtimeDone", "report", "initReport"}),
        ],
    )
    def test_the_system_level_filters_by_the_documented_map(
        self, level: str | None, good: set[str], bad: set[str]
    ) -> None:
        fine = json_log(level)
        fine.reporter.init_start()
        fine.reporter.start("id-1", NOW_S)
        fine.reporter.runtime_done("id-1", done())
        fine.reporter.report("id-1", measured(), NOW_S)
        assert {record["type"].removeprefix("platform.") for record in fine.records} == good
        failed = json_log(level)
        failed.reporter.runtime_done("id-1", done("timeout"))
        failed.reporter.report("id-1", measured(status="timeout"), NOW_S)
        failed.reporter.init_report(1.0, "init", "error", "Runtime.ExitError")
        assert {record["type"].removeprefix("platform.") for record in failed.records} >= bad


class TestBilling:
    @pytest.mark.parametrize(
        ("duration_ms", "init_ms", "billed"),
        [(0.01, None, 1), (1.0, None, 1), (1.01, None, 2), (1.23, 148.1, 150), (0.0, None, 1)],
    )
    def test_duration_and_init_are_rounded_up_together(
        self, duration_ms: float, init_ms: float | None, billed: int
    ) -> None:
        assert billed_ms(measured(duration_ms=duration_ms, init_ms=init_ms)) == billed

    @given(st.floats(0, 900_000), st.none() | st.floats(0, 10_000))
    def test_a_bill_is_less_than_a_millisecond_above_what_was_used(
        self, duration_ms: float, init_ms: float | None
    ) -> None:
        used = duration_ms + (init_ms or 0.0)
        billed = billed_ms(measured(duration_ms=duration_ms, init_ms=init_ms))
        assert used <= billed < max(used, 0.001) + 1


def test_times_are_written_with_milliseconds_in_utc() -> None:
    assert format_iso_ms(NOW_S) == "2026-11-23T07:00:00.123Z"


class TestRestore:
    def test_text(self) -> None:
        log = Log(runtime="python3.13")
        log.reporter.restore_start()
        log.reporter.restore_report(12.345, "success", None)
        log.reporter.restore_report(12.345, "error", "ValueError")
        start, good, bad = log.text.splitlines()
        assert start.startswith("RESTORE_START Runtime Version: python:3.13.firelet\t")
        assert good == "RESTORE_REPORT Restore Duration: 12.35 ms"
        assert (
            bad
            == "RESTORE_REPORT Restore Duration: 12.35 ms\tStatus: error\tError Type: ValueError"
        )

    def test_json(self) -> None:
        log = json_log("DEBUG")
        log.reporter.restore_start()
        log.reporter.restore_report(12.345, "success", None)
        kinds = [record["type"] for record in log.records]
        assert kinds == [
            "platform.restoreStart",
            "platform.restoreRuntimeDone",
            "platform.restoreReport",
        ]
        assert log.records[0]["record"]["phase"] == "restore"
        assert log.records[2]["record"]["metrics"] == {"durationMs": 12.345}

    def test_the_first_report_of_a_clone_has_the_restore(self) -> None:
        log = Log()
        log.reporter.report("id", measured(restore_ms=12.345), NOW_S)
        assert "Restore Duration: 12.35 ms\tBilled Restore Duration: 13 ms\t" in log.text
        document = json_log()
        document.reporter.report("id", measured(restore_ms=12.345), NOW_S)
        metrics = document.records[-1]["record"]["metrics"]
        assert (metrics["restoreDurationMs"], metrics["billedRestoreDurationMs"]) == (12.345, 13)


class TestExtensions:
    def test_text_lines(self) -> None:
        log = Log()
        log.reporter.extension("mine", "Ready", ["INVOKE", "SHUTDOWN"], None)
        log.reporter.extension("bad", "LaunchError", [], "UnknownError")
        log.reporter.subscription("TELEMETRY", "mine", ["platform", "function"])
        log.reporter.subscription("LOGS", "mine", ["extension"])
        log.reporter.failed("id-1", "exit status 1", "Extension.Crash")
        assert log.text.splitlines() == [
            "EXTENSION\tName: mine\tState: Ready\tEvents: [INVOKE,SHUTDOWN]",
            "EXTENSION\tName: bad\tState: LaunchError\tEvents: []\tError Type: UnknownError",
            "TELEMETRY\tName: mine\tState: Subscribed\tTypes: [Platform, Function]",
            "LOGS\tName: mine\tState: Subscribed\tTypes: [Extension]",
            "RequestId: id-1 Error: exit status 1",
            "Extension.Crash",
        ]

    def test_the_name_of_a_file_begins_no_line(self) -> None:
        log = Log()
        log.reporter.extension("a\nREPORT RequestId: x\tb", "LaunchError", [], "UnknownError")
        log.reporter.failed("id-1", "fork/exec /opt/extensions/a\nREPORT", "Extension.LaunchError")
        assert log.text.splitlines() == [
            "EXTENSION\tName: a?REPORT RequestId: x?b\tState: LaunchError\tEvents: []"
            "\tError Type: UnknownError",
            "RequestId: id-1 Error: fork/exec /opt/extensions/a?REPORT",
            "Extension.LaunchError",
        ]

    def test_json_records(self) -> None:
        log = json_log("DEBUG")
        log.reporter.extension("mine", "Ready", ["INVOKE"], None)
        log.reporter.subscription("TELEMETRY", "mine", ["platform"])
        log.reporter.subscription("LOGS", "mine", ["platform"])
        log.reporter.failed("id-1", "exit status 1", "Extension.Crash")  # its type is in the report
        log.reporter.runtime_done("id-1", done())
        log.reporter.report("id-1", measured(extension_ms=0.5), NOW_S)
        assert [record["type"] for record in log.records] == [
            "platform.extension",
            "platform.telemetrySubscription",
            "platform.logsSubscription",
            "platform.runtimeDone",
            "platform.report",
        ]
        assert log.records[0]["record"] == {
            "name": "mine",
            "state": "Ready",
            "events": ["INVOKE"],
        }
        assert log.records[1]["record"] == {
            "name": "mine",
            "state": "Subscribed",
            "types": ["platform"],
        }
