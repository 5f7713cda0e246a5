"""How many requests a stage of an HTTP or WebSocket API takes: what its settings say.

A route's own settings come before the stage's; with neither, the account's concurrency is the only
limit. A rate without a burst allows a burst of one second; a rate of 0 allows nothing, as on AWS.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-throttling.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.rates import RateLimits
from firelet.model.http_api import HttpApi, Stage

_BURST_S = 1.0


class StageThrottles:
    """``admits`` once for each request. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limits = RateLimits()

    def admits(self, api: HttpApi, stage: Stage, route_key: str) -> bool:
        """False: too many requests."""
        own = (stage.settings.get("RouteSettings") or {}).get(route_key) or {}
        name, rate = route_key, own.get("ThrottlingRateLimit")
        settings: Mapping[str, Any] = own
        if rate is None:
            settings = stage.settings.get("DefaultRouteSettings") or {}
            name, rate = "", settings.get("ThrottlingRateLimit")
        if rate is None:
            return True
        if rate <= 0:
            return False
        burst = settings.get("ThrottlingBurstLimit")
        burst_s = _BURST_S if burst is None else burst / rate
        return self._limits.admits((api.api_id, stage.name, name), self._clock(), rate, burst_s)
