"""How callers of CloudWatch name metrics, times and pages.

What it is: parameters to values of ``observe``. Called by the CloudWatch operation families.
Source: CloudWatch API reference, PutMetricData, GetMetricData, GetMetricStatistics, ListMetrics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from firelet.frontend.operations import Call
from firelet.observe.metric_errors import InvalidMetricParameter, InvalidMetricToken
from firelet.observe.metric_tables import MINUTE_S, Dimensions, Metric

_HOUR_S = 3_600


def parse_metric(call: Call, given: Mapping[str, Any]) -> Metric:
    """The metric that ``Namespace``, ``MetricName`` and ``Dimensions`` name."""
    return Metric(
        call.account,
        call.region,
        given["Namespace"],
        given["MetricName"],
        parse_dimensions(given.get("Dimensions", ())),
    )


def parse_dimensions(given: Sequence[Mapping[str, str]]) -> Dimensions:
    return tuple(sorted((item["Name"], item["Value"]) for item in given))


def format_metric(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }


def check_period(period_s: int) -> int:
    """Seconds of a period, in whole minutes: shorter ones are for high-resolution metrics, which
    are kept by the minute here."""
    if period_s not in (1, 5, 10, 20, 30) and (period_s < 1 or period_s % MINUTE_S):
        raise InvalidMetricParameter(
            "The parameter Period must be a multiple of 60 or one of 1, 5, 10, 20, 30."
        )
    return max(period_s, MINUTE_S)


def find_window(start: datetime, end: datetime, period_s: int) -> tuple[int, int]:
    """Start and end in epoch seconds, the start rounded down to a period of at most an hour."""
    if start >= end:
        raise InvalidMetricParameter(
            "The parameter StartTime must be less than the parameter EndTime."
        )
    step = min(period_s, _HOUR_S)
    return int(start.timestamp() // step) * step, math.ceil(end.timestamp())


def format_moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def parse_token(token: str | None) -> int:
    """How many items earlier pages had."""
    if token is None:
        return 0
    if not token.isascii() or not token.isdigit():
        raise InvalidMetricToken("The specified nextToken is invalid.")
    return int(token)
