"""The download link of GetFunction: ``Code.Location``, signed and good for ten minutes.

The link carries the zip's digest, its expiry and an HMAC of both; nothing is remembered.
``CodeLinks.make`` is called by ``frontend.functions``; ``CodeLinks.page`` is an HTTP application
that ``app`` serves below ``PATH_PREFIX``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
import time
from collections.abc import Callable
from xml.sax.saxutils import escape

from firelet.model import limits
from firelet.store.blobs import BlobStore
from firelet.wire.http1 import Request, Response

PATH_PREFIX = "/_firelet/code/"

_TOKEN = struct.Struct(">32sQ32s")  # digest, expiry in seconds since the epoch, HMAC-SHA-256


class CodeLinks:
    """Makes links and answers them."""

    def __init__(
        self, key: bytes, blobs: BlobStore, clock: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._blobs = blobs
        self._clock = clock

    def make(self, base_url: str, digest: str) -> str:
        """A link to the zip of that digest (hexadecimal)."""
        expires = int(self._clock()) + limits.CODE_LINK_LIFETIME_S
        raw = bytes.fromhex(digest)
        token = _TOKEN.pack(raw, expires, self._sign(raw, expires))
        text = base64.urlsafe_b64encode(token).decode().rstrip("=")
        return f"{base_url.rstrip('/')}{PATH_PREFIX}{text}"

    async def page(self, request: Request) -> Response:
        """The zip; or 403, as S3 answers a presigned link that is wrong or too old."""
        if request.method not in (b"GET", b"HEAD"):
            return _error(405, "MethodNotAllowed", "The specified method is not allowed.")
        text = request.path.removeprefix(PATH_PREFIX.encode())
        try:
            token = base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True)
            digest, expires, signature = _TOKEN.unpack(token)
        except (ValueError, struct.error):
            return _error(403, "AccessDenied", "Access Denied")
        if not hmac.compare_digest(signature, self._sign(digest, expires)):
            return _error(403, "AccessDenied", "Access Denied")
        if self._clock() > expires:
            return _error(403, "AccessDenied", "Request has expired")
        if not self._blobs.contains(digest.hex()):
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        headers = ((b"content-type", b"application/zip"),)
        return Response(200, await self._blobs.read(digest.hex()), headers)

    def _sign(self, digest: bytes, expires: int) -> bytes:
        return hmac.digest(self._key, digest + expires.to_bytes(8, "big"), hashlib.sha256)


def _error(status: int, code: str, message: str) -> Response:
    """Source: REST error responses, Amazon S3 API reference."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    )
    return Response(status, body.encode(), ((b"content-type", b"application/xml"),))
