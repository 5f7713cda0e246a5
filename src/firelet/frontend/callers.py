"""Whose request it is: account and region by the signature, remembered for the hot path."""

from __future__ import annotations

from dataclasses import dataclass

from firelet.iam.accounts import DEFAULT_REGION, Accounts
from firelet.iam.sigv4 import parse_signature
from firelet.wire.http1 import Request

_REMEMBERED_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Caller:
    """The world that a request belongs to."""

    account: str
    region: str


class Callers:
    """Reads the credential scope. The signature itself is not checked here.

    The part of the header before the first comma names key, day, region and service and is the
    same for every request of a client on one day: it is parsed once.
    """

    def __init__(self, accounts: Accounts, default_region: str = DEFAULT_REGION) -> None:
        self._accounts = accounts
        self._default_region = default_region
        self._remembered: dict[bytes, Caller] = {}

    def identify(self, request: Request) -> Caller:
        """The caller of ``request``; the default account and region without a signature."""
        authorization = request.headers.get(b"authorization")
        if authorization is None:
            return self._read(request)
        scope = authorization.partition(b",")[0]
        caller = self._remembered.get(scope)
        if caller is None:
            caller = self._read(request)
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[scope] = caller
        return caller

    def _read(self, request: Request) -> Caller:
        signature = parse_signature(request.headers, request.query)
        if signature is None:
            return Caller(self._accounts.find(None), self._default_region)
        account = self._accounts.find(signature.access_key)
        return Caller(account, signature.region or self._default_region)
