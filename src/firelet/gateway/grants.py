"""What Lambda authorizers have granted: the policy in an answer, and how long it is remembered.

What APIs of every kind have in common. What it is not: the questions to authorizers, the rest of
their answers, and what a client is told (``api_authorizers``, ``rest_api_authorizers``).
Source: docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-lambda-authorizer-output.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from firelet.gateway.function_policy import Use, Verdict, judge

_ACTION = "execute-api:Invoke"
_REMEMBERED_MAX = 10_000

Grant = TypeVar("Grant")


class RememberedGrants(Generic[Grant]):
    """By whatever an answer depends on. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._grants: dict[tuple[str, ...], tuple[float, Grant]] = {}

    def find(self, key: tuple[str, ...]) -> Grant | None:
        """None: the authorizer must be asked."""
        remembered = self._grants.get(key)
        if remembered is None or remembered[0] <= self._clock():
            return None
        return remembered[1]

    def keep(self, key: tuple[str, ...], grant: Grant, ttl_s: float) -> None:
        """For ``ttl_s`` seconds. When there are too many, all are forgotten: they can be asked
        for again."""
        if len(self._grants) >= _REMEMBERED_MAX:
            self._grants.clear()
        self._grants[key] = (self._clock() + ttl_s, grant)


def read_policy(answer: dict[str, Any]) -> str:
    """The policy of an authorizer's answer, as ``judge_grant`` takes it. KeyError or TypeError
    when there is none."""
    statements = answer["policyDocument"]["Statement"]
    listed = statements if isinstance(statements, list) else [statements]
    # Whom it is about is clear: a policy of an authorizer names no principal.
    return json.dumps({"Statement": [{**one, "Principal": "*"} for one in listed]})


def judge_grant(policy: str, execution_arn: str) -> Verdict:
    """What the policy says of a request, by its ARN."""
    return judge(policy, Use(action=_ACTION, resource=execution_arn))
