"""Which account an access key belongs to.

What it is: a pure reading of the key, plus a question to whoever issues keys here. What it is not:
authentication. A developer chooses an account by using its twelve digits as the access key.
Called by ``frontend.router`` for each request and by ``frontend.sts``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

DEFAULT_ACCOUNT = "000000000000"
DEFAULT_REGION = "us-east-1"

_ACCOUNT = re.compile("[0-9]{12}")
_CARRIES_ACCOUNT = re.compile("(AKIA|ASIA)[A-Z2-7]{16}")
_ACCOUNT_BITS = 40
_RANDOM_BITS = 39
_LARGEST = 999_999_999_999

FindIssued = Callable[[str], str | None]


def account_of_access_key(access_key: str, default: str = DEFAULT_ACCOUNT) -> str:
    """The account that a key names or carries, else ``default``.

    Keys that AWS has issued since 2019 carry it: of the 80 bits after the prefix the first is
    set, and the next 40 are the account. Older keys have that bit clear and say nothing.
    Source: the answers of STS GetAccessKeyInfo, which are the same.
    """
    if _ACCOUNT.fullmatch(access_key):
        return access_key
    if not _CARRIES_ACCOUNT.fullmatch(access_key):
        return default
    try:
        bits = int.from_bytes(base64.b32decode(access_key[4:]), "big")
    except binascii.Error:
        return default
    marker, account = divmod(bits >> _RANDOM_BITS, 1 << _ACCOUNT_BITS)
    return f"{account:012d}" if marker == 1 and account <= _LARGEST else default


class Accounts:
    """Accounts of callers. ``find_issued`` knows the keys that firelet itself issued."""

    def __init__(
        self, *, default: str = DEFAULT_ACCOUNT, find_issued: FindIssued | None = None
    ) -> None:
        self._default = default
        self._find_issued = find_issued

    def find(self, access_key: str | None) -> str:
        """The account of a caller; the default one for a caller without a key."""
        if access_key is None:
            return self._default
        if self._find_issued is not None:
            issued = self._find_issued(access_key)
            if issued is not None:
                return issued
        return account_of_access_key(access_key, self._default)
