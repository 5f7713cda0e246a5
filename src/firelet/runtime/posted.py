"""What the Runtime API says to runtimes, and what it makes of the errors that they post.

Values only. Source: error types and sentences as in AWS's runtime interface emulator.
"""

from __future__ import annotations

import re

import orjson

from firelet.wire.http1 import Response

JSON = (b"content-type", b"application/json")
ACCEPTED = Response(202, b'{"status":"OK"}\n', (JSON,))
_KNOWN_ERROR_TYPE = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")
# What the function names its errors ends up in log lines of ours: names only.
_OWN_ERROR_TYPE = re.compile(r"[A-Za-z_][\w.:$-]{0,127}")


def format_error(error_type: str, message: str) -> bytes:
    """An error document in the key order of the Runtime API."""
    return orjson.dumps({"errorMessage": message, "errorType": error_type})


def refuse(status: int, error_type: str, message: str) -> Response:
    """The answer to a call that is not taken."""
    return Response(status, format_error(error_type, message), (JSON,))


def name_error(header: bytes | None, body: bytes) -> str:
    """The type of an error: from its header if that is one that AWS knows, else from its
    document."""
    named = b"" if header is None else header
    text = named.decode("latin-1")
    if _KNOWN_ERROR_TYPE.fullmatch(text):
        return text
    return _type_in(body) or "Function.Unknown"


def _type_in(body: bytes) -> str | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    value = document.get("errorType") if isinstance(document, dict) else None
    return value if isinstance(value, str) and _OWN_ERROR_TYPE.fullmatch(value) else None
