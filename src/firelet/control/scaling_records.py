"""What Application Auto Scaling knows of a function's provisioned concurrency.

Values that are kept: a scalable target with its policies, scheduled actions and activities is one
record, because they come and go together. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from firelet.model import limits
from firelet.model.function import FunctionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """``configuration`` is the target tracking configuration as it was given."""

    name: str
    arn: str
    created: float
    configuration: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledAction:
    """Sets bounds at times. All that was due until ``done_until`` has been done."""

    name: str
    arn: str
    created: float
    schedule: str
    timezone: str | None = None
    start: float | None = None
    end: float | None = None
    minimum: int | None = None
    maximum: int | None = None
    done_until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingActivity:
    """One change of the capacity, or one that failed."""

    id: str
    description: str
    cause: str
    start: float
    end: float
    status: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalableTarget:
    """The provisioned concurrency of a version or alias, as something that scales.

    ``suspended`` has the members of the API's SuspendedState that are true.
    """

    account: str
    region: str
    function: str
    qualifier: str
    arn: str
    created: float
    minimum: int
    maximum: int
    suspended: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: Mapping[str, ScalingPolicy] = field(default_factory=dict)
    actions: Mapping[str, ScheduledAction] = field(default_factory=dict)
    activities: tuple[ScalingActivity, ...] = ()

    @property
    def key(self) -> FunctionKey:
        return (self.account, self.region, self.function)

    @property
    def resource_id(self) -> str:
        return f"function:{self.function}:{self.qualifier}"

    def with_activity(self, activity: ScalingActivity) -> ScalableTarget:
        """The newest first; the oldest are forgotten."""
        kept = self.activities[: limits.SCALING_ACTIVITIES_KEPT - 1]
        return replace(self, activities=(activity, *kept))
