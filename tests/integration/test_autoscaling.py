"""Provisioned concurrency that follows its load and its schedules, on a real platform."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

SLOW = """
import time
def handler(event, context):
    time.sleep(1)
"""
DIMENSION = "lambda:function:ProvisionedConcurrency"


class Target:
    """A function with the alias ``live``, whose provisioned concurrency scales."""

    def __init__(self, platform: Platform, deploy: Deployer) -> None:
        self.platform = platform
        self.name = deploy(SLOW)
        self.functions = platform.client("lambda")
        self.client = platform.client("application-autoscaling")
        self.functions.publish_version(FunctionName=self.name)
        self.functions.create_alias(FunctionName=self.name, Name="live", FunctionVersion="1")
        self.names = {
            "ServiceNamespace": "lambda",
            "ResourceId": f"function:{self.name}:live",
            "ScalableDimension": DIMENSION,
        }

    def register(self, minimum: int, maximum: int, **options: Any) -> Any:
        return self.client.register_scalable_target(
            MinCapacity=minimum, MaxCapacity=maximum, **self.names, **options
        )

    def track(self, value: float) -> Any:
        metric = {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}
        return self.client.put_scaling_policy(
            PolicyName="follow",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": value,
                "PredefinedMetricSpecification": metric,
            },
            **self.names,
        )

    def capacity(self) -> int:
        """What is asked for now."""
        try:
            found = self.functions.get_provisioned_concurrency_config(
                FunctionName=self.name, Qualifier="live"
            )
        except self.functions.exceptions.ProvisionedConcurrencyConfigNotFoundException:
            return 0
        return int(found["RequestedProvisionedConcurrentExecutions"])

    def activities(self) -> list[Any]:
        found = self.client.describe_scaling_activities(ServiceNamespace="lambda")
        return [
            a for a in found["ScalingActivities"] if a["ResourceId"] == self.names["ResourceId"]
        ]

    def load(self, clients: int, until: Callable[[], bool]) -> None:
        """So many clients at once, until that is so."""
        is_over = threading.Event()

        def call() -> None:
            while not is_over.is_set():
                self.platform.invoke(self.name, {}, Qualifier="live")

        with ThreadPoolExecutor(clients) as pool:
            calls = [pool.submit(call) for _ in range(clients)]
            try:
                wait_until(until, "the load has had its effect", 60.0)
            finally:
                is_over.set()
            for made in calls:
                made.result()


@pytest.fixture
def target(make_platform: Callable[..., Platform]) -> Iterator[Target]:
    platform = make_platform(FIRELET_SCALE_IN_AFTER_S="2")
    deploy = Deployer(platform)
    yield Target(platform, deploy)
    deploy.close()


def test_the_floor_rises_with_the_load_and_falls_after_it(target: Target) -> None:
    target.register(1, 3)
    target.track(0.7)
    wait_until(lambda: target.capacity() == 1, "the smallest capacity is provisioned", 30.0)

    target.load(2, lambda: target.capacity() >= 2)

    wait_until(lambda: target.capacity() == 1, "the floor has fallen", 60.0)

    def latest() -> str:
        return str(target.activities()[0]["Description"])

    # An activity is told when it is over.
    wait_until(lambda: latest() == "Setting provisioned concurrency to 1.", "it is told")
    told = [activity["Description"] for activity in target.activities()]
    assert "Setting provisioned concurrency to 2." in told
    assert {activity["StatusCode"] for activity in target.activities()} == {"Successful"}


def test_a_scheduled_action_raises_the_floor(target: Target) -> None:
    target.register(0, 2)
    due = datetime.now(UTC) + timedelta(seconds=5)
    target.client.put_scheduled_action(
        ScheduledActionName="morning",
        Schedule=f"at({due:%Y-%m-%dT%H:%M:%S})",
        ScalableTargetAction={"MinCapacity": 2, "MaxCapacity": 4},
        **target.names,
    )
    wait_until(lambda: target.capacity() == 2, "the action has run", 30.0)
    [found] = target.client.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"]
    assert (found["MinCapacity"], found["MaxCapacity"]) == (2, 4)
    causes = {activity["Cause"] for activity in target.activities()}
    assert causes == {"scheduled action name morning was triggered"}


def test_what_was_registered_outlives_a_crash(target: Target) -> None:
    arn = target.register(1, 3, Tags={"team": "shop"})["ScalableTargetARN"]
    target.track(0.5)
    target.client.put_scheduled_action(
        ScheduledActionName="nightly",
        Schedule="cron(0 3 * * ? *)",
        Timezone="Europe/Berlin",
        ScalableTargetAction={"MinCapacity": 1},
        **target.names,
    )
    target.platform.kill()
    target.platform.start()
    client = target.platform.client("application-autoscaling")
    [policy] = client.describe_scaling_policies(ServiceNamespace="lambda")["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 0.5
    [action] = client.describe_scheduled_actions(ServiceNamespace="lambda")["ScheduledActions"]
    assert (action["Schedule"], action["Timezone"]) == ("cron(0 3 * * ? *)", "Europe/Berlin")
    assert client.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "shop"}


def test_bad_requests_are_refused_in_the_words_of_the_service(target: Target) -> None:
    with pytest.raises(ClientError, match="No scalable target registered for") as caught:
        target.track(0.7)
    assert caught.value.response["Error"]["Code"] == "ObjectNotFoundException"
    with pytest.raises(ClientError, match="Maximum capacity cannot be less") as caught:
        target.register(3, 2)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    target.register(1, 2)
    with pytest.raises(ClientError, match="StepScaling"):
        target.client.put_scaling_policy(PolicyName="steps", **target.names)
    with pytest.raises(ClientError, match="schedule expression"):
        target.client.put_scheduled_action(
            ScheduledActionName="x",
            Schedule="cron(0 3 * * * *)",
            ScalableTargetAction={"MinCapacity": 1},
            **target.names,
        )
    with pytest.raises(ClientError, match="Unsupported service namespace"):
        target.client.register_scalable_target(**{**target.names, "ResourceId": "function:x"})
    target.client.deregister_scalable_target(**target.names)
    assert (
        target.client.describe_scalable_targets(ServiceNamespace="lambda")["ScalableTargets"] == []
    )
