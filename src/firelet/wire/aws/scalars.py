"""Scalars of the service models between their wire forms and Python values.

Python side: str, int, float, bool, bytes for blobs, aware datetimes for timestamps. Wire side:
JSON values, and text in paths, query strings, headers, forms and XML. Called by the parsers and
serialisers of the protocols. Raises ``SerializationError`` for what a caller sent, ``TypeError``
or ``ValueError`` for what a handler returned.

Source: https://smithy.io/2.0/spec/protocol-traits.html#timestampformat-trait
"""

from __future__ import annotations

import base64
import binascii
import math
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from firelet.model.errors import SerializationError
from firelet.wire.aws.model import Shape

Scalar = str | int | float | bool | bytes | datetime

# AWS's services are written in Java: these are the widths of its types.
_INTEGER_BITS = {"integer": 32, "long": 64}
_JAVA_NAMES = {
    "string": "a String",
    "character": "a Character",
    "integer": "an Integer",
    "long": "a Long",
    "double": "a Double",
    "float": "a Float",
    "boolean": "a Boolean",
    "timestamp": "a Date",
    "blob": "a Blob",
}
# Slice of base64 text decoded at once, a multiple of four: a large package is decoded in a
# thread, and a single call would keep the interpreter lock for all of it.
_BASE64_SLICE = 1 << 20

ISO8601, RFC822, EPOCH = "iso8601", "rfc822", "unixTimestamp"


def parse_json_scalar(shape: Shape, value: object) -> Scalar:
    """A JSON value as the shape's Python value. Numbers and booleans may be given as text."""
    match shape.type, value:
        case (("string" | "character"), str()):
            return value
        case "boolean", bool():
            return value
        case (("integer" | "long"), int() | float()) if not isinstance(value, bool):
            return _checked_integer(shape, value)
        case (("double" | "float"), int() | float()) if not isinstance(value, bool):
            return float(value)
        case "timestamp", int() | float() if not isinstance(value, bool):
            return parse_text(shape, str(value))
        case _, str():
            return parse_text(shape, value)
        # CBOR has types for these, JSON has not.
        case "timestamp", datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case "blob", bytes():
            return value
    raise mismatch(shape, value)


def parse_text(shape: Shape, text: str) -> Scalar:
    """The text of a label, query parameter, header or form field as the shape's Python value."""
    try:
        match shape.type:
            case "string" | "character":
                return text
            case "integer" | "long":
                return _checked_integer(shape, int(text))
            case "double" | "float" if math.isfinite(number := float(text)):
                return number
            case "boolean" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "timestamp":
                return parse_timestamp(text)
            case "blob":
                return _decode_base64(text)
    except (ValueError, OverflowError):
        pass  # the shared refusal follows
    raise mismatch(shape, text)


def mismatch(shape: Shape, value: object) -> SerializationError:
    """The refusal of a value of a wrong JSON type, in the words of AWS's own parser."""
    match value:
        case list():
            return SerializationError("Start of list found where not expected")
        case dict():
            return SerializationError("Start of structure or map found where not expected")
    token = {str: "STRING", bool: str(value).upper()}.get(type(value), "NUMBER")
    wanted = _JAVA_NAMES.get(shape.type, f"a {shape.name}")
    return SerializationError(f"{token}_VALUE can not be converted to {wanted}")


def parse_timestamp(text: str) -> datetime:
    """Any of the three formats, whichever the client chose. Raises ``ValueError``."""
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return datetime.fromtimestamp(seconds, UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = parsedate_to_datetime(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_timestamp(moment: object, style: str) -> str | float:
    """``moment`` (aware datetime, or epoch seconds) in one of the three formats."""
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        moment = datetime.fromtimestamp(moment, UTC)
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise TypeError(f"a timestamp must be an aware datetime or epoch seconds, not {moment!r}")
    if style == EPOCH:
        return moment.timestamp()
    if style == RFC822:
        return format_datetime(moment.astimezone(UTC), usegmt=True)
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def format_json_scalar(shape: Shape, value: object, timestamp_format: str | None) -> object:
    """The JSON value of an output member; ``TypeError`` when it is not of the shape's type."""
    match shape.type, value:
        case (("string" | "character"), str()):
            return str(value)  # a StrEnum too
        case (("integer" | "long"), int()) if not isinstance(value, bool):
            return value
        case (("double" | "float"), int() | float()) if not isinstance(value, bool):
            return value
        case "boolean", bool():
            return value
        case "blob", bytes():
            return base64.b64encode(value).decode()
        case "timestamp", _:
            return format_timestamp(value, timestamp_format or EPOCH)
    raise TypeError(f"{shape.name} is a {shape.type}, not {type(value).__name__}")


def format_text(shape: Shape, value: object, timestamp_format: str) -> str:
    """The text of an output member in a header or in XML."""
    scalar = format_json_scalar(shape, value, timestamp_format)
    if isinstance(scalar, bool):
        return "true" if scalar else "false"
    return str(scalar)


def _checked_integer(shape: Shape, value: float) -> int:
    bits = _INTEGER_BITS[shape.type]
    if value != value // 1 or not -(1 << bits - 1) <= value < (1 << bits - 1):
        raise mismatch(shape, value)
    return int(value)


def _decode_base64(text: str) -> bytes:
    try:
        encoded = text.encode("ascii")
        return b"".join(
            binascii.a2b_base64(encoded[at : at + _BASE64_SLICE], strict_mode=True)
            for at in range(0, len(encoded), _BASE64_SLICE)
        )
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError(str(error)) from None
