"""Whether a request to a REST API may pass: parameters, API keys, throttles, quotas.

What it is not: authorizers (``rest_api_authorizers``). Called by ``gateway.rest_api`` after them,
since an authorizer may be the source of the key.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-request-throttling.html, api-gateway-setup-api-key-with-console.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.usage_plans import ApiKey, UsagePlan, UsagePlans
from firelet.gateway.rest_api_failures import Refusal
from firelet.gateway.rest_api_request import RestRequest
from firelet.gateway.usage import Buckets, UsageCounts

_KEY_HEADER = b"x-api-key"
_ANY_METHOD = "*/*"
_DEFAULT_BURST = 5_000  # of an account


class RestGuard:
    """``check`` once for each request; it counts."""

    def __init__(self, plans: UsagePlans, counts: UsageCounts, buckets: Buckets) -> None:
        self._plans = plans
        self._counts = counts
        self._buckets = buckets

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
            ((plan.id, key.id, stage, name), limit),
            ((plan.id, key.id), plan.settings.get("throttle")),
        ):
            if throttle and not self._take(scope, throttle):
                raise _throttled()
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
            is_limited = min(throttle.values()) >= 0
            if is_limited and not self._take((request.api.id, request.stage.name, name), throttle):
                raise _throttled()
            return

    def _take(self, name: tuple[str, ...], throttle: Mapping[str, Any]) -> bool:
        rate = throttle.get("rateLimit", 0)
        return self._buckets.take(name, rate, throttle.get("burstLimit", 0))


def _throttled() -> Refusal:
    return Refusal("THROTTLED", "Too Many Requests")


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
