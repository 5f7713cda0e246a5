"""Who may use a route of an HTTP or WebSocket API: signatures, tokens and Lambda authorizers.

What it is: the questions to authorizers, their answers, and how long those are remembered. What it
is not: identity policies; as everywhere on a loopback address, whoever signs as the API's account
may call. Results are remembered only as long as ``AuthorizerResultTtlInSeconds`` says, and not at
all without it.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html,
http-api-access-control-iam.html, apigateway-websocket-api-lambda-auth.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from firelet.gateway.api_routes import Authorizer, JwtSettings, Route
from firelet.gateway.function_policy import Verdict
from firelet.gateway.function_url_auth import format_authorizer
from firelet.gateway.grants import RememberedGrants, judge_grant, read_policy
from firelet.gateway.integration_calls import (
    IntegrationCalls,
    IntegrationFailed,
    IntegrationRequest,
)
from firelet.gateway.jwt_authorizer import InsufficientScope, JwtAuthorizer
from firelet.gateway.proxy_event import parse_query
from firelet.gateway.signed_callers import EXECUTE_API, SignedCallers
from firelet.iam.jwt import InvalidToken
from firelet.model.errors import CallerError
from firelet.model.http_api import HTTP, HttpApi, execution_arn
from firelet.wire.http1 import Request

_HEADER, _CONTEXT, _STAGE_VARIABLE = "header", "context", "stageVariables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request to a guarded route. ``event`` is what a function behind the route would get, in
    the authorizer's format; ``resource`` is the end of the request's execution ARN."""

    api: HttpApi
    stage: str
    resource: str
    route: Route
    request: Request
    event: Callable[[str], bytes]
    variables: Mapping[str, str]
    request_id: str
    trace_id: str

    @property
    def arn(self) -> str:
        return execution_arn(self.api, self.stage, self.resource)


@dataclass(frozen=True, slots=True)
class Authorized:
    """Who may call, as the function behind the route is told: ``member`` is
    ``requestContext.authorizer`` of payload format 2.0, ``flat`` that of the others."""

    member: Mapping[str, Any]
    flat: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authorizer has said. ``policy`` is None for a simple answer that allows."""

    policy: str | None
    principal: str | None
    context: Mapping[str, Any]


class ApiAuthorizers:
    """``clock`` is monotonic."""

    def __init__(
        self,
        calls: IntegrationCalls,
        callers: SignedCallers,
        tokens: JwtAuthorizer,
        clock: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._callers = callers
        self._tokens = tokens
        self._remembered: RememberedGrants[Grant] = RememberedGrants(clock)

    async def authorize(self, question: Question) -> Authorized | None:
        """None: the route is open to everybody. IntegrationFailed, with what the client is told,
        for those who may not call."""
        route = question.route
        if route.authorization == "NONE":
            return None
        if route.authorization == "AWS_IAM":
            return self._check_signature(question)
        if route.authorizer is None:
            raise IntegrationFailed(500, "Internal Server Error", "the authorizer is gone")
        if route.authorizer.jwt is not None:
            return await self._check_token(question, route.authorizer, route.authorizer.jwt)
        grant = await self._find(question, route.authorizer)
        policy = grant.policy
        if policy is not None and judge_grant(policy, question.arn) is not Verdict.ALLOW:
            raise IntegrationFailed(403, "Forbidden", "the authorizer's policy does not allow it")
        principal = {} if grant.principal is None else {"principalId": grant.principal}
        return Authorized({"lambda": grant.context or None}, {**grant.context, **principal})

    def _check_signature(self, question: Question) -> Authorized:
        try:
            caller = self._callers.identify(question.request, EXECUTE_API, question.api.region)
        except CallerError as error:
            raise IntegrationFailed(403, "Forbidden", error.message) from None
        if caller is None or caller.account != question.api.account:
            raise IntegrationFailed(403, "Forbidden", "the caller has not signed for this API")
        member = format_authorizer(caller)
        return Authorized(member, member["iam"])

    async def _check_token(
        self, question: Question, authorizer: Authorizer, settings: JwtSettings
    ) -> Authorized:
        text = _read_source(authorizer.sources[0], question)
        if not text:
            raise IntegrationFailed(401, "Unauthorized", "there is no token")
        try:
            member = await self._tokens.check(text, settings, question.route.scopes)
        except InvalidToken as error:
            raise IntegrationFailed(401, "Unauthorized", f"the token: {error}") from None
        except InsufficientScope:
            raise IntegrationFailed(403, "Forbidden", "the token lacks the scope") from None
        return Authorized({"jwt": member}, member)

    async def _find(self, question: Question, authorizer: Authorizer) -> Grant:
        identity = [_read_source(source, question) for source in authorizer.sources]
        values = [value for value in identity if value]
        if len(values) < len(identity):
            raise IntegrationFailed(401, "Unauthorized", "an identity source is missing")
        # The route is part of what is asked: a simple answer is about one.
        key = (question.api.api_id, authorizer.authorizer_id, question.arn, *values)
        remembered = self._remembered.find(key)
        if remembered is not None:
            return remembered
        grant = await self._ask(question, authorizer, values)
        if authorizer.ttl_s and values:
            self._remembered.keep(key, grant, authorizer.ttl_s)
        return grant

    async def _ask(
        self, question: Question, authorizer: Authorizer, identity: Sequence[str]
    ) -> Grant:
        payload = await self._calls.call(
            IntegrationRequest(
                api=question.api,
                stage="authorizers",
                resource=authorizer.authorizer_id,
                request_id=question.request_id,
                trace_id=question.trace_id,
            ),
            authorizer.function,
            authorizer.function.function_arn(question.variables),
            _format_event(question, authorizer, identity),
        )
        try:
            return _parse_grant(payload, authorizer)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise IntegrationFailed(
                500, "Internal Server Error", f"the authorizer's result is none: {error!r}"
            ) from None


def _format_event(question: Question, authorizer: Authorizer, identity: Sequence[str]) -> bytes:
    version = authorizer.payload_version
    event: dict[str, Any] = orjson.loads(question.event(version))
    for name in ("body", "isBase64Encoded"):  # not the authorizer's business
        event.pop(name, None)
    if version == "2.0":
        asked: dict[str, Any] = {
            "type": "REQUEST",
            "routeArn": question.arn,
            "identitySource": list(identity),
        }
    else:
        asked = {"type": "REQUEST", "methodArn": question.arn}
        if question.api.protocol == HTTP:
            joined = ",".join(identity)
            asked |= {"identitySource": joined, "authorizationToken": joined}
    return orjson.dumps({**event, **asked})


def _parse_grant(payload: bytes, authorizer: Authorizer) -> Grant:
    result = orjson.loads(payload)
    context = result.get("context") or {}
    if not isinstance(context, dict):
        raise TypeError("context is no object")
    if authorizer.is_simple:
        if not isinstance(result["isAuthorized"], bool):
            raise TypeError("isAuthorized is no boolean")
        if not result["isAuthorized"]:
            raise IntegrationFailed(403, "Forbidden", "the authorizer has said no")
        return Grant(None, None, context)
    return Grant(read_policy(result), str(result["principalId"]), context)


def _read_source(source: str, question: Question) -> str | None:
    """The value of ``$request.header.Name`` and the like; None when it is not there."""
    kind, _, name = source.removeprefix("$").removeprefix("route.").partition(".")
    if kind == "request":
        kind, _, name = name.partition(".")
    if kind == _STAGE_VARIABLE:
        return question.variables.get(name)
    if kind == _CONTEXT:
        value: Any = orjson.loads(question.event("2.0"))["requestContext"]
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return None if value is None else str(value)
    if kind == _HEADER:
        header = question.request.headers.get(name.lower().encode("latin-1"))
        return None if header is None else header.decode("latin-1")
    return _read_query(question.request, name)


def _read_query(request: Request, name: str) -> str | None:
    values = [value for key, value in parse_query(request.query) if key == name]
    return ",".join(values) if values else None
