"""Requests of the REST-JSON and JSON protocols as parameters of an operation.

What it is: bytes and text in; a dict of the input shape's member names and Python values out.
What it is not: validation, which is ``wire.aws.validate``. Unknown members and nulls are ignored,
as the service does. Called by ``wire.aws.protocol``.

Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from firelet.model.errors import SerializationError
from firelet.wire.aws.model import Member, Operation, Shape
from firelet.wire.aws.scalars import parse_json_scalar, parse_text


def parse_rest(
    operation: Operation,
    labels: Mapping[str, str],
    query: bytes,
    headers: Mapping[bytes, bytes],
    body: bytes,
) -> dict[str, Any]:
    """The parameters of a REST-JSON request. ``query`` is the undecoded query string."""
    shape = operation.input
    if shape is None:
        return {}
    params: dict[str, Any] = {}
    value: Any
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True) if query else {}
    takes_body = False
    for name, member in shape.members.items():
        match member.location:
            case "uri":
                value = parse_text(member.shape, labels[member.wire_name])
            case "querystring":
                value = _read_query(member, asked)
            case "header":
                value = _read_header(member, headers)
            case "headers":
                value = _read_prefixed_headers(member, headers)
            case _:
                takes_body = True
                continue
        if value is not None:
            params[name] = value
    if takes_body and body:
        params |= _read_body(shape, body)
    return params


def parse_json(operation: Operation, body: bytes) -> dict[str, Any]:
    """The parameters of a JSON 1.0 or 1.1 request."""
    shape = operation.input
    if shape is None or not body:
        return {}
    return _read_json_structure(shape, _load(body))


def read_json(shape: Shape, value: object) -> Any:
    """A JSON value, already decoded from text, as the shape's Python value."""
    match shape.type:
        case "structure":
            return _read_json_structure(shape, value)
        case "list":
            if not isinstance(value, list):
                raise _wrong_container(value, "list")
            items = [None if v is None else read_json(shape.element.shape, v) for v in value]
            # Where AWS lets a list hold nulls it drops them; elsewhere validation refuses them.
            return [v for v in items if v is not None] if drops_nulls(shape) else items
        case "map":
            if not isinstance(value, dict):
                raise _wrong_container(value, "map")
            reader = shape.value.shape
            return {k: None if v is None else read_json(reader, v) for k, v in value.items()}
    return parse_json_scalar(shape, value)


def drops_nulls(shape: Shape) -> bool:
    """Whether a list takes null elements: those whose model states a minimum length of zero.

    Source: recorded sentences, where only such lists (``securityGroupIds``, ``subnetIds``) do not
    name "Member must not be null" among the constraints of their elements.
    """
    return shape.min == 0


def _read_json_structure(shape: Shape, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_container(value, "map")
    params = {}
    for name, member in shape.members.items():
        if member.location is None:
            given = value.get(member.wire_name)
            if given is not None:
                params[name] = read_json(member.shape, given)
    return params


def _read_body(shape: Shape, body: bytes) -> dict[str, Any]:
    if shape.payload is None:
        given = _load(body)
        # `null` is what some clients send for "no members".
        return {} if given is None else _read_json_structure(shape, given)
    payload = shape.members[shape.payload].shape
    if payload.type == "blob":
        return {shape.payload: body}
    if payload.type == "string":
        return {shape.payload: _decode(body)}
    given = _load(body)
    return {} if given is None else {shape.payload: read_json(payload, given)}


def _read_query(member: Member, asked: Mapping[str, list[str]]) -> Any:
    if member.shape.type == "map":
        return _read_query_map(member.shape, asked) or None
    values = asked.get(member.wire_name)
    if values is None:
        return None
    if member.shape.type == "list":
        return [parse_text(member.shape.element.shape, value) for value in values]
    return parse_text(member.shape, values[0])


def _read_query_map(shape: Shape, asked: Mapping[str, list[str]]) -> dict[str, Any]:
    reader = shape.value.shape
    if reader.type == "list":
        element = reader.element.shape
        return {name: [parse_text(element, v) for v in given] for name, given in asked.items()}
    return {name: parse_text(reader, given[0]) for name, given in asked.items()}


def _read_header(member: Member, headers: Mapping[bytes, bytes]) -> Any:
    raw = headers.get(member.wire_name.lower().encode())
    if raw is None:
        return None
    if member.shape.type == "list":
        element = member.shape.element.shape
        return [parse_text(element, part.strip()) for part in _decode(raw).split(",")]
    return parse_text(member.shape, _decode(raw))


def _read_prefixed_headers(member: Member, headers: Mapping[bytes, bytes]) -> dict[str, str] | None:
    prefix = member.wire_name.lower().encode()
    found = {
        name[len(prefix) :].decode("latin-1"): _decode(raw)
        for name, raw in headers.items()
        if name.startswith(prefix)
    }
    return found or None


def _load(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SerializationError(f"Could not parse request body into json: {error}") from None


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _wrong_container(value: object, wanted: str) -> SerializationError:
    """The refusal of a scalar where a container belongs, or of the other container."""
    if isinstance(value, list):
        return SerializationError("Start of list found where not expected")
    if isinstance(value, dict):
        return SerializationError("Start of structure or map found where not expected")
    return SerializationError(f"Expected {wanted} or null")
