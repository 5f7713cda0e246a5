"""Reading of AWS Signature Version 4: who signed, for which region and service.

What it is: the parts of an ``Authorization`` header or of a presigned query. What it is not: the
check of the signature. A request that carries none, or one that cannot be read, has no signature:
whether that is allowed is the caller's decision. Called by ``frontend.router`` and ``auth``.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A signature as the request states it. ``region`` is None where the scope names none."""

    algorithm: str
    access_key: str
    date: str  # 20261124
    region: str | None
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    session_token: str | None
    is_presigned: bool


def parse_signature(headers: Mapping[bytes, bytes], query: bytes) -> Signature | None:
    """The signature of a request, from its header or else from its undecoded query string."""
    authorization = headers.get(b"authorization")
    if authorization is not None:
        return _parse_header(authorization.decode("latin-1"), headers)
    if b"X-Amz-Credential" in query:
        return _parse_presigned(query, headers)
    return None


def _parse_header(authorization: str, headers: Mapping[bytes, bytes]) -> Signature | None:
    algorithm, _, rest = authorization.partition(" ")
    stated = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        stated[name] = value
    return _make(
        algorithm,
        stated.get("Credential", ""),
        signed_headers=stated.get("SignedHeaders", ""),
        signature=stated.get("Signature", ""),
        session_token=_header(headers, b"x-amz-security-token"),
        region_set=_header(headers, b"x-amz-region-set"),
        is_presigned=False,
    )


def _parse_presigned(query: bytes, headers: Mapping[bytes, bytes]) -> Signature | None:
    asked = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    return _make(
        asked.get("X-Amz-Algorithm", ""),
        asked.get("X-Amz-Credential", ""),
        signed_headers=asked.get("X-Amz-SignedHeaders", ""),
        signature=asked.get("X-Amz-Signature", ""),
        session_token=asked.get("X-Amz-Security-Token"),
        region_set=asked.get("X-Amz-Region-Set", _header(headers, b"x-amz-region-set")),
        is_presigned=True,
    )


def _make(
    algorithm: str,
    credential: str,
    *,
    signed_headers: str,
    signature: str,
    session_token: str | None,
    region_set: str | None,
    is_presigned: bool,
) -> Signature | None:
    region: str | None
    match algorithm, credential.split("/"):
        case ("AWS4-HMAC-SHA256", [access_key, date, region, service, "aws4_request"]):
            pass
        case ("AWS4-ECDSA-P256-SHA256", [access_key, date, service, "aws4_request"]):
            # The asymmetric variant says its regions apart from the scope: a set of one plain
            # region is as good as a scope, a pattern names no region.
            region = None if not region_set or set(region_set) & set(",*") else region_set
        case _:
            return None
    if not (access_key and service):
        return None
    return Signature(
        algorithm=algorithm,
        access_key=access_key,
        date=date,
        region=region or None,
        service=service,
        signed_headers=tuple(signed_headers.split(";")) if signed_headers else (),
        signature=signature,
        session_token=session_token,
        is_presigned=is_presigned,
    )


def _header(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    raw = headers.get(name)
    return None if raw is None else raw.decode("latin-1")
