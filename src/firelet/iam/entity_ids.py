"""Unique ids of IAM entities: four letters that name the kind, then 17 of base 32.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html ("Unique
identifiers"): AROA is a role, ANPA a managed policy.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

_DIGITS = 17
_BYTES = 11  # 88 bits make 18 digits, one more than is needed

ROLE = "AROA"
POLICY = "ANPA"


def new_entity_id(prefix: str) -> str:
    """A fresh random id of 21 characters."""
    return _format(prefix, secrets.token_bytes(_BYTES))


def derive_entity_id(prefix: str, name: str) -> str:
    """The same id each time for one name: for entities that exist without having been created."""
    return _format(prefix, hashlib.sha256(name.encode()).digest()[:_BYTES])


def _format(prefix: str, number: bytes) -> str:
    return prefix + base64.b32encode(number).decode("ascii")[:_DIGITS]
