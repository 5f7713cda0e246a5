"""A plain HTTP client that goes to one address and names another: what a browser does with names
below ``localhost``, for hosts whose resolver does not know them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """``headers`` are by lower-case name; of repeated ones, ``cookies`` has Set-Cookie's."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: tuple[str, ...]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    method: str = "GET",
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
) -> WebAnswer:
    """One request to ``url`` on a connection of its own to ``address``."""
    parts = urlsplit(url)
    assert parts.port is not None
    connection = http.client.HTTPConnection(address, parts.port, timeout=60)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, {"Host": parts.netloc, **(headers or {})})
        response = connection.getresponse()
        return WebAnswer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
            tuple(response.headers.get_all("set-cookie") or ()),
        )
    finally:
        connection.close()
