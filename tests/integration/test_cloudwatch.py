"""Metrics of functions and of callers on a real platform, in every protocol that SDKs speak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cbor2
import pytest
from botocore.exceptions import ClientError

from extension_layers import CLIENT, ExtensionLayers
from running_platform import ACCOUNT, REGION, Deployer, Platform, clean_environment, wait_until

pytest_plugins = ("platform_fixtures",)

CODE = """
def handler(event, context):
    if event and event.get("fail"):
        raise ValueError("no")
    return 1
"""
AWS = Path(sys.executable).parent / "aws"


def window() -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(minutes=2)}


def dimensions(name: str, **others: str) -> list[dict[str, str]]:
    return [
        {"Name": key, "Value": value} for key, value in {"FunctionName": name, **others}.items()
    ]


def total(platform: Platform, metric: str, name: str, statistic: str = "Sum", **others: str) -> Any:
    """That statistic over the last hour; None when there is no value."""
    found = platform.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=dimensions(name, **others),
        Period=3_600,
        Statistics=[statistic],
        **window(),
    )
    values = [point[statistic] for point in found["Datapoints"]]
    if not values:
        return None
    return max(values) if statistic == "Maximum" else sum(values)


def test_invocations_become_metrics_within_seconds(
    platform: Platform, deploy: Callable[..., str]
) -> None:
    name = deploy(CODE)
    for _ in range(3):
        platform.invoke(name, {})
    assert platform.invoke(name, {"fail": True}).error == "Unhandled"

    wait_until(lambda: total(platform, "Invocations", name) == 4, "four invocations are counted")
    assert total(platform, "Errors", name) == 1
    assert total(platform, "Throttles", name) == 0
    assert total(platform, "ConcurrentExecutions", name, "Maximum") == 1
    assert total(platform, "Duration", name, "SampleCount") == 4
    assert 0 < total(platform, "Duration", name, "Maximum") < 20_000
    assert total(platform, "Invocations", name, Resource=name) == 4


@pytest.mark.parametrize("workers", [None, "2"], ids=["one process", "two workers"])
def test_what_extensions_take_after_the_answer_is_counted(
    make_platform: Callable[..., Platform], workers: str | None
) -> None:
    platform = make_platform(**({} if workers is None else {"FIRELET_WORKERS": workers}))
    slow = "\nidentifier = register('INVOKE')\nwhile next_event(identifier): time.sleep(0.2)\n"
    layers = ExtensionLayers(platform)
    name = Deployer(platform)(CODE, Layers=[layers(slow=CLIENT + slow)])
    platform.invoke(name, {})

    def took() -> Any:
        return total(platform, "PostRuntimeExtensionsDuration", name)

    wait_until(lambda: took() is not None, "what the extension took is counted")
    assert took() >= 100
    assert total(platform, "Duration", name) >= took()
    assert total(platform, "Duration", name, "SampleCount") == 1
    assert total(platform, "Invocations", name) == 1


def test_a_weighted_alias_tells_its_versions_apart(
    platform: Platform, deploy: Callable[..., str]
) -> None:
    name = deploy(CODE)
    client = platform.client("lambda")
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    platform.invoke(name, {}, Qualifier="live")
    resource = f"{name}:live"

    wait_until(
        lambda: total(platform, "Invocations", name, Resource=resource, ExecutedVersion="1") == 1,
        "the version is counted",
    )
    assert total(platform, "Invocations", name, Resource=resource) == 1


def test_throttled_and_asynchronous_invocations_are_counted(
    platform: Platform, deploy: Callable[..., str]
) -> None:
    name = deploy(CODE)
    client = platform.client("lambda")
    client.invoke(FunctionName=name, InvocationType="Event", Payload=b"{}")
    wait_until(lambda: total(platform, "Invocations", name) == 1, "the event was handled")
    client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    with pytest.raises(client.exceptions.TooManyRequestsException):
        platform.invoke(name, {})

    wait_until(lambda: total(platform, "Throttles", name) == 1, "the throttle is counted")
    assert total(platform, "Invocations", name) == 1
    assert total(platform, "AsyncEventsReceived", name) == 1
    assert total(platform, "AsyncEventAge", name, "SampleCount") == 1


def test_what_callers_put_can_be_queried_with_math(platform: Platform) -> None:
    cloudwatch = platform.client("cloudwatch")
    namespace = "Shop/Queried"
    cloudwatch.put_metric_data(
        Namespace=namespace,
        MetricData=[
            {"MetricName": "orders", "Values": [1.0, 3.0], "Counts": [1.0, 2.0]},
            {"MetricName": "failed", "Value": 2.0, "Unit": "Count"},
        ],
    )

    def stat(name: str, metric: str, statistic: str) -> dict[str, Any]:
        asked = {"Metric": {"Namespace": namespace, "MetricName": metric}}
        return {
            "Id": name,
            "MetricStat": {**asked, "Period": 300, "Stat": statistic},
            "ReturnData": name != "hidden",
        }

    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[
            {"Id": "share", "Expression": "100 * hidden / all"},
            stat("hidden", "failed", "Sum"),
            stat("all", "orders", "Sum"),
            stat("high", "orders", "p90"),
        ],
        **window(),
    )
    values = {result["Id"]: result["Values"] for result in answer["MetricDataResults"]}
    assert values["share"] == [pytest.approx(200 / 7)]
    assert values["all"] == [7.0]
    assert values["high"] == [pytest.approx(3.0, rel=0.01)]
    assert "hidden" not in values


def test_errors_carry_the_code_of_the_query_protocol_and_the_name_of_the_shape(
    platform: Platform,
) -> None:
    cloudwatch = platform.client("cloudwatch")
    with pytest.raises(ClientError) as caught:
        cloudwatch.put_metric_data(
            Namespace="Shop", MetricData=[{"MetricName": "x", "Value": 1.0, "Values": [2.0]}]
        )
    assert caught.value.response["Error"]["Code"] == "InvalidParameterCombination"
    with pytest.raises(cloudwatch.exceptions.InvalidParameterValueException):
        cloudwatch.put_metric_data(
            Namespace="AWS/Mine", MetricData=[{"MetricName": "x", "Value": 1.0}]
        )


def test_metrics_outlive_a_crash_once_they_are_acknowledged(
    make_platform: Callable[..., Platform],
) -> None:
    own_platform = make_platform()
    own_platform.client("cloudwatch").put_metric_data(
        Namespace="Shop", MetricData=[{"MetricName": "kept", "Value": 1.0}]
    )
    own_platform.kill()
    own_platform.start()
    listed = own_platform.client("cloudwatch").list_metrics(Namespace="Shop")
    assert [metric["MetricName"] for metric in listed["Metrics"]] == ["kept"]


@pytest.fixture
def put(platform: Platform) -> str:
    """The namespace of one metric, ``seen``."""
    platform.client("cloudwatch").put_metric_data(
        Namespace="Shop/Wire", MetricData=[{"MetricName": "seen", "Value": 1.0}]
    )
    return "Shop/Wire"


def post(platform: Platform, path: str, headers: dict[str, str], body: bytes) -> bytes:
    request = urllib.request.Request(platform.url + path, body, headers, method="POST")
    with urllib.request.urlopen(request) as response:
        answer: bytes = response.read()
    return answer


def test_the_query_protocol_is_served(platform: Platform, put: str) -> None:
    form = {"Action": "ListMetrics", "Version": "2010-08-01", "Namespace": put}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = post(platform, "/", headers, urlencode(form).encode())
    assert b"<ListMetricsResult><Metrics><member>" in answer
    assert b"<MetricName>seen</MetricName>" in answer


def test_the_cbor_protocol_is_served(platform: Platform, put: str) -> None:
    headers = {"Smithy-Protocol": "rpc-v2-cbor", "Content-Type": "application/cbor"}
    asked = {
        "Namespace": put,
        "MetricName": "seen",
        "Period": 3_600,
        "Statistics": ["Maximum"],
        **window(),
    }
    path = "/service/GraniteServiceVersion20100801/operation/GetMetricStatistics"
    body = cbor2.dumps(asked, datetime_as_timestamp=True)
    answer = cbor2.loads(post(platform, path, headers, body))
    assert [point["Maximum"] for point in answer["Datapoints"]] == [1.0]
    assert isinstance(answer["Datapoints"][0]["Timestamp"], datetime)


def test_the_aws_command_reads_statistics(platform: Platform, put: str, tmp_path: Path) -> None:
    if not AWS.exists():
        pytest.skip(f"awscli is not installed beside {sys.executable}")
    now = datetime.now(UTC)
    command = [
        AWS, "cloudwatch", "get-metric-statistics", "--namespace", put, "--metric-name", "seen",
        "--period", "3600", "--statistics", "Maximum", "--extended-statistics", "p99",
        "--start-time", (now - timedelta(hours=1)).isoformat(),
        "--end-time", (now + timedelta(minutes=2)).isoformat(),
    ]  # fmt: skip
    variables = {
        **clean_environment(),
        "AWS_ENDPOINT_URL": platform.url,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": REGION,
        "HOME": os.fspath(tmp_path),
    }
    told = subprocess.run(command, env=variables, capture_output=True, check=True)
    points = json.loads(told.stdout)["Datapoints"]
    assert [point["Maximum"] for point in points] == [1.0]
