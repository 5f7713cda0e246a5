"""Who may call a function URL: the AuthType of the URL and the function's resource policy.

Both actions, ``lambda:InvokeFunctionUrl`` and ``lambda:InvokeFunction``, must be allowed, as AWS
demands of function URLs since October 2025. Callers of the function's own account need no
statement, since identity policies are not evaluated on a loopback address; a Deny holds for them.
Source: docs.aws.amazon.com/lambda/latest/dg/urls-auth.html.
"""

from __future__ import annotations

from typing import Any

from firelet.control.policies import ResourcePolicies
from firelet.control.urls import FoundUrl
from firelet.gateway.function_policy import Use, Verdict, judge
from firelet.gateway.signed_callers import SignedCaller, SignedCallers
from firelet.iam.credentials import root_arn
from firelet.model.errors import AccessDenied, ResourceNotFound
from firelet.wire.http1 import Request

NONE = "NONE"
_ACTIONS = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
# Source: recorded.
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see:"
    " https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


class UrlAuthorizer:
    """Asked once for each request."""

    def __init__(self, policies: ResourcePolicies, callers: SignedCallers) -> None:
        self._policies = policies
        self._callers = callers

    def authorize(self, found: FoundUrl, request: Request) -> SignedCaller | None:
        """Who calls; None for everybody. AccessDenied, CallerError for a false signature."""
        if found.url.auth_type == NONE:
            self._check_policy(found, frozenset(), is_own=False)
            return None
        caller = self._callers.identify(request, "lambda", found.key[1])
        if caller is None:
            raise forbidden()
        identities = frozenset((caller.arn, caller.account, root_arn(caller.account)))
        self._check_policy(found, identities, is_own=caller.account == found.key[0])
        return caller

    def _check_policy(self, found: FoundUrl, identities: frozenset[str], *, is_own: bool) -> None:
        policy = self._find_policy(found)
        context = {
            "lambda:functionurlauthtype": found.url.auth_type,
            "lambda:invokedviafunctionurl": "true",
        }
        for action in _ACTIONS:
            use = Use(action=action, resource=found.arn, identities=identities, context=context)
            verdict = judge(policy, use)
            if verdict is Verdict.DENY or (verdict is Verdict.SILENT and not is_own):
                raise forbidden()

    def _find_policy(self, found: FoundUrl) -> str | None:
        try:
            return self._policies.get(found.key, found.qualifier).text
        except ResourceNotFound:
            return None


def format_authorizer(caller: SignedCaller) -> dict[str, Any]:
    """The member ``requestContext.authorizer`` of an event."""
    return {
        "iam": {
            "accessKey": caller.access_key,
            "accountId": caller.account,
            "callerId": caller.user_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": caller.arn,
            "userId": caller.user_id,
        }
    }


def forbidden() -> AccessDenied:
    """What everybody is told who may not call, whatever the reason."""
    return AccessDenied(_FORBIDDEN)
