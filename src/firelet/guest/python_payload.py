"""Event bytes → Python value → response bytes, with the exact rules of AWS's Python client.

AWS serialises with simplejson, whose rules differ from the standard library's: a named tuple is
an object, bytes are text, a Decimal is a number with all its digits. Plain values, which is
nearly all of them, take the C encoder; anything else takes ``_Writer``, which knows those rules.
Source: the marshaller of the official client.
"""

from __future__ import annotations

import json
import marshal
import sys
from json.encoder import encode_basestring, encode_basestring_ascii

from firelet.guest.python_fault import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_INFINITY = float("inf")
_decode = json.JSONDecoder().decode

# Runtimes from 3.12 on write text as UTF-8; the ones before escape what is not ASCII.
_UTF8_RUNTIMES = frozenset(f"AWS_Lambda_python3.{minor}" for minor in range(12, 16))


def parse_event(body: bytes, content_type: str | None) -> object:
    """The event as the handler gets it; bytes that are not declared to be JSON stay as they are.

    Errors: Fault Runtime.UnmarshalError.
    """
    if content_type != "application/json":
        return body
    try:
        return _decode(body.decode("utf-8"))
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


class ResultFormatter:
    """Formats what handlers return. One per runtime: the execution environment sets the rules."""

    def __init__(self, execution_environment: str) -> None:
        is_ascii = execution_environment not in _UTF8_RUNTIMES
        self._encode = json.JSONEncoder(ensure_ascii=is_ascii).encode
        self._quote = encode_basestring_ascii if is_ascii else encode_basestring

    def format_result(self, result: object) -> tuple[bytes, bytes]:
        """(body, content type). Errors: Fault Runtime.MarshalError."""
        if isinstance(result, bytes):
            return result, b"application/unknown"
        try:
            return self.format_json(result), b"application/json"
        except Exception as error:
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None

    def format_json(self, value: object) -> bytes:
        """JSON as UTF-8. Errors: TypeError, ValueError, RecursionError."""
        if _is_plain(value):
            try:
                return self._encode(value).encode("utf-8")
            except (TypeError, ValueError, RecursionError):
                # Plain types that JSON has no form for, or an odd key: the rules decide.
                return _Writer(self._quote).format(value)
        return _Writer(self._quote).format(value)


def _is_plain(value: Any) -> bool:
    """True if the value is built of exact built-in types only: marshal refuses all others, and
    walks in C, faster than any walk from here could find a named tuple."""
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


class _Writer:
    """One formatting of one value. Slow next to the C encoder, and complete."""

    def __init__(self, quote: Callable[[str], str]) -> None:
        self._quote = quote
        self._parts: list[str] = []
        self._open: set[int] = set()

    def format(self, value: object) -> bytes:
        self._write(value)
        return "".join(self._parts).encode("utf-8")

    def _write(self, value: Any) -> None:
        scalar = self._scalar(value)
        if scalar is not None:
            self._parts.append(scalar)
            return
        if id(value) in self._open:
            raise ValueError("Circular reference detected")
        self._open.add(id(value))
        fields = _call_asdict(value)
        if fields is not None:
            self._write_object(fields)
        elif isinstance(value, (list, tuple)):
            self._write_array(value)
        elif isinstance(value, dict):
            self._write_object(value)
        else:
            self._parts.append(_format_decimal(value))
        self._open.discard(id(value))

    def _scalar(self, value: object) -> str | None:
        if isinstance(value, str):
            return self._quote(value)
        if isinstance(value, bytes):
            return self._quote(value.decode("utf-8"))
        if value is None:
            return "null"
        if isinstance(value, (bool, int, float)):
            return _format_number(value)
        return None

    def _write_array(self, items: list[Any] | tuple[Any, ...]) -> None:
        separator = "["
        for item in items:
            self._parts.append(separator)
            self._write(item)
            separator = ", "
        self._parts.append("]" if separator == ", " else "[]")

    def _write_object(self, fields: dict[Any, Any]) -> None:
        separator = "{"
        for key, item in fields.items():
            self._parts.append(separator)
            self._parts.append(self._quote(_format_key(key)))
            self._parts.append(": ")
            self._write(item)
            separator = ", "
        self._parts.append("}" if separator == ", " else "{}")


def _call_asdict(value: object) -> dict[Any, Any] | None:
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"_asdict() must return a dict, not {type(fields).__name__}")
    return fields


def _format_number(value: float) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if value != value:
        return "NaN"
    if value in (_INFINITY, -_INFINITY):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _format_key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8")
    if key is None:
        return "null"
    if isinstance(key, (bool, int, float)):
        return _format_number(key)
    raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")


def _format_decimal(value: Any) -> str:
    # If nobody has imported decimal, this is not one.
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return "NaN" if value.is_nan() else str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
