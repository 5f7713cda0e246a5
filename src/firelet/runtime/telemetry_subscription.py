"""What an extension wants to hear of, and where: the body of a PUT to the Telemetry or Logs API.

Source: docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html and the Logs API's page
before it; bounds and defaults as in AWS's runtime interface emulator. The sentences are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NoReturn
from urllib.parse import urlsplit

import orjson

from firelet.model import limits


class Api(Enum):
    """Which API was called: they differ in their events. The value is its word in the log."""

    TELEMETRY = "TELEMETRY"
    LOGS = "LOGS"


class InvalidSubscription(Exception):
    """Answered 400; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A port of the sandbox. ``path`` and ``method`` are for HTTP; over TCP each event is one
    line."""

    port: int
    path: str | None = None
    host: str = "sandbox.localdomain"
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One extension's. Whichever of ``max_items``, ``max_bytes`` and ``timeout_s`` is reached
    first sends what has been buffered."""

    extension: str
    api: Api
    schema: str
    types: tuple[str, ...]
    destination: Destination
    max_items: int
    max_bytes: int
    timeout_s: float


_SCHEMAS = {
    Api.TELEMETRY: ("2025-01-29", "2022-12-13", "2022-07-01"),
    Api.LOGS: ("2021-03-18", "2020-08-15"),
}
_TYPES = ("platform", "function", "extension")
_HOSTS = ("sandbox.localdomain", "sandbox")
# Name, least, most, default.
_BUFFERING = (
    ("maxItems", 1_000, 10_000, 10_000),
    ("maxBytes", 262_144, 1_048_576, 262_144),
    ("timeoutMs", 25, 30_000, 1_000),
)
_PATH_MAX = 1_024


def parse_subscription(extension: str, api: Api, body: bytes) -> Subscription:
    """InvalidSubscription for anything that the API does not take."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidSubscription(f"failed to parse JSON: {error}") from None
    if not isinstance(document, dict):
        _refuse("the body is not a JSON object")
    schema = document.get("schemaVersion", "2020-08-15" if api is Api.LOGS else None)
    if schema not in _SCHEMAS[api]:
        _refuse(f"schemaVersion must be one of {', '.join(_SCHEMAS[api])}")
    types = document.get("types")
    if not isinstance(types, list) or not types or any(each not in _TYPES for each in types):
        _refuse(f"types must be a list of one or more of {', '.join(_TYPES)}")
    buffering = _parse_buffering(document.get("buffering", {}))
    return Subscription(
        extension=extension,
        api=api,
        schema=schema,
        types=tuple(dict.fromkeys(types)),
        destination=_parse_destination(document.get("destination")),
        max_items=buffering["maxItems"],
        max_bytes=buffering["maxBytes"],
        timeout_s=buffering["timeoutMs"] / 1000,
    )


def _parse_buffering(given: Any) -> dict[str, int]:
    if not isinstance(given, dict):
        _refuse("buffering is not an object")
    parsed = {}
    for name, least, most, default in _BUFFERING:
        value = given.get(name, default)
        if type(value) is not int or not least <= value <= most:
            _refuse(f"buffering.{name} must be a whole number from {least} to {most}")
        parsed[name] = value
    return parsed


def _parse_destination(given: Any) -> Destination:
    if not isinstance(given, dict):
        _refuse("destination is missing")
    protocol = given.get("protocol")
    if protocol == "TCP":
        return Destination(_check_port(given.get("port")))
    if protocol != "HTTP":
        _refuse("destination.protocol must be HTTP or TCP")
    uri = given.get("URI")
    if not isinstance(uri, str) or not uri.isascii() or not uri.isprintable() or " " in uri:
        _refuse("destination.URI is not a URI")
    try:
        parts = urlsplit(uri)
        port = 80 if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidSubscription(f"destination.URI is not a URI: {error}") from None
    if parts.scheme != "http" or parts.hostname not in _HOSTS:
        _refuse(f"destination.URI must begin with http://{_HOSTS[0]}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if len(path) > _PATH_MAX:
        _refuse(f"destination.URI is longer than {_PATH_MAX} characters")
    method = given.get("method", "POST")
    if method not in ("POST", "PUT") or given.get("encoding", "JSON") != "JSON":
        _refuse("destination.method must be POST or PUT, and destination.encoding JSON")
    return Destination(_check_port(port), path, f"{parts.hostname}:{port}", method)


def _check_port(port: Any) -> int:
    if type(port) is not int or not 1 <= port <= 65_535:
        _refuse("destination.port must be a whole number from 1 to 65535")
    if port == limits.RUNTIME_API_PORT:
        _refuse(f"port {port} is Lambda's own")
    return int(port)


def _refuse(message: str) -> NoReturn:
    raise InvalidSubscription(f"schema validation error: {message}")
