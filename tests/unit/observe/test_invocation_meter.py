"""The meter: what invocations come to, under the dimensions that AWS documents."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.model.invocation import Outcome, Settled
from firelet.observe.invocation_meter import UTILIZATION, InvocationMeter, Row, Share
from firelet.observe.metric_summary import Summary
from firelet.observe.metric_tables import Series
from unit.versions import make_invocation, make_version

VERSION = make_version(version="3")
KEY = (VERSION.account, VERSION.region, VERSION.name)
NAME = VERSION.name
LIVE = f"{VERSION.unqualified_arn}:live"


class Sink:
    """What was recorded, by metric and the values of its dimensions."""

    def __init__(self) -> None:
        self.summaries: dict[tuple[str, ...], Summary] = {}

    def record(self, series: Series, summary: Summary) -> None:
        values = [value for _, value in series.metric.dimensions]
        self.summaries.setdefault((series.metric.name, *values), Summary()).merge(summary)

    def total(self, *name: str) -> float:
        return self.summaries[name].total

    def peak(self, *name: str) -> float:
        return self.summaries[name].maximum


class Metered:
    """A meter, emptied by hand."""

    def __init__(self) -> None:
        self.meter = InvocationMeter()

    def begin(self, arn: str = VERSION.unqualified_arn, is_reserved: bool = False) -> Row:
        invocation = make_invocation(VERSION)
        invocation.invoked_arn = arn
        row = self.meter.row(invocation, is_reserved)
        row.enter()
        return row

    def run(self, count: int = 1, error: str | None = None, **options: Any) -> None:
        for _ in range(count):
            self.begin(**options).leave(outcome(error))

    def drain(self, *shares: Share) -> Sink:
        sink = Sink()
        self.meter.look(sink, shares)
        for _ in self.meter.drain(sink):
            continue
        return sink


def outcome(error: str | None = None) -> Outcome:
    return Outcome(payload=b"", executed_version="3", function_error=error, duration_ms=20.0)


@pytest.fixture
def metered() -> Metered:
    return Metered()


def test_invocations_errors_and_durations_are_counted(metered: Metered) -> None:
    metered.run(3)
    metered.run(1, error="Unhandled")
    sink = metered.drain()
    for dimensions in ((), (NAME,), (NAME, NAME)):
        assert sink.total("Invocations", *dimensions) == 4
        assert sink.total("Errors", *dimensions) == 1
        assert sink.summaries["Errors", *dimensions].count == 4
        assert sink.total("Throttles", *dimensions) == 0
        assert sink.total("Duration", *dimensions) == 80


class TestExtensions:
    EARLY = Outcome(payload=b"", executed_version="3", duration_ms=5.0, is_settling=True)

    def test_a_duration_is_known_when_they_are_done(self, metered: Metered) -> None:
        row = metered.begin()
        row.leave(self.EARLY)
        sink = metered.drain()
        assert sink.total("Invocations", NAME) == 1
        assert sink.summaries["Errors", NAME].count == 1
        assert ("Duration", NAME) not in sink.summaries
        metered.drain()  # the row is kept meanwhile
        row.settle(Settled(duration_ms=80.0, extensions_ms=60.0))
        sink = metered.drain()
        for dimensions in ((), (NAME,), (NAME, NAME)):
            assert sink.total("Duration", *dimensions) == 80
            assert sink.total("PostRuntimeExtensionsDuration", *dimensions) == 60
        assert ("Invocations", NAME) not in sink.summaries
        assert metered.drain().summaries == {}

    def test_it_may_be_known_before_the_answer_is(self, metered: Metered) -> None:
        row = metered.begin()
        row.settle(Settled(duration_ms=80.0, extensions_ms=60.0))
        row.leave(self.EARLY)
        sink = metered.drain()
        assert (sink.total("Invocations", NAME), sink.total("Duration", NAME)) == (1, 80)
        metered.drain()
        assert metered.meter._rows == {}

    def test_without_any_there_is_no_such_metric(self, metered: Metered) -> None:
        metered.run()
        assert ("PostRuntimeExtensionsDuration", NAME) not in metered.drain().summaries


def test_an_alias_has_its_own_resource_and_tells_versions_apart(metered: Metered) -> None:
    metered.run(arn=LIVE)
    sink = metered.drain()
    assert sink.total("Invocations", NAME, f"{NAME}:live") == 1
    assert sink.total("Invocations", "3", NAME, f"{NAME}:live") == 1


def test_a_throttled_invocation_is_no_invocation_and_runs_beside_nobody(metered: Metered) -> None:
    running = metered.begin()
    metered.begin().refuse()
    running.leave(outcome())
    sink = metered.drain()
    assert sink.total("Throttles", NAME) == 1
    assert sink.total("Invocations", NAME) == 1
    assert sink.peak("ConcurrentExecutions", NAME) == 1


def test_a_platform_failure_is_not_counted(metered: Metered) -> None:
    metered.begin().leave(None)
    assert ("Invocations", NAME) not in metered.drain().summaries


def test_concurrency_is_the_peak_since_the_last_time(metered: Metered) -> None:
    rows = [metered.begin() for _ in range(3)]
    rows += [metered.begin(LIVE)]
    for row in rows[:2]:
        row.leave(outcome())
    sink = metered.drain()
    assert sink.peak("ConcurrentExecutions") == 4
    assert sink.peak("ConcurrentExecutions", NAME) == 4
    assert sink.peak("ConcurrentExecutions", NAME, NAME) == 3
    assert metered.drain().peak("ConcurrentExecutions", NAME) == 2
    for row in rows[2:]:
        row.leave(outcome())
    metered.drain()
    assert metered.drain().summaries == {}


def test_reserved_functions_are_not_among_the_unreserved(metered: Metered) -> None:
    metered.run(is_reserved=True)
    assert ("UnreservedConcurrentExecutions",) not in metered.drain().summaries
    metered.run()
    assert metered.drain().peak("UnreservedConcurrentExecutions") == 1


def test_what_is_beyond_the_provisioned_spills_over(metered: Metered) -> None:
    share = Share(KEY, "live", {"3": 2})
    metered.drain(share)
    rows = [metered.begin(LIVE) for _ in range(3)]
    for row in rows:
        row.leave(outcome())
    sink = metered.drain(share)
    resource = f"{NAME}:live"
    assert sink.total("ProvisionedConcurrencySpilloverInvocations", NAME, resource) == 1
    assert sink.total("ProvisionedConcurrencyInvocations", NAME, resource) == 2
    assert sink.peak("ProvisionedConcurrentExecutions", NAME, resource) == 2
    assert sink.peak(UTILIZATION, NAME, resource) == 1
    assert metered.meter.utilization == {(KEY, "live"): 1.0}


def test_what_is_provisioned_and_idle_has_no_utilization(metered: Metered) -> None:
    sink = metered.drain(Share(KEY, "live", {"3": 2}))
    assert sink.peak(UTILIZATION, NAME, f"{NAME}:live") == 0


def test_a_row_that_comes_back_is_counted_as_before(metered: Metered) -> None:
    for _ in range(3):
        metered.run()
        metered.begin().refuse()
        sink = metered.drain()
        assert sink.peak("ConcurrentExecutions", NAME) == 1
        metered.begin().refuse()
        metered.drain()
        metered.drain()


def test_asynchronous_events_are_noted_by_function_and_resource(metered: Metered) -> None:
    metered.meter.note(KEY, "live", "AsyncEventsReceived", 1)
    metered.meter.note(KEY, None, "AsyncEventsReceived", 1)
    sink = metered.drain()
    assert sink.total("AsyncEventsReceived", NAME) == 2
    assert sink.total("AsyncEventsReceived", NAME, f"{NAME}:live") == 1
    assert sink.total("AsyncEventsReceived", NAME, NAME) == 1
