"""The meter of invocations: the metrics of namespace AWS/Lambda, counted where they happen.

What it is: counters in memory, one row for each way in which a function is invoked; entering and
leaving a row is all that the path of an invocation pays. Every few seconds the rows are emptied
into the metric store, under the dimensions that AWS documents. What it is not: a store, a clock or
a timer. Used in the event loop only.

Source: Lambda guide, "Types of metrics for Lambda functions" (names, units, dimensions).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from firelet.model.arn import LATEST
from firelet.model.function import FunctionKey
from firelet.model.invocation import Invocation, Outcome, Settled
from firelet.observe.metric_summary import Summary
from firelet.observe.metric_tables import Dimensions, Metric, Series

NAMESPACE = "AWS/Lambda"
UTILIZATION = "ProvisionedConcurrencyUtilization"
_EXTENSIONS = "PostRuntimeExtensionsDuration"

_STEP = 25  # rows or gauges, about 1 ms
_OF_RESOURCE = 2  # the place of that gauge in a row

_UNITS = {
    "Duration": "Milliseconds",
    _EXTENSIONS: "Milliseconds",
    "AsyncEventAge": "Milliseconds",
    UTILIZATION: "None",
}


class MetricSink(Protocol):
    """Where the rows are emptied into."""

    def record(self, series: Series, summary: Summary) -> None:
        """Adds to the current minute; never blocks."""


@dataclass(frozen=True, slots=True)
class Share:
    """Provisioned concurrency of a version or alias, divided among ``versions``."""

    key: FunctionKey
    qualifier: str
    versions: Mapping[str, int]


@dataclass(slots=True, eq=False)
class _Gauge:
    """What runs at once. ``peak`` is looked at when something ends and when the row is emptied,
    never when it begins: an invocation that is throttled at once has not run."""

    running: int = 0
    peak: int = 0
    provided: int = 0  # of a version: its provisioned concurrency

    def take(self) -> int:
        """The peak since the last time."""
        peak, self.peak = max(self.peak, self.running), 0
        return peak


@dataclass(slots=True, eq=False)
class Row:
    """One version of a function, invoked by one ARN. ``gauges`` are those of the account, the
    function, the resource, perhaps the unreserved rest of the account, and the version."""

    key: FunctionKey
    resource: str
    executed: str | None
    gauges: tuple[_Gauge, ...]
    durations_ms: list[float] = field(default_factory=list)
    extensions_ms: list[float] = field(default_factory=list)
    invocations: int = 0
    settling: int = 0  # how many have their answer, and extensions that run on
    errors: int = 0
    throttles: int = 0
    within: int = 0  # of what is provisioned
    beyond: int = 0

    def enter(self) -> None:
        """An invocation has come; ``leave`` or ``refuse`` follows in any case."""
        for gauge in self.gauges:
            gauge.running += 1

    def leave(self, outcome: Outcome | None) -> None:
        """It has run; None if it came to nothing, which AWS does not count."""
        for gauge in self.gauges:
            if gauge.running > gauge.peak:
                gauge.peak = gauge.running
            gauge.running -= 1
        if outcome is None:
            return
        self.invocations += 1
        if outcome.is_settling:
            self.settling += 1
        else:
            self.durations_ms.append(outcome.duration_ms)
        if outcome.function_error is not None:
            self.errors += 1
        # The loop has ended with the gauge of the version.
        if gauge.provided:
            if gauge.running < gauge.provided:
                self.within += 1
            else:
                self.beyond += 1

    def settle(self, settled: Settled) -> None:
        """The extensions of one are done; it may be before ``leave``. Source: Lambda guide,
        "Invoke phase": the duration is that of the runtime and of all extensions, and is not known
        before they have finished."""
        self.settling -= 1
        self.durations_ms.append(settled.duration_ms)
        self.extensions_ms.append(settled.extensions_ms)

    def refuse(self) -> None:
        """It was throttled."""
        for gauge in self.gauges:
            gauge.running -= 1
        self.throttles += 1

    def take(self) -> tuple[dict[str, int], dict[str, Summary]]:
        """Counts and durations since the last time; what is not there has not happened."""
        durations = {"Duration": self.durations_ms, _EXTENSIONS: self.extensions_ms}
        self.durations_ms, self.extensions_ms = [], []
        counts = {
            "Invocations": self.invocations,
            "ProvisionedConcurrencyInvocations": self.within,
            "ProvisionedConcurrencySpilloverInvocations": self.beyond,
        }
        counts = {name: count for name, count in counts.items() if count}
        if self.invocations or self.throttles:
            # AWS says "no errors" and "no throttles" for each invocation that had none.
            counts |= {"Errors": self.errors, "Throttles": self.throttles}
        self.errors = self.throttles = self.within = self.beyond = self.invocations = 0
        return counts, {name: _summed(values) for name, values in durations.items() if values}

    def dimensions(self) -> list[Dimensions]:
        """Each combination under which AWS shows the values of this row."""
        name = ("FunctionName", self.key[2])
        combinations: list[Dimensions] = [(), (name,), (name, ("Resource", self.resource))]
        if self.executed is not None:
            combinations.append(
                (("ExecutedVersion", self.executed), name, ("Resource", self.resource))
            )
        return combinations


class InvocationMeter:
    """``row`` is on the path of every invocation; ``look`` and ``drain`` are called by a task."""

    def __init__(self) -> None:
        self.utilization: dict[tuple[FunctionKey, str], float] = {}
        self._rows: dict[tuple[str, str, bool], Row] = {}
        self._gauges: dict[tuple[str, ...], _Gauge] = {}
        self._provided: dict[tuple[FunctionKey, str], int] = {}
        self._noted: dict[tuple[Metric, str], Summary] = {}

    def row(self, invocation: Invocation, is_reserved: bool) -> Row:
        """Where an invocation is counted."""
        version = invocation.function
        found = self._rows.get((invocation.invoked_arn, version.version, is_reserved))
        return found or self._open(invocation, is_reserved)

    def note(self, key: FunctionKey, qualifier: str | None, name: str, value: float) -> None:
        """One value of a metric that is not a matter of running: of asynchronous events."""
        account, region, function = key
        resource = function if qualifier in (None, LATEST) else f"{function}:{qualifier}"
        of_function = ("FunctionName", function)
        for dimensions in ((of_function,), (of_function, ("Resource", resource))):
            metric = Metric(account, region, NAMESPACE, name, dimensions)
            unit = _UNITS.get(name, "Count")
            self._noted.setdefault((metric, unit), Summary()).add(value)

    def look(self, sink: MetricSink, shares: Iterable[Share]) -> None:
        """Measures how much is used of what is provisioned, which is ``shares`` from now on."""
        shares = list(shares)
        provided: dict[tuple[FunctionKey, str], int] = {}
        for share in shares:
            for version, count in share.versions.items():
                place = (share.key, version)
                provided[place] = provided.get(place, 0) + count
        peaks = {}
        for key, version in self._provided.keys() | provided.keys():
            gauge = self._gauges.get(("", *key, version))
            if gauge is not None:
                gauge.provided = provided.get((key, version), 0)
                peaks[key, version] = gauge.take()
        self._provided = provided
        self.utilization = {}
        for share in shares:
            self._drain_share(sink, share, peaks)

    def drain(self, sink: MetricSink) -> Iterator[None]:
        """Empties everything else into ``sink``, some at a time: between two steps others may
        have their turn."""
        noted, self._noted = self._noted, {}
        for (metric, unit), summary in noted.items():
            sink.record(Series(metric, unit), summary)
        for number, of_row in enumerate(list(self._rows)):
            self._drain_row(sink, of_row)
            if number % _STEP == _STEP - 1:
                yield
        for number, (name, gauge) in enumerate(list(self._gauges.items())):
            if name[0] and (peak := gauge.take()):
                sink.record(_of_gauge(name), _single(peak))
            if number % _STEP == _STEP - 1:
                yield
        # In one go: a row that is opened meanwhile may take up a gauge that had none.
        used = {gauge for row in self._rows.values() for gauge in row.gauges}
        self._gauges = {name: gauge for name, gauge in self._gauges.items() if gauge in used}
        yield

    def _open(self, invocation: Invocation, is_reserved: bool) -> Row:
        version = invocation.function
        world = (version.account, version.region)
        key: FunctionKey = (*world, version.name)
        qualifier = invocation.invoked_arn.partition(f":function:{version.name}")[2][1:]
        is_alias = bool(qualifier) and qualifier != LATEST and not qualifier.isdigit()
        resource = f"{version.name}:{qualifier}" if qualifier else version.name
        names = [
            ("ConcurrentExecutions", *world),
            ("ConcurrentExecutions", *world, version.name),
            ("ConcurrentExecutions", *world, version.name, resource),
        ]
        if not is_reserved:
            names.append(("UnreservedConcurrentExecutions", *world))
        names.append(("", *key, version.version))
        of_version = self._gauges.setdefault(names[-1], _Gauge())
        of_version.provided = self._provided.get((key, version.version), 0)
        row = self._rows[invocation.invoked_arn, version.version, is_reserved] = Row(
            key,
            resource,
            version.version if is_alias else None,
            tuple(self._gauges.setdefault(name, _Gauge()) for name in names),
        )
        return row

    def _drain_row(self, sink: MetricSink, name: tuple[str, str, bool]) -> None:
        row = self._rows[name]
        counts, durations = row.take()
        samples = max(counts.get("Invocations", 0), 1.0)
        for dimensions in row.dimensions():
            for metric, count in counts.items():
                summary = _counted(count, samples)
                sink.record(_series(row.key, metric, dimensions), summary)
            for metric, summary in durations.items():
                sink.record(_series(row.key, metric, dimensions), summary)
        if not (counts or durations or row.settling > 0 or row.gauges[_OF_RESOURCE].running):
            del self._rows[name]

    def _drain_share(
        self, sink: MetricSink, share: Share, peaks: Mapping[tuple[FunctionKey, str], int]
    ) -> None:
        used = provided = 0
        for version, count in share.versions.items():
            used += min(count, peaks.get((share.key, version), 0))
            provided += count
        if not provided:
            return
        self.utilization[share.key, share.qualifier] = used / provided
        function = ("FunctionName", share.key[2])
        dimensions = (function, ("Resource", f"{share.key[2]}:{share.qualifier}"))
        for metric, value in (
            ("ProvisionedConcurrentExecutions", float(used)),
            (UTILIZATION, used / provided),
        ):
            sink.record(_series(share.key, metric, dimensions), _single(value))


def _series(key: FunctionKey, name: str, dimensions: Dimensions) -> Series:
    return Series(Metric(key[0], key[1], NAMESPACE, name, dimensions), _UNITS.get(name, "Count"))


def _of_gauge(name: tuple[str, ...]) -> Series:
    metric, account, region, *rest = name
    dimensions = tuple(zip(("FunctionName", "Resource"), rest, strict=False))
    return Series(Metric(account, region, NAMESPACE, metric, dimensions), "Count")


def _single(value: float) -> Summary:
    summary = Summary()
    summary.add(value)
    return summary


def _summed(values: Iterable[float]) -> Summary:
    summary = Summary()
    for value in values:
        summary.add(value)
    return summary


def _counted(count: int, samples: float) -> Summary:
    """``count`` ones among so many samples, the rest zeros: what AWS records per invocation."""
    summary = Summary()
    if count:
        summary.add(1.0, count)
    if samples > count:
        summary.add(0.0, samples - count)
    return summary
