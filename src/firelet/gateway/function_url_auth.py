"""Who may call a function URL: the AuthType of the URL and the function's resource policy.

Both actions, ``lambda:InvokeFunctionUrl`` and ``lambda:InvokeFunction``, must be allowed, as AWS
demands of function URLs since October 2025. Callers of the function's own account need no
statement, since identity policies are not evaluated on a loopback address; a Deny holds for them.
Signatures are checked when the secret is known here, which is that of role sessions; other keys
are believed, as they are everywhere on a loopback address.
Source: docs.aws.amazon.com/lambda/latest/dg/urls-auth.html.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firelet.control.policies import ResourcePolicies
from firelet.control.urls import FoundUrl
from firelet.gateway.function_policy import Use, Verdict, judge
from firelet.iam.accounts import Accounts
from firelet.iam.credentials import SessionCredentials, root_arn
from firelet.iam.sigv4 import Signature, parse_signature
from firelet.iam.sigv4_check import is_genuine
from firelet.model.errors import AccessDenied, CallerError, ResourceNotFound
from firelet.wire.http1 import Request

NONE = "NONE"
_ACTIONS = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
# Source: recorded.
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see:"
    " https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_NOT_GENUINE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS"
    " Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlCaller:
    """Who has signed."""

    access_key: str
    account: str
    arn: str
    user_id: str

    def authorizer(self) -> dict[str, Any]:
        """The member ``requestContext.authorizer`` of an event."""
        return {
            "iam": {
                "accessKey": self.access_key,
                "accountId": self.account,
                "callerId": self.user_id,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": self.arn,
                "userId": self.user_id,
            }
        }


class UrlAuthorizer:
    """Asked once for each request. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        policies: ResourcePolicies,
        sessions: SessionCredentials,
        accounts: Accounts,
        clock: Callable[[], float],
    ) -> None:
        self._policies = policies
        self._sessions = sessions
        self._accounts = accounts
        self._clock = clock

    def authorize(self, found: FoundUrl, request: Request) -> UrlCaller | None:
        """Who calls; None for everybody. AccessDenied, CallerError for a wrong signature."""
        if found.url.auth_type == NONE:
            self._check_policy(found, frozenset(), is_own=False)
            return None
        caller = self._identify(found, request)
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

    def _identify(self, found: FoundUrl, request: Request) -> UrlCaller:
        signature = parse_signature(request.headers, request.query)
        if (
            signature is None
            or signature.service != "lambda"
            or signature.region not in (None, found.key[1])
        ):
            raise forbidden()
        identity = self._sessions.lookup(signature.access_key)
        if identity is None:
            account = self._accounts.find(signature.access_key)
            return UrlCaller(
                access_key=signature.access_key,
                account=account,
                arn=root_arn(account),
                user_id=account,
            )
        self._check_signature(signature, identity.secret_key, identity.session_token, request)
        return UrlCaller(
            access_key=signature.access_key,
            account=identity.account,
            arn=identity.arn,
            user_id=identity.user_id,
        )

    def _check_signature(
        self, signature: Signature, secret_key: str, session_token: str, request: Request
    ) -> None:
        is_same_session = hmac.compare_digest(
            session_token.encode(), (signature.session_token or "").encode("utf-8", "replace")
        )
        if not is_same_session or not is_genuine(
            signature,
            secret_key,
            method=request.method,
            target=request.target,
            headers=request.headers,
            body=request.body,
            now=self._clock(),
        ):
            raise CallerError(_NOT_GENUINE, code="InvalidSignatureException", status=403)


def forbidden() -> AccessDenied:
    """What everybody is told who may not call, whatever the reason."""
    return AccessDenied(_FORBIDDEN)
