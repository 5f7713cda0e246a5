"""What the scaler does to provisioned concurrency, look by look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.app.scaling import Scaler
from firelet.control.floor import FloorView
from firelet.control.registry import Registry
from firelet.control.scaling import Scaling, TargetName
from firelet.model.function import FunctionVersion
from firelet.observe.invocation_meter import InvocationMeter
from firelet.observe.metric_summary import Summary
from firelet.observe.metric_tables import METRIC_MIGRATIONS, Metric, Series
from firelet.observe.metrics import MetricStore
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from firelet.store.sqlite import Database
from registry_parts import ACCOUNT, KEY, REGION, FakeActivator, new_function, settle

NAME = TargetName(ACCOUNT, REGION, "greeter", "live")
PREDEFINED = {"PredefinedMetricType": "LambdaProvisionedConcurrencyUtilization"}


class Provider:
    """Everything is ready at once."""

    def __init__(self) -> None:
        self.count = 0

    def provide(self, version: FunctionVersion, count: int) -> None:
        self.count = count

    def provided(self, version: FunctionVersion) -> FloorView:
        return FloorView(self.count)


class World:
    """``greeter`` with the alias ``live`` as a scalable target; time goes by the look."""

    def __init__(self, registry: Registry, metrics: MetricStore) -> None:
        self.now = 1_800_000_000.0
        self.registry = registry
        self.metrics = metrics
        self.meter = InvocationMeter()
        self.scaling = Scaling(MemoryDocuments(), lambda: self.now)
        self.scaler = Scaler(
            self.scaling,
            registry.provisioned,
            self.meter,
            metrics,
            in_after_s=10.0,
            clock=lambda: self.now,
        )

    async def register(self, minimum: int, maximum: int) -> None:
        await self.scaling.register(NAME, minimum, maximum, None, {})

    async def track(self, **metric: Any) -> None:
        await self.scaling.put_policy(NAME, "follow", {"TargetValue": 0.5, **metric})

    async def looks(self, count: int, utilization: float | None = None) -> int:
        """So many looks, a second apart; the capacity after them."""
        if utilization is not None:
            self.meter.utilization = {(KEY, "live"): utilization}
        for _ in range(count):
            await self.scaler.look()
            self.now += 1
        provisioned = self.registry.functions.get(KEY).provisioned
        return provisioned["live"].requested if "live" in provisioned else 0

    def told(self) -> list[tuple[str, str]]:
        [target] = self.scaling.everything()
        return [(activity.status, activity.description) for activity in target.activities]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    registry = Registry(
        MemoryDocuments(),
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        provider=Provider(),
    )
    await registry.functions.create(new_function(publish=True))
    await settle(registry)
    await registry.aliases.create(KEY, "live", "1")
    database = Database(tmp_path / "metrics.db", "metrics", METRIC_MIGRATIONS)
    metrics = MetricStore(database)
    yield World(registry, metrics)
    await metrics.close()
    await registry.close()


async def test_a_target_without_a_policy_is_left_alone(world: World) -> None:
    await world.register(2, 5)
    assert await world.looks(5) == 0


async def test_the_capacity_follows_the_utilization_within_its_bounds(world: World) -> None:
    await world.register(2, 5)
    await world.track(PredefinedMetricSpecification=PREDEFINED)
    assert await world.looks(1) == 2
    assert await world.looks(4, 1.0) == 4
    assert await world.looks(4, 1.0) == 5
    assert await world.looks(12, 0.1) == 2
    assert world.told() == [
        ("Successful", f"Setting provisioned concurrency to {capacity}.")
        for capacity in (2, 5, 4, 2)
    ]


async def test_at_zero_nothing_is_provisioned(world: World) -> None:
    await world.register(0, 5)
    await world.registry.provisioned.put(KEY, "live", 1)
    await world.track(PredefinedMetricSpecification=PREDEFINED)
    assert await world.looks(12, 0.0) == 0
    assert "live" not in world.registry.functions.get(KEY).provisioned


async def test_a_metric_of_the_caller_can_be_followed(world: World) -> None:
    await world.register(2, 50)
    await world.track(
        CustomizedMetricSpecification={
            "Namespace": "Shop",
            "MetricName": "queue",
            "Dimensions": [{"Name": "Till", "Value": "3"}],
            "Statistic": "Maximum",
        }
    )
    await world.looks(1)
    summary = Summary()
    summary.add(2.0)
    metric = Metric(ACCOUNT, REGION, "Shop", "queue", (("Till", "3"),))
    world.metrics.record(Series(metric), summary, world.now)
    assert await world.looks(4) == 8


async def test_a_schedule_sets_the_bounds_and_the_capacity_at_once(world: World) -> None:
    await world.register(0, 5)
    changes = {"schedule": "rate(5 minutes)", "minimum": 3, "maximum": 9}
    await world.scaling.put_action(NAME, "rush", changes)
    assert await world.looks(3) == 0
    world.now += 300
    assert await world.looks(1) == 3
    assert world.told() == [
        ("Successful", "Setting provisioned concurrency to 3."),
        ("Successful", "Setting min capacity to 3 and max capacity to 9"),
    ]


async def test_what_fails_again_and_again_is_told_once(world: World) -> None:
    await world.register(5_000, 5_000)
    await world.track(PredefinedMetricSpecification=PREDEFINED)
    assert await world.looks(5) == 0
    assert world.told() == [("Failed", "Setting provisioned concurrency to 5000.")]


async def test_targets_survive_in_the_store(world: World) -> None:
    documents = MemoryDocuments()
    before = Scaling(documents, lambda: world.now)
    await before.register(NAME, 1, 2, frozenset({"ScheduledScalingSuspended"}), {"team": "red"})
    await before.put_policy(NAME, "follow", {"TargetValue": 0.5})
    await before.put_action(NAME, "rush", {"schedule": "rate(1 day)", "minimum": 1})
    after = Scaling(documents, lambda: world.now)
    after.load()
    assert after.everything() == before.everything()
