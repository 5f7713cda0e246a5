"""Whose signature a request to a gateway has.

A signature is checked when the secret is known here, which is that of role sessions; other keys are
believed, as they are everywhere on a loopback address.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from firelet.iam.accounts import Accounts
from firelet.iam.credentials import SessionCredentials, root_arn
from firelet.iam.sigv4 import Signature, parse_signature
from firelet.iam.sigv4_check import is_genuine
from firelet.model.errors import CallerError
from firelet.wire.http1 import Request

EXECUTE_API = "execute-api"  # what requests to APIs are signed for

_NOT_GENUINE = (
    "The request signature we calculated does not match the signature you provided. Check your AWS"
    " Secret Access Key and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCaller:
    """Who has signed."""

    access_key: str
    account: str
    arn: str
    user_id: str


class SignedCallers:
    """Asked once for each request that must be signed. ``clock`` gives epoch seconds."""

    def __init__(
        self, sessions: SessionCredentials, accounts: Accounts, clock: Callable[[], float]
    ) -> None:
        self._sessions = sessions
        self._accounts = accounts
        self._clock = clock

    def identify(self, request: Request, service: str, region: str) -> SignedCaller | None:
        """None without a signature for that service and region; CallerError for a false one."""
        signature = parse_signature(request.headers, request.query)
        if (
            signature is None
            or signature.service != service
            or signature.region not in (None, region)
        ):
            return None
        identity = self._sessions.lookup(signature.access_key)
        if identity is None:
            account = self._accounts.find(signature.access_key)
            return SignedCaller(
                access_key=signature.access_key,
                account=account,
                arn=root_arn(account),
                user_id=account,
            )
        self._check(signature, identity.secret_key, identity.session_token, request)
        return SignedCaller(
            access_key=signature.access_key,
            account=identity.account,
            arn=identity.arn,
            user_id=identity.user_id,
        )

    def _check(
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
