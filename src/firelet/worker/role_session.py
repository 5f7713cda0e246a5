"""The session of an execution role, for as long as one environment lives.

Credentials are issued when they are first asked for, again when half of their time is over, and
revoked at the end. Called by ``worker.node``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from firelet.model.function import FunctionVersion
from firelet.runtime.credentials import SessionCredentials


class RoleSession:
    """``issue`` makes credentials for a version, ``revoke`` ends them by their access key."""

    def __init__(
        self,
        version: FunctionVersion,
        issue: Callable[[FunctionVersion], SessionCredentials],
        revoke: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._version = version
        self._issue = issue
        self._revoke = revoke
        self._clock = clock
        self._issued: list[tuple[float, SessionCredentials]] = []

    def current(self) -> SessionCredentials:
        """Credentials that are good for at least half of their time."""
        now = self._clock()
        if self._issued:
            issued_at, credentials = self._issued[-1]
            if now - issued_at < (credentials.expires_at - issued_at) / 2:
                return credentials
        credentials = self._issue(self._version)
        self._issued.append((now, credentials))
        return credentials

    def close(self) -> None:
        """Revokes all of them."""
        while self._issued:
            self._revoke(self._issued.pop()[1].access_key)
