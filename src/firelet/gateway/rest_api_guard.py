"""Whether a request to a REST API may pass: parameters, API keys, throttles, quotas.

What it is not: authorizers (``rest_api_authorizers``). Called by ``gateway.rest_api`` after them,
since an authorizer may be the source of the key.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-request-throttling.html, api-gateway-setup-api-key-with-console.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from firelet.control.rates import RateLimits
from firelet.control.usage_plans import ApiKey, UsagePlan, UsagePlans
from firelet.gateway.rest_api_failures import Refusal
from firelet.gateway.rest_api_request import RestRequest
from firelet.gateway.usage import UsageCounts

_KEY_HEADER = b"x-api-key"
_ANY_METHOD = "*/*"
_DEFAULT_BURST = 5_000  # of an account


class RestGuard:
    """``check`` once for each request; it counts. ``clock`` gives monotonic seconds."""

    def __init__(self, plans: UsagePlans, counts: UsageCounts, clock: Callable[[], float]) -> None:
        self._plans = plans
        self._counts = counts
        self._clock = clock
        self._rates = RateLimits()

    def check(self, request: RestRequest, usage_key: str | None) -> None:
        """Refusal. ``usage_key`` is the key that an authorizer named."""
        if request.match.method.needs_key:
            self._check_key(request, usage_key)
        self._check_stage(request)
        _check_parameters(request)

    def _check_key(self, request: RestRequest, usage_key: str | None) -> None:
        source = request.definition.settings.get("apiKeySource", "HEADER")
        if source == "AUTHORIZER":
            value = usage_key
        else:
            header = request.visit.request.headers.get(_KEY_HEADER)
            value = None if header is None else header.decode("latin-1")
        stage = f"{request.api.id}:{request.stage.name}"
        api = request.api
        found = self._plans.find(api.account, api.region, stage, value) if value else None
        if found is None:
            raise Refusal("INVALID_API_KEY", "Forbidden")
        plan, key = found
        request.identity |= {"apiKey": key.value, "apiKeyId": key.id}
        self._check_plan(request, plan, key, stage)

    def _check_plan(self, request: RestRequest, plan: UsagePlan, key: ApiKey, stage: str) -> None:
        method = request.match.method
        throttles = plan.stages[stage]
        name = f"{method.resource_path}/{request.method}"
        limit = throttles.get(name) or throttles.get(f"{method.resource_path}/{method.verb}")
        for scope, throttle in (
            (f"{stage}{name}", limit),
            ("", plan.settings.get("throttle")),
        ):
            if throttle:
                self._admit((plan.id, key.id, scope), throttle)
        if not self._counts.take(plan.id, key.id, plan.settings.get("quota")):
            raise Refusal("QUOTA_EXCEEDED", "Limit Exceeded")

    def _check_stage(self, request: RestRequest) -> None:
        """The throttle of the method at this stage, else that of all its methods."""
        settings: Mapping[str, Any] = request.stage.settings.get("methodSettings", {})
        method = request.match.method
        path = method.resource_path.lstrip("/") or "~1"
        for name in (f"{path}/{request.method}", f"{path}/{method.verb}", _ANY_METHOD):
            found = settings.get(name)
            if found is None or "throttlingRateLimit" not in found:
                continue
            throttle = {
                "rateLimit": found["throttlingRateLimit"],
                "burstLimit": found.get("throttlingBurstLimit", _DEFAULT_BURST),
            }
            # A negative limit says that the account's is the only one.
            if min(throttle.values()) >= 0:
                self._admit((request.api.id, request.stage.name, name), throttle)
            return

    def _admit(self, name: tuple[str, str, str], throttle: Mapping[str, Any]) -> None:
        """Too Many Requests. Without a rate there is no limit; without a burst it is a second's."""
        rate = throttle.get("rateLimit")
        if rate is None:
            return
        burst = throttle.get("burstLimit", rate)
        if rate <= 0 or not self._rates.admits(name, self._clock(), rate, burst / rate):
            raise Refusal("THROTTLED", "Too Many Requests")


def _check_parameters(request: RestRequest) -> None:
    """Those that the method's validator demands."""
    missing = []
    for expression in request.match.method.required:
        _, _, place, name = expression.split(".", 3)
        given = request.parameters[place]
        names = {key.lower() for key in given} if place == "header" else set(given)
        if (name.lower() if place == "header" else name) not in names:
            missing.append(name)
    if missing:
        raise Refusal(
            "BAD_REQUEST_PARAMETERS",
            f"Missing required request parameters: [{', '.join(sorted(missing))}]",
        )
