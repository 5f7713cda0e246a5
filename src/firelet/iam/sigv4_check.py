"""Checking of AWS Signature Version 4: is this request signed with that secret, and just now?

What it is: the symmetric variant, in the header or in the query, over the request as it came in.
What it is not: who the key belongs to (``iam.credentials``) or what it may do. Called by
``gateway.function_url_auth``.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from firelet.iam.sigv4 import Signature

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW_S = 300.0  # AWS: five minutes
_TIME = "%Y%m%dT%H%M%SZ"
_UNSIGNED = b"UNSIGNED-PAYLOAD"


def is_genuine(
    signature: Signature,
    secret_key: str,
    *,
    method: bytes,
    target: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
    now: float,
) -> bool:
    """Whether ``signature`` was made with ``secret_key`` over this request and is not stale.

    ``target`` is raw. Host and all headers that name the payload's digest must be what was signed.
    """
    if signature.algorithm != ALGORITHM or "host" not in signature.signed_headers:
        return False
    path, _, query = target.partition(b"?")
    moment = _signed_at(signature, headers, query)
    if moment is None or not _is_fresh(signature, query, moment, now):
        return False
    digest = hashlib.sha256(body).hexdigest().encode()
    stated = headers.get(b"x-amz-content-sha256", digest)
    if stated not in (digest, _UNSIGNED):
        return False
    names = signature.signed_headers
    canonical = b"\n".join(
        (
            method,
            quote(path, safe="/~").encode(),
            _canonical_query(query),
            *(name.encode("latin-1") + b":" + _canonical_value(headers, name) for name in names),
            b"",  # the list of headers ends with an empty line
            ";".join(names).encode("latin-1"),
            stated,
        )
    )
    scope = f"{signature.date}/{signature.region}/{signature.service}/aws4_request"
    hashed = hashlib.sha256(canonical).hexdigest()
    text = "\n".join((ALGORITHM, moment.strftime(_TIME), scope, hashed))
    expected = hmac.new(_key(signature, secret_key), text.encode("latin-1"), "sha256").hexdigest()
    return hmac.compare_digest(expected.encode(), signature.signature.encode("latin-1", "replace"))


def _key(signature: Signature, secret_key: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (signature.date, signature.region or "", signature.service, "aws4_request"):
        key = hmac.digest(key, part.encode("latin-1"), "sha256")
    return key


def _signed_at(
    signature: Signature, headers: Mapping[bytes, bytes], query: bytes
) -> datetime | None:
    if signature.is_presigned:
        text = _asked(query).get("X-Amz-Date", "")
    else:
        text = headers.get(b"x-amz-date", b"").decode("latin-1")
    try:
        moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if text.startswith(signature.date) else None


def _is_fresh(signature: Signature, query: bytes, moment: datetime, now: float) -> bool:
    age_s = now - moment.timestamp()
    if not signature.is_presigned:
        return abs(age_s) <= MAX_SKEW_S
    expires = _asked(query).get("X-Amz-Expires", "")
    return expires.isdecimal() and -MAX_SKEW_S <= age_s <= int(expires)


def _asked(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def _canonical_query(query: bytes) -> bytes:
    """Sorted by name and then value, each encoded once more from scratch, without the signature."""
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True)
        if name != "X-Amz-Signature"
    )
    return "&".join(f"{name}={value}" for name, value in pairs).encode()


def _canonical_value(headers: Mapping[bytes, bytes], name: str) -> bytes:
    return b" ".join(headers.get(name.encode("latin-1"), b"").split())
