"""The CloudWatch operations, without HTTP: pages, periods, and what is refused."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from firelet.frontend.cloudwatch import PAGE, CloudWatchOperations
from firelet.frontend.operations import Operations
from firelet.model.errors import CallerError
from firelet.observe.metric_tables import METRIC_MIGRATIONS
from firelet.observe.metrics import MetricStore
from firelet.store.sqlite import Database
from registry_parts import make_call

NOW = datetime(2026, 11, 24, 10, 30, 30, tzinfo=UTC)


class Api:
    """CloudWatch at ``NOW``, with nothing in it."""

    def __init__(self, store: MetricStore) -> None:
        self._operations = Operations()
        CloudWatchOperations(store, NOW.timestamp).register(self._operations)

    async def call(self, operation: str, **params: Any) -> Any:
        handler = self._operations.find("cloudwatch", operation)
        assert handler is not None
        return await handler(make_call(operation, **params))

    async def put(self, *data: dict[str, Any]) -> None:
        named = [{"MetricName": "orders", **datum} for datum in data]
        await self.call("PutMetricData", Namespace="Shop", MetricData=named)

    async def sums(self, period_s: int = 60, **window: datetime) -> dict[str, float]:
        times = {"StartTime": NOW - timedelta(hours=1), "EndTime": NOW + timedelta(minutes=1)}
        answer = await self.call(
            "GetMetricStatistics",
            Namespace="Shop",
            MetricName="orders",
            Period=period_s,
            Statistics=["Sum"],
            **times | window,
        )
        return {f"{point['Timestamp']:%H:%M}": point["Sum"] for point in answer["Datapoints"]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    database = Database(tmp_path / "metrics.db", "metrics", METRIC_MIGRATIONS)
    store = MetricStore(database, clock=NOW.timestamp)
    yield Api(store)
    await store.close()


async def test_values_fall_into_the_minute_of_their_time(api: Api) -> None:
    await api.put({"Value": 1.0}, {"Value": 2.0, "Timestamp": NOW - timedelta(minutes=7)})
    assert await api.sums() == {"10:23": 2, "10:30": 1}
    assert await api.sums(300) == {"10:20": 2, "10:30": 1}


async def test_the_start_is_rounded_down_to_its_period(api: Api) -> None:
    await api.put({"Value": 1.0, "Timestamp": NOW - timedelta(minutes=29)})
    assert await api.sums(3_600, StartTime=NOW - timedelta(minutes=5)) == {"10:00": 1}


async def test_a_statistic_set_is_added_as_it_is(api: Api) -> None:
    given = {"SampleCount": 4.0, "Sum": 10.0, "Minimum": 1.0, "Maximum": 4.0}
    await api.put({"StatisticValues": given}, {"Value": 5.0})
    assert await api.sums() == {"10:30": 15}


@pytest.mark.parametrize(
    ("datum", "code"),
    [
        ({}, "MissingParameter"),
        ({"Value": math.nan}, "InvalidParameterValue"),
        ({"Value": math.inf}, "InvalidParameterValue"),
        ({"Value": 1.0, "Values": [1.0]}, "InvalidParameterCombination"),
        ({"Values": [1.0, 2.0], "Counts": [1.0]}, "InvalidParameterValue"),
        ({"Values": [1.0], "Counts": [0.0]}, "InvalidParameterValue"),
        ({"Value": 1.0, "Timestamp": NOW - timedelta(days=15)}, "InvalidParameterValue"),
        ({"Value": 1.0, "Timestamp": NOW + timedelta(hours=3)}, "InvalidParameterValue"),
    ],
)
async def test_a_bad_datum_is_refused_and_nothing_is_kept(
    api: Api, datum: dict[str, Any], code: str
) -> None:
    with pytest.raises(CallerError) as caught:
        await api.put({"Value": 1.0}, datum)
    assert caught.value.code == code
    assert await api.sums() == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Statistics": []}, "MissingParameter"),
        ({"ExtendedStatistics": ["p200"]}, "InvalidParameterValue"),
        ({"Period": 61}, "InvalidParameterValue"),
        ({"EndTime": NOW - timedelta(days=2)}, "InvalidParameterValue"),
        ({"StartTime": NOW - timedelta(days=10)}, "InvalidParameterCombination"),
    ],
)
async def test_a_bad_question_is_refused(api: Api, changes: dict[str, Any], code: str) -> None:
    asked = {
        "Namespace": "Shop",
        "MetricName": "orders",
        "Period": 60,
        "Statistics": ["Sum"],
        "StartTime": NOW - timedelta(hours=1),
        "EndTime": NOW,
    }
    with pytest.raises(CallerError) as caught:
        await api.call("GetMetricStatistics", **asked | changes)
    assert caught.value.code == code


async def test_metrics_are_listed_by_page_and_filter(api: Api) -> None:
    data = [
        {
            "MetricName": f"m{number:04}",
            "Value": 1.0,
            "Dimensions": [{"Name": "Till", "Value": str(number % 2)}],
        }
        for number in range(PAGE + 10)
    ]
    await api.call("PutMetricData", Namespace="Shop", MetricData=data)
    first = await api.call("ListMetrics", Namespace="Shop")
    second = await api.call("ListMetrics", Namespace="Shop", NextToken=first["NextToken"])
    names = [m["MetricName"] for m in [*first["Metrics"], *second["Metrics"]]]
    assert names == [datum["MetricName"] for datum in data]
    assert "NextToken" not in second
    odd = await api.call("ListMetrics", Dimensions=[{"Name": "Till", "Value": "1"}])
    assert len(odd["Metrics"]) == PAGE // 2 + 5
    assert (await api.call("ListMetrics", Namespace="Other"))["Metrics"] == []
    with pytest.raises(CallerError):
        await api.call("ListMetrics", NextToken="x")


async def test_data_come_in_pages_that_join(api: Api) -> None:
    await api.put(
        *({"Value": 1.0 + n, "Timestamp": NOW - timedelta(minutes=n)} for n in range(5)),
        *(
            {"MetricName": "failed", "Value": 9.0, "Timestamp": NOW - timedelta(minutes=n)}
            for n in range(3)
        ),
    )

    def query(name: str, metric: str) -> dict[str, Any]:
        asked = {"Namespace": "Shop", "MetricName": metric}
        return {"Id": name, "MetricStat": {"Metric": asked, "Period": 60, "Stat": "Sum"}}

    asked = {
        "MetricDataQueries": [query("a", "orders"), query("b", "failed")],
        "StartTime": NOW - timedelta(hours=1),
        "EndTime": NOW,
        "MaxDatapoints": 4,
    }
    joined: dict[str, list[float]] = {"a": [], "b": []}
    token: dict[str, str] = {}
    for _ in range(2):
        answer = await api.call("GetMetricData", **asked, **token)
        for result in answer["MetricDataResults"]:
            joined[result["Id"]] += result["Values"]
        token = {"NextToken": answer.get("NextToken", "")}
    assert joined == {"a": [1, 2, 3, 4, 5], "b": [9, 9, 9]}
    assert token == {"NextToken": ""}


@pytest.mark.parametrize(
    "queries",
    [
        [{"Id": "a"}],
        [{"Id": "a", "Expression": "b"}],
        [{"Id": "a", "Expression": "1"}, {"Id": "a", "Expression": "1"}],
    ],
)
async def test_bad_queries_are_refused(api: Api, queries: list[dict[str, Any]]) -> None:
    with pytest.raises(CallerError) as caught:
        await api.call("GetMetricData", MetricDataQueries=queries, StartTime=NOW, EndTime=NOW)
    assert caught.value.code == "ValidationError"
