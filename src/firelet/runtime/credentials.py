"""Credentials of the execution role, served inside a sandbox instead of set as variables.

Environments with SnapStart cannot have them in their variables: those are as old as the snapshot.
The SDKs fetch them from AWS_CONTAINER_CREDENTIALS_FULL_URI, and again before they expire.
Source: AWS guide, "Lambda SnapStart", and the container provider of the SDKs.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from firelet.wire.http1 import Request, Response


@dataclass(frozen=True, slots=True)
class SessionCredentials:
    """Temporary credentials of the execution role. ``expires_at`` is in seconds of the epoch."""

    access_key: str
    secret_key: str
    session_token: str
    expires_at: float


class CredentialsEndpoint:
    """Answers who knows ``token``, which the runtime's environment has."""

    def __init__(self, current: Callable[[], SessionCredentials], token: str | None = None) -> None:
        """``current`` gives credentials that are good for a while. A clone has the ``token`` of its
        snapshot: some runtimes cannot be told another one when they are restored."""
        self.token = secrets.token_urlsafe(32) if token is None else token
        self._current = current

    def answer(self, request: Request) -> Response:
        """200 with the credentials, or 403."""
        given = request.headers.get(b"authorization", b"")
        if not hmac.compare_digest(given, self.token.encode()):
            return Response(403, b"")
        credentials = self._current()
        body = orjson.dumps(
            {
                "AccessKeyId": credentials.access_key,
                "SecretAccessKey": credentials.secret_key,
                "Token": credentials.session_token,
                "Expiration": time.strftime(
                    "%Y-%m-%dT%H:%M:%SZ", time.gmtime(credentials.expires_at)
                ),
            }
        )
        return Response(200, body, ((b"content-type", b"application/json"),))
