"""The CloudWatch API as far as metrics go: put them, list them, read their statistics.

What it is: operations over ``observe.metrics``. What it is not: alarms, dashboards, or queries in
SQL.
Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from firelet.frontend.cloudwatch_data import MetricDataOperation
from firelet.frontend.cloudwatch_names import (
    check_period,
    find_window,
    format_metric,
    format_moment,
    parse_metric,
    parse_token,
)
from firelet.frontend.operations import Call, Operations
from firelet.observe.metric_errors import (
    InvalidMetricCombination,
    InvalidMetricParameter,
    MissingMetricParameter,
)
from firelet.observe.metric_summary import Summary, is_percentile
from firelet.observe.metric_tables import Metric, Series
from firelet.observe.metrics import MetricStore

Output = Mapping[str, Any]

PAGE = 500  # source: API reference of ListMetrics
DATAPOINTS_MAX = 1_440  # source: API reference of GetMetricStatistics
DATA_MAX = 1_000  # source: API reference of PutMetricData
LISTED_S = 14 * 86_400  # source: API reference of ListMetrics, two weeks
RECENT_S = 3 * 3_600  # source: the same, RecentlyActive
_VALUE_MAX = 2.0**360  # source: API reference of MetricDatum
_PAST_S, _FUTURE_S = 14 * 86_400, 2 * 3_600  # source: API reference of MetricDatum, Timestamp


class CloudWatchOperations:
    """All of the CloudWatch API that firelet serves."""

    def __init__(self, metrics: MetricStore, clock: Callable[[], float] = time.time) -> None:
        self._metrics = metrics
        self._clock = clock
        self._data = MetricDataOperation(metrics)

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("PutMetricData", self.put_metric_data),
            ("GetMetricStatistics", self.get_metric_statistics),
            ("GetMetricData", self._data.get_metric_data),
            ("ListMetrics", self.list_metrics),
        ):
            operations.add("cloudwatch", name, handler)

    async def put_metric_data(self, call: Call) -> None:
        params = call.params
        data = list(params.get("MetricData", ()))
        for entity in params.get("EntityMetricData", ()):
            data += entity.get("MetricData", ())
        if not data:
            raise MissingMetricParameter("The parameter MetricData is required.")
        if len(data) > DATA_MAX:
            raise InvalidMetricParameter(
                f"The collection MetricData must not have a size greater than {DATA_MAX}."
            )
        if params["Namespace"].startswith("AWS/"):
            raise InvalidMetricParameter(
                'The value AWS/ for parameter Namespace is invalid. It must not start with "AWS/".'
            )
        # All are understood before any is kept.
        entries = [self._parse_datum(call, number, datum) for number, datum in enumerate(data, 1)]
        for series, summary, at_s in entries:
            self._metrics.record(series, summary, at_s)
        await self._metrics.flush()

    def _parse_datum(
        self, call: Call, number: int, datum: Mapping[str, Any]
    ) -> tuple[Series, Summary, float]:
        where = f"MetricData.member.{number}"
        metric = parse_metric(call, {"Namespace": call.params["Namespace"], **datum})
        now = self._clock()
        at_s = datum["Timestamp"].timestamp() if "Timestamp" in datum else now
        if not now - _PAST_S <= at_s <= now + _FUTURE_S:
            raise InvalidMetricParameter(
                f"The parameter {where}.Timestamp must specify a time within the past two weeks"
                " and no more than two hours in the future."
            )
        return Series(metric, datum.get("Unit", "None")), _parse_values(where, datum), at_s

    async def get_metric_statistics(self, call: Call) -> Output:
        params = call.params
        plain = params.get("Statistics", ())
        percentiles = params.get("ExtendedStatistics", ())
        if not plain and not percentiles:
            raise MissingMetricParameter(
                "At least one of the parameters Statistics and ExtendedStatistics must be"
                " specified."
            )
        for name in percentiles:
            if not is_percentile(name):
                raise InvalidMetricParameter(
                    f"The value {name} for parameter ExtendedStatistics.member.1 is not supported."
                )
        period_s = check_period(params["Period"])
        start_s, end_s = find_window(params["StartTime"], params["EndTime"], period_s)
        asked = math.ceil((end_s - start_s) / period_s)
        if asked > DATAPOINTS_MAX:
            raise InvalidMetricCombination(
                f"You have requested up to {asked} datapoints, which exceeds the limit of"
                f" {DATAPOINTS_MAX}. You may reduce the datapoints requested by increasing Period,"
                " or decreasing the time range."
            )
        metric = parse_metric(call, params)
        periods = await self._metrics.periods(metric, start_s, end_s, period_s, params.get("Unit"))
        points = []
        for period in periods:
            point: dict[str, Any] = {
                "Timestamp": format_moment(period.start_s),
                "Unit": period.unit,
            }
            point |= {name: period.summary.statistic(name) for name in plain}
            extended = {name: period.summary.statistic(name) for name in percentiles}
            told = {name: value for name, value in extended.items() if value is not None}
            if told:
                point["ExtendedStatistics"] = told
            points.append(point)
        return {"Label": metric.name, "Datapoints": points}

    async def list_metrics(self, call: Call) -> Output:
        params = call.params
        within_s = RECENT_S if "RecentlyActive" in params else LISTED_S
        skipped = parse_token(params.get("NextToken"))
        known = await self._metrics.metrics(call.account, call.region, within_s)
        found = list(_matching(known, params))
        output: dict[str, Any] = {
            "Metrics": [format_metric(metric) for metric in found[skipped : skipped + PAGE]]
        }
        if len(found) > skipped + PAGE:
            output["NextToken"] = str(skipped + PAGE)
        return output


def _matching(known: list[Metric], params: Mapping[str, Any]) -> Iterator[Metric]:
    namespace, name = params.get("Namespace"), params.get("MetricName")
    filters = [(item["Name"], item.get("Value")) for item in params.get("Dimensions", ())]
    for metric in known:
        if namespace not in (None, metric.namespace) or name not in (None, metric.name):
            continue
        has = dict(metric.dimensions)
        if all(key in has and value in (None, has[key]) for key, value in filters):
            yield metric


def _parse_values(where: str, datum: Mapping[str, Any]) -> Summary:
    """The one of three forms in which a datum gives its values."""
    forms = [name for name in ("Value", "StatisticValues", "Values") if name in datum]
    if not forms:
        raise MissingMetricParameter(
            f"At least one of the parameters {where}.Value, {where}.Values or"
            f" {where}.StatisticValues must be specified."
        )
    if len(forms) > 1:
        raise InvalidMetricCombination(
            f"The parameters {where}.{forms[0]} and {where}.{forms[1]} are mutually exclusive and"
            " you have specified both."
        )
    if "StatisticValues" in datum:
        given = datum["StatisticValues"]
        return Summary(
            _count(where, given["SampleCount"]),
            _finite(where, given["Sum"]),
            _finite(where, given["Minimum"]),
            _finite(where, given["Maximum"]),
        )
    values = datum.get("Values") or [datum["Value"]]
    counts = datum.get("Counts") or [1.0] * len(values)
    if len(counts) != len(values):
        raise InvalidMetricParameter(
            f"The parameters {where}.Values and {where}.Counts must be of the same size."
        )
    summary = Summary()
    for value, count in zip(values, counts, strict=True):
        summary.add(_finite(where, value), _count(where, count))
    return summary


def _finite(where: str, value: float) -> float:
    if not -_VALUE_MAX <= value <= _VALUE_MAX:
        raise InvalidMetricParameter(f"The value {value} for parameter {where}.Value is invalid.")
    return value


def _count(where: str, value: float) -> float:
    if not 0 < value <= _VALUE_MAX:
        raise InvalidMetricParameter(f"The value {value} for parameter {where}.Counts is invalid.")
    return value
