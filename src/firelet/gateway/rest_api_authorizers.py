"""Who may call a method of a REST API: Lambda authorizers and signatures.

What it is: the events and answers of authorizers of type TOKEN and REQUEST, with their cache. What
it is not: identity policies: as everywhere on a loopback address, whoever has signed may call.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
apigateway-use-lambda-authorizer.html, api-gateway-lambda-authorizer-output.html,
apigateway-control-access-policy-language-overview.html. That a failed authorizer is answered with
500 and a message of null is as users have seen it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.control.gateway_regex import compile_whole
from firelet.control.rest_api_records import Settings
from firelet.gateway.function_policy import Verdict
from firelet.gateway.grants import RememberedGrants, judge_grant, read_policy
from firelet.gateway.rest_api_failures import Refusal, evaluate
from firelet.gateway.rest_api_request import RestRequest
from firelet.gateway.service_calls import API_GATEWAY, ServiceCall, ServiceCaller, ServiceCalls
from firelet.gateway.signed_callers import EXECUTE_API, SignedCallers
from firelet.model.errors import CallerError, FireletError
from firelet.model.integration_uri import fill_stage_variables, find_function
from firelet.model.invocation import Outcome

log = logging.getLogger(__name__)

_TIMEOUT_S = 29.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authorizer has said of a caller. ``policy`` is what ``judge_grant`` reads."""

    principal: str
    policy: str
    context: Mapping[str, Any]
    usage_key: str | None


class RestAuthorizers:
    """``authorize`` once for each request. ``clock`` gives monotonic seconds."""

    def __init__(
        self, calls: ServiceCalls, callers: SignedCallers, clock: Callable[[], float]
    ) -> None:
        self._calls = calls
        self._callers = callers
        self._remembered: RememberedGrants[Grant] = RememberedGrants(clock)

    async def authorize(self, request: RestRequest) -> str | None:
        """Refusal, or the key of a usage plan that an authorizer named."""
        method = request.match.method
        if method.authorization == "AWS_IAM":
            self._check_signature(request)
        elif method.authorization != "NONE":
            if method.authorizer is None:
                raise Refusal("AUTHORIZER_CONFIGURATION_ERROR", None)
            grant = await self._find_grant(request, method.authorizer)
            _check_grant(request, grant)
            request.authorizer = {
                **grant.context,
                "principalId": grant.principal,
                "integrationLatency": 0,
            }
            return grant.usage_key
        return None

    def _check_signature(self, request: RestRequest) -> None:
        try:
            caller = self._callers.identify(request.visit.request, EXECUTE_API, request.api.region)
        except CallerError as error:
            raise Refusal("INVALID_SIGNATURE", error.message) from None
        if caller is None:
            raise Refusal("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
        request.identity |= {
            "accessKey": caller.access_key,
            "accountId": caller.account,
            "caller": caller.user_id,
            "user": caller.user_id,
            "userArn": caller.arn,
        }

    async def _find_grant(self, request: RestRequest, authorizer: Settings) -> Grant:
        sources = _identity(request, authorizer)
        ttl = authorizer["authorizerResultTtlInSeconds"]
        key = (request.api.id, request.stage.name, authorizer["id"], *sources)
        remembered = self._remembered.find(key) if ttl else None
        if remembered is not None:
            return remembered
        grant = await self._ask(request, authorizer, sources)
        if ttl:
            self._remembered.keep(key, grant, ttl)
        return grant

    async def _ask(
        self, request: RestRequest, authorizer: Settings, sources: tuple[str, ...]
    ) -> Grant:
        outcome = await self._call(request, authorizer, _event(request, authorizer, sources))
        if outcome.function_error is not None:
            if _says_unauthorized(outcome.payload):
                raise Refusal("UNAUTHORIZED", "Unauthorized")
            _warn(request, "the function failed")
            raise Refusal("AUTHORIZER_FAILURE", None)
        grant = _parse_grant(outcome.payload)
        if grant is None:
            _warn(request, "the result is no policy of a principal")
            raise Refusal("AUTHORIZER_CONFIGURATION_ERROR", None)
        return grant

    async def _call(self, request: RestRequest, authorizer: Settings, event: bytes) -> Outcome:
        api = request.api
        function = fill_stage_variables(
            find_function(authorizer["authorizerUri"]) or "", request.stage_variables
        )
        source = (
            f"arn:aws:execute-api:{api.region}:{api.account}:{api.id}"
            f"/authorizers/{authorizer['id']}"
        )
        try:
            return await self._calls.call(
                ServiceCall(
                    caller=ServiceCaller(
                        service=API_GATEWAY,
                        source_arn=source,
                        account=api.account,
                        region=api.region,
                    ),
                    function=function,
                    event=event,
                    request_id=request.request_id,
                    trace_id=request.trace_id,
                    timeout_s=_TIMEOUT_S,
                    has_role=bool(authorizer.get("authorizerCredentials")),
                )
            )
        except TimeoutError:
            _warn(request, "the function took too long")
        except FireletError as error:
            _warn(request, error.message)
        raise Refusal("AUTHORIZER_FAILURE", None)


def _identity(request: RestRequest, authorizer: Settings) -> tuple[str, ...]:
    """The values of all identity sources. Unauthorized when one is missing."""
    given = authorizer.get("identitySource") or ""
    variables = request.variables()
    values = tuple(evaluate(source.strip(), variables) for source in given.split(",") if source)
    if not all(values):
        raise Refusal("UNAUTHORIZED", "Unauthorized")
    is_token = authorizer["type"] == "TOKEN"
    expression = authorizer.get("identityValidationExpression") if is_token else None
    if expression and not compile_whole(expression).search(values[0]):
        raise Refusal("UNAUTHORIZED", "Unauthorized")
    return values


def _event(request: RestRequest, authorizer: Settings, sources: tuple[str, ...]) -> bytes:
    if authorizer["type"] == "TOKEN":
        return orjson.dumps(
            {
                "type": "TOKEN",
                "methodArn": request.method_arn,
                "authorizationToken": sources[0],
            }
        )
    event = orjson.loads(request.event())
    # The body is not the authorizer's business.
    for name in ("body", "isBase64Encoded"):
        del event[name]
    return orjson.dumps({"type": "REQUEST", "methodArn": request.method_arn, **event})


def _parse_grant(payload: bytes) -> Grant | None:
    try:
        result = orjson.loads(payload)
        policy = read_policy(result)
        context = result.get("context") or {}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    principal, usage_key = result.get("principalId"), result.get("usageIdentifierKey")
    if not isinstance(principal, str) or not _is_flat(context):
        return None
    texts = {name: _text(value) for name, value in context.items()}
    return Grant(principal, policy, texts, usage_key if isinstance(usage_key, str) else None)


def _is_flat(context: object) -> bool:
    """Objects and lists are no valid values of a context."""
    return isinstance(context, dict) and all(
        value is None or isinstance(value, str | int | float) for value in context.values()
    )


def _text(value: object) -> str | None:
    """Values reach the function as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _check_grant(request: RestRequest, grant: Grant) -> None:
    verdict = judge_grant(grant.policy, request.method_arn)
    if verdict is Verdict.DENY:
        raise Refusal(
            "ACCESS_DENIED",
            "User is not authorized to access this resource with an explicit deny",
        )
    if verdict is Verdict.SILENT:
        raise Refusal("ACCESS_DENIED", "User is not authorized to access this resource")


def _says_unauthorized(payload: bytes) -> bool:
    try:
        failure = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return isinstance(failure, dict) and failure.get("errorMessage") == "Unauthorized"


def _warn(request: RestRequest, reason: str) -> None:
    log.warning("rest api authorizer failed request=%s: %s", request.request_id, reason)
