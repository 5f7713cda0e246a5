"""Function URLs as values: what answers at one address, and how.

``control.urls`` owns the changes; serving the address is the gateway's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_INVOKE_MODE = "BUFFERED"
RESPONSE_STREAM = "RESPONSE_STREAM"


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUrl:
    """The URL of a function or of an alias. ``url_id`` is the first label of its host name.

    ``cors`` has the members of AWS's shape ``Cors``; None without CORS. ``invoke_mode`` is None
    until somebody sets it, and means BUFFERED then.
    """

    url_id: str
    auth_type: str
    cors: Mapping[str, Any] | None = None
    invoke_mode: str | None = None
    created: str  # 2026-11-23T07:00:00.000000Z
    last_modified: str


def format_function_url(url_id: str, region: str, origin: str) -> str:
    """The address under which this platform serves a URL. ``origin`` is scheme, host and port
    as the caller reached the platform: names below ``localhost`` are the same machine."""
    scheme, _, host = origin.partition("://")
    _, colon, port = host.rpartition(":")
    suffix = f":{port}" if colon and port.isdigit() else ""
    return f"{scheme}://{url_id}.lambda-url.{region}.localhost{suffix}/"
