"""GetMetricData: many metrics at once, and arithmetic over them.

What it is: the parsing of queries, their answers and paging. What it is not: reading
(``observe.metrics``) or the arithmetic itself (``observe.metric_math``).
Source: CloudWatch API reference, GetMetricData; MetricDataQuery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firelet.frontend.cloudwatch_names import (
    check_period,
    find_window,
    format_moment,
    parse_metric,
    parse_token,
)
from firelet.frontend.operations import Call
from firelet.observe.metric_errors import InvalidMetricParameter, MetricValidationError
from firelet.observe.metric_math import MathError, Values, evaluate
from firelet.observe.metric_summary import is_statistic
from firelet.observe.metrics import MetricStore

QUERIES_MAX = 500  # source: API reference
DATAPOINTS_MAX = 100_800  # source: API reference


class MetricDataOperation:
    """One operation; a class for its collaborator."""

    def __init__(self, metrics: MetricStore) -> None:
        self._metrics = metrics

    async def get_metric_data(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        queries = params["MetricDataQueries"]
        _check(queries)
        known: dict[str, Values] = {}
        for query in queries:
            if "MetricStat" in query:
                known[query["Id"]] = await self._read(call, query["MetricStat"])
        expressions = {q["Id"]: q["Expression"] for q in queries if "Expression" in q}
        try:
            for name in expressions:
                evaluate(name, expressions, known)
        except MathError as error:
            raise MetricValidationError(str(error)) from None
        wanted = [query for query in queries if query.get("ReturnData", True)]
        if not wanted:
            raise MetricValidationError("At least one query must have ReturnData set to true.")
        is_ascending = params.get("ScanBy") == "TimestampAscending"
        results = [_result(query, known[query["Id"]], is_ascending) for query in wanted]
        return _page(results, params)

    async def _read(self, call: Call, stat: Mapping[str, Any]) -> Values:
        statistic = stat["Stat"]
        if not is_statistic(statistic):
            raise InvalidMetricParameter(
                f"The value {statistic} for parameter MetricDataQueries.member.1.MetricStat.Stat"
                " is not supported."
            )
        period_s = check_period(stat["Period"])
        start_s, end_s = find_window(call.params["StartTime"], call.params["EndTime"], period_s)
        metric = parse_metric(call, stat["Metric"])
        periods = await self._metrics.periods(metric, start_s, end_s, period_s, stat.get("Unit"))
        values = {}
        for period in periods:
            value = period.summary.statistic(statistic)
            if value is not None:
                values[period.start_s] = value
        return values


def _check(queries: Sequence[Mapping[str, Any]]) -> None:
    if len(queries) > QUERIES_MAX:
        raise MetricValidationError(
            f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}."
        )
    names = [query["Id"] for query in queries]
    if len(set(names)) < len(names):
        raise MetricValidationError(
            "The values for parameter id in MetricDataQueries must be unique."
        )
    for query in queries:
        if ("MetricStat" in query) == ("Expression" in query):
            raise MetricValidationError(
                "Exactly one of the parameters MetricStat and Expression must be given in each"
                " query."
            )


def _result(query: Mapping[str, Any], values: Values, is_ascending: bool) -> dict[str, Any]:
    stat = query.get("MetricStat")
    label = query["Id"] if stat is None else stat["Metric"]["MetricName"]
    moments = sorted(values, reverse=not is_ascending)
    return {
        "Id": query["Id"],
        "Label": query.get("Label", label),
        "Timestamps": [format_moment(moment) for moment in moments],
        "Values": [values[moment] for moment in moments],
        "StatusCode": "Complete",
    }


def _page(results: list[dict[str, Any]], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """As many datapoints as one answer may have; the token counts those of earlier answers."""
    most = params.get("MaxDatapoints", DATAPOINTS_MAX)
    skipped, left = parse_token(params.get("NextToken")), most
    passed = skipped
    page = []
    is_more = False
    for result in results:
        values, moments = result["Values"], result["Timestamps"]
        start = min(passed, len(values))
        passed -= start
        end = min(start + left, len(values))
        left -= end - start
        if end < len(values):
            is_more = True
        if start and start == len(values):
            continue
        status = "Complete" if end == len(values) else "PartialData"
        page.append(
            result
            | {"Values": values[start:end], "Timestamps": moments[start:end], "StatusCode": status}
        )
    answer: dict[str, Any] = {"MetricDataResults": page}
    if is_more:
        answer["NextToken"] = str(skipped + most)
    return answer
