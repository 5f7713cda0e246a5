"""Temporary credentials: issued for roles and sessions, looked up by access key.

What it is: the sessions of this process, in memory, with their expiry. Issuing costs microseconds
and does no I/O, because each new sandbox gets credentials of its execution role. What it is not:
signature checking (``iam.sigv4``) or durable: a restart ends all sessions, as it ends all
sandboxes. Called by ``frontend.sts`` and by the worker for its sandboxes.

An access key carries its account, as AWS's do, so that a key whose session is long forgotten
still says whose it was: of the 80 bits after the prefix, one is set, 40 are the account number
and 39 are random.
"""

from __future__ import annotations

import base64
import heapq
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

_TEMPORARY = "ASIA"
_RANDOM_BITS = 39
_ACCOUNT_BITS = 40
_KEY_BYTES = 10
_SECRET_BYTES = 30  # 40 characters of base 64
_TOKEN_BYTES = (
    270  # 360 characters: AWS promises no length, and clients must not assume a short one
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client signs with. ``expiration`` is an aware datetime of whole seconds."""

    access_key: str
    secret_key: str
    session_token: str
    expiration: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose a key is. ``role_arn`` is None for a session of the account itself.

    ``secret_key`` and ``session_token`` are what a signature is checked with.
    """

    account: str
    arn: str
    user_id: str
    role_arn: str | None
    secret_key: str
    session_token: str


def format_access_key(account: str) -> str:
    """A fresh temporary access key id that carries ``account`` (12 digits)."""
    number = 1 << _ACCOUNT_BITS | int(account)
    number = number << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    return _TEMPORARY + base64.b32encode(number.to_bytes(_KEY_BYTES, "big")).decode("ascii")


def root_arn(account: str) -> str:
    """The identity of callers whose keys firelet did not issue."""
    return f"arn:aws:iam::{account}:root"


class SessionCredentials:
    """All live sessions. ``role_id_of`` gives the unique id of a role by its ARN."""

    def __init__(
        self, role_id_of: Callable[[str], str], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._role_id_of = role_id_of
        self._clock = clock
        self._by_key: dict[str, tuple[Identity, float]] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._by_key)

    def issue(self, role_arn: str, session_name: str, duration_s: float) -> Credentials:
        """Credentials of an assumed role. The role need not exist."""
        account, resource = role_arn.split(":", 5)[4:]
        role_name = resource.rpartition("/")[2]
        return self._issue(
            account,
            arn=f"arn:aws:sts::{account}:assumed-role/{role_name}/{session_name}",
            user_id=f"{self._role_id_of(role_arn)}:{session_name}",
            role_arn=role_arn,
            duration_s=duration_s,
        )

    def issue_for_account(self, account: str, duration_s: float) -> Credentials:
        """Credentials of the account itself (``GetSessionToken``)."""
        return self._issue(
            account,
            arn=root_arn(account),
            user_id=account,
            role_arn=None,
            duration_s=duration_s,
        )

    def lookup(self, access_key: str) -> Identity | None:
        """Whose key it is; None for keys that were not issued here or have expired."""
        found = self._by_key.get(access_key)
        if found is None or found[1] <= self._clock():
            return None
        return found[0]

    def revoke(self, access_key: str) -> None:
        """Ends a session early, as when its sandbox is gone. Unknown keys are no error."""
        self._by_key.pop(access_key, None)

    def _issue(
        self, account: str, *, arn: str, user_id: str, role_arn: str | None, duration_s: float
    ) -> Credentials:
        now = self._clock()
        self._forget_expired(now)
        expires = float(int(now + duration_s))
        identity = Identity(
            account=account,
            arn=arn,
            user_id=user_id,
            role_arn=role_arn,
            secret_key=base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii"),
            session_token=base64.b64encode(secrets.token_bytes(_TOKEN_BYTES)).decode("ascii"),
        )
        access_key = format_access_key(account)
        self._by_key[access_key] = (identity, expires)
        heapq.heappush(self._expiries, (expires, access_key))
        return Credentials(
            access_key=access_key,
            secret_key=identity.secret_key,
            session_token=identity.session_token,
            expiration=datetime.fromtimestamp(expires, UTC),
        )

    def _forget_expired(self, now: float) -> None:
        """Each issue pays for what has expired since the last one; no timer is needed."""
        while self._expiries and self._expiries[0][0] <= now:
            _, access_key = heapq.heappop(self._expiries)
            self._by_key.pop(access_key, None)
