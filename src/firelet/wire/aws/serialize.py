"""Output members of an operation as a response of the REST-JSON or JSON protocol.

What it is: Python values in; status, headers and body out, with only what the output shape has.
None is left out. What it is not: errors (``wire.aws.errors``) or XML (``wire.aws.query``).
Called by ``wire.aws.protocol``. Names of members that the shape does not have are added to
``unknown`` on the way; ``find_unknown`` says where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from firelet.wire.aws.model import Member, Operation, Shape
from firelet.wire.aws.scalars import RFC822, format_json_scalar, format_text

# dict first: it is nearly always one, and a Mapping takes longer to recognise.
_MAPPINGS = (dict, Mapping)
_LISTS = (list, tuple)


class OutputMismatch(TypeError):
    """A handler returned what the operation's output shape does not have. Our own fault."""


@dataclass(slots=True)
class Answer:
    """A response before HTTP. Header names are lower-case."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def format_rest(operation: Operation, output: Mapping[str, Any], unknown: list[str]) -> Answer:
    """The answer of a REST-JSON operation. It has no body when all that it could say is in the
    status and headers. Source: the sample response of InvokeAsync in the API reference of 2014."""
    answer = Answer(operation.status)
    shape = operation.output
    if shape is None:
        unknown += output
        return answer
    for name, member in shape.members.items():
        value = output.get(name)
        if value is not None and member.location is not None:
            _write_location(answer, member, value)
    if shape.payload is not None:
        unknown += output.keys() - shape.members.keys()
        _write_payload(answer, shape.members[shape.payload], output.get(shape.payload), unknown)
    elif shape.members and not shape.body_members:
        unknown += output.keys() - shape.members.keys()
        answer.headers["content-type"] = "application/json"
    else:
        _write_body(answer, format_json(shape, output, unknown), "application/json")
    return answer


def format_json_rpc(operation: Operation, output: Mapping[str, Any], unknown: list[str]) -> Answer:
    """The answer of a JSON 1.0 or 1.1 operation."""
    answer = Answer(200)
    content_type = f"application/x-amz-json-{operation.service.json_version}"
    if operation.output is None:
        unknown += output
        answer.headers["content-type"] = content_type
    else:
        _write_body(answer, format_json(operation.output, output, unknown), content_type)
    return answer


def format_json(
    shape: Shape, value: Any, unknown: list[str], timestamp_format: str | None = None
) -> object:
    """A value as what ``orjson`` can write. Members bound to headers or the status are left out,
    and so are those that the shape does not have; the order is the handler's. ``OutputMismatch``
    where a container is missing."""
    match shape.type:
        case "structure":
            return _format_structure(shape, value, unknown)
        case "list":
            return _format_list(shape, value, unknown)
        case "map":
            return _format_map(shape, value, unknown)
    return format_json_scalar(shape, value, timestamp_format)


def _format_structure(
    shape: Shape, value: Mapping[str, Any], unknown: list[str]
) -> dict[str, object]:
    """By what there is, not by what there may be: a configuration has 45 members, some twenty of
    them given, and a page has 50 configurations."""
    members = shape.body_members
    formatted = {}
    for name, given in _expect(_MAPPINGS, shape, value).items():
        member = members.get(name)
        if member is None:
            if name not in shape.members:
                unknown.append(name)
        elif type(given) is member.plain_type:  # most members: not worth a call
            formatted[member.wire_name] = given
        elif given is not None:
            formatted[member.wire_name] = format_json(
                member.shape, given, unknown, member.timestamp_format
            )
    return formatted


def _format_list(shape: Shape, value: Sequence[Any], unknown: list[str]) -> list[object]:
    element = shape.element
    inner, plain, timestamp_format = element.shape, element.plain_type, element.timestamp_format
    return [
        item if type(item) is plain else format_json(inner, item, unknown, timestamp_format)
        for item in _expect(_LISTS, shape, value)
    ]


def _format_map(shape: Shape, value: Mapping[Any, Any], unknown: list[str]) -> dict[str, object]:
    entry = shape.value
    inner, plain, timestamp_format = entry.shape, entry.plain_type, entry.timestamp_format
    return {
        str(key): item
        if type(item) is plain
        else format_json(inner, item, unknown, timestamp_format)
        for key, item in _expect(_MAPPINGS, shape, value).items()
        if item is not None
    }


def find_unknown(shape: Shape, value: Any) -> list[str]:
    """Paths of the members, at any depth, that the shape does not have.

    Raises ``OutputMismatch`` where a container is missing, so that CBOR and XML, which are written
    after this, need not ask; a scalar is checked when it is formatted.
    """
    found: list[str] = []
    _find_unknown(shape, value, "", found)
    return found


def _find_unknown(shape: Shape, value: Any, path: str, found: list[str]) -> None:
    match shape.type:
        case "structure":
            members = shape.members
            for name, given in _expect(_MAPPINGS, shape, value).items():
                member = members.get(name)
                if member is None:
                    found.append(path + name)
                elif given is not None and not member.shape.is_scalar:
                    _find_unknown(member.shape, given, f"{path}{name}.", found)
        case "list":
            items = _expect(_LISTS, shape, value)
            if not shape.element.shape.is_scalar:
                for item in items:
                    _find_unknown(shape.element.shape, item, path, found)
        case "map":
            entries = _expect(_MAPPINGS, shape, value)
            if not shape.value.shape.is_scalar:
                for item in entries.values():
                    if item is not None:
                        _find_unknown(shape.value.shape, item, path, found)


def _expect(container: tuple[type, ...], shape: Shape, value: Any) -> Any:
    if not isinstance(value, container):
        raise OutputMismatch(f"{shape.name} is a {shape.type}, not {type(value).__name__}")
    return value


def _write_location(answer: Answer, member: Member, value: Any) -> None:
    match member.location:
        case "statusCode":
            answer.status = value
        case "headers":
            for name, text in _expect(_MAPPINGS, member.shape, value).items():
                answer.headers[(member.wire_name + name).lower()] = text
        case "header" if member.shape.type == "list":
            element = member.shape.element.shape
            items = _expect(_LISTS, member.shape, value)
            texts = [format_text(element, item, RFC822) for item in items]
            answer.headers[member.wire_name.lower()] = ", ".join(texts)
        case "header":
            text = format_text(member.shape, value, member.timestamp_format or RFC822)
            answer.headers[member.wire_name.lower()] = text


def _write_payload(answer: Answer, member: Member, value: Any, unknown: list[str]) -> None:
    if value is None:
        return
    if member.shape.type == "blob":
        if not isinstance(value, bytes):
            raise OutputMismatch(f"{member.name} is a blob, not {type(value).__name__}")
        answer.body = value
        answer.headers.setdefault("content-type", "application/octet-stream")
    elif member.shape.type == "string":
        answer.body = str(value).encode()
        answer.headers.setdefault("content-type", "text/plain")
    else:
        _write_body(answer, format_json(member.shape, value, unknown), "application/json")


def _write_body(answer: Answer, value: object, content_type: str) -> None:
    answer.body = orjson.dumps(value)
    answer.headers["content-type"] = content_type
