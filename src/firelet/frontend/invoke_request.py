"""What the headers and the path of an invoke request say, in AWS's own terms and sentences.

Values only: for ``frontend.invoke`` and ``frontend.invoke_stream``, which are served before the
service models are looked at. Source: docs.aws.amazon.com/lambda/latest/api/API_Invoke.html.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from urllib.parse import parse_qsl, unquote

import orjson

from firelet.model import limits
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import (
    InvalidParameterValue,
    InvalidRequestContent,
    ValidationError,
)

LOG_TYPES = ("None", "Tail")
_NAME_PATTERN = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?"
    r"(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_NAME = re.compile(_NAME_PATTERN)
_QUALIFIER = re.compile(r"\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+")
_TENANT_ID = re.compile(r"[a-zA-Z0-9\._:\/=+\-@ ]+")
_TENANT_ID_MAX = 256
_REFS_MAX = 4_096
_REF_BYTES_MAX = 512  # of name and query; longer ones are not worth remembering


class References:
    """The functions that targets name, and the last of them."""

    def __init__(self) -> None:
        self._refs: dict[tuple[bytes, bytes], FunctionRef] = {}

    def find(self, name: bytes, query: bytes) -> FunctionRef:
        """Parsed once for all calls that name the function alike; errors are not remembered."""
        ref = self._refs.get((name, query))
        if ref is None:
            ref = _parse_ref(name, query)
            if len(name) + len(query) <= _REF_BYTES_MAX:
                if len(self._refs) >= _REFS_MAX:
                    self._refs.clear()
                self._refs[name, query] = ref
        return ref


def _parse_ref(name: bytes, query: bytes) -> FunctionRef:
    text = unquote(name.decode("latin-1"))
    if _NAME.fullmatch(text) is None:
        raise _invalid(text, "functionName", f"satisfy regular expression pattern: {_NAME_PATTERN}")
    ref = parse_function_ref(text)
    if not query:
        return ref
    qualifier = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)).get("Qualifier")
    if qualifier is None:
        return ref
    if _QUALIFIER.fullmatch(qualifier) is None:
        raise _invalid(
            qualifier, "qualifier", f"satisfy regular expression pattern: {_QUALIFIER.pattern}"
        )
    return ref.with_qualifier(qualifier)


def parse_choice(
    headers: dict[bytes, bytes], header: bytes, member: str, allowed: tuple[str, ...]
) -> str:
    """The value of a header with few values; the first one without the header."""
    value = headers.get(header)
    if value is None:
        return allowed[0]
    text = value.decode("latin-1")
    if text not in allowed:
        raise _invalid(text, member, f"satisfy enum value set: [{', '.join(allowed)}]")
    return text


def _invalid(value: str, member: str, rule: str) -> ValidationError:
    return ValidationError(
        f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy"
        f" constraint: Member must {rule}"
    )


def decode_client_context(header: bytes | None) -> str | None:
    """Base64 JSON on the API, plain JSON on the Runtime API."""
    if header is None:
        return None
    if len(header) > limits.CLIENT_CONTEXT_MAX_BYTES:
        raise InvalidParameterValue("Client context must be no more than 3583 bytes.")
    try:
        decoded = base64.b64decode(header, validate=True)
        orjson.loads(decoded)
    except (binascii.Error, orjson.JSONDecodeError):
        raise InvalidRequestContent(
            "Client context must be a valid Base64-encoded JSON object."
        ) from None
    # On one line: it becomes a header again.
    return orjson.dumps(orjson.loads(decoded)).decode()


def make_request_id() -> str:
    """A random UUID of version 4 (RFC 9562), for a third of what the class in ``uuid`` takes."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def parse_tenant_id(header: bytes | None) -> str | None:
    """Source: service model, shape TenantId."""
    if header is None:
        return None
    text = header.decode("latin-1")
    if not text or len(text) > _TENANT_ID_MAX:
        rule = f"less than or equal to {_TENANT_ID_MAX}" if text else "greater than or equal to 1"
        raise _invalid(text, "tenantId", f"have length {rule}")
    if _TENANT_ID.fullmatch(text) is None:
        raise _invalid(
            text, "tenantId", f"satisfy regular expression pattern: {_TENANT_ID.pattern}"
        )
    return text
