"""The query protocol: forms in, XML out (IAM, STS).

What it is: both directions of one protocol, which share its naming of lists and maps. Called by
``wire.aws.protocol``; errors in this protocol are in ``wire.aws.errors``.

Source: https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from firelet.wire.aws.model import Member, Operation, Shape
from firelet.wire.aws.scalars import ISO8601, format_text, parse_text

_ENTRY_NUMBER = re.compile("[0-9]{1,9}")
# What XML 1.0 cannot carry at all, even escaped.
_UNCARRIABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class _Field:
    """One dotted name of the form: ``Tags.member.1.Key`` is four of them."""

    text: str | None = None
    children: dict[str, _Field] = field(default_factory=dict)


def parse_form(operation: Operation, form: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a query-protocol request, from a decoded form."""
    shape = operation.input
    if shape is None:
        return {}
    root = _Field()
    for name, text in form.items():
        at = root
        for part in name.split("."):
            at = at.children.setdefault(part, _Field())
        at.text = text
    return _read_structure(shape, root)


def _read_structure(shape: Shape, given: _Field) -> dict[str, Any]:
    params = {}
    for name, member in shape.members.items():
        child = given.children.get(member.entry_name)
        if child is not None:
            params[name] = _read(member, child)
    return params


def _read(member: Member, given: _Field) -> Any:
    shape = member.shape
    match shape.type:
        case "structure":
            return _read_structure(shape, given)
        case "list":
            parent = given if member.is_flattened else _child(given, shape.element.wire_name)
            return [_read(shape.element, item) for item in _numbered(parent)]
        case "map":
            parent = given if member.is_flattened else _child(given, "entry")
            return {
                _child(entry, shape.key.wire_name).text or "": _read(
                    shape.value, _child(entry, shape.value.wire_name)
                )
                for entry in _numbered(parent)
            }
    return parse_text(shape, given.text or "")


def _child(given: _Field, name: str) -> _Field:
    return given.children.get(name) or _Field()


def _numbered(given: _Field) -> Iterable[_Field]:
    """Entries in the order of their numbers, whatever the order of the form and its gaps."""
    numbers = sorted(filter(_ENTRY_NUMBER.fullmatch, given.children), key=int)
    return [given.children[number] for number in numbers]


def format_xml(operation: Operation, output: Mapping[str, Any], request_id: str) -> bytes:
    """The answer of a query-protocol operation. ``output`` has been checked against the shape."""
    name = operation.name
    parts = [f'<{name}Response xmlns="{escape(operation.service.xml_namespace)}">']
    if operation.output is not None:
        wrapper = operation.result_wrapper
        if wrapper is not None:
            parts.append(f"<{wrapper}>")
        parts.extend(_write_structure(operation.output, output))
        if wrapper is not None:
            parts.append(f"</{wrapper}>")
    parts.append(f"<ResponseMetadata><RequestId>{escape(request_id)}</RequestId>")
    parts.append(f"</ResponseMetadata></{name}Response>")
    return "".join(parts).encode()


def escape_text(text: str) -> str:
    """Text for an XML element. A carriage return is escaped, since parsers would normalise it."""
    return escape(_UNCARRIABLE.sub("\ufffd", text), quote=False).replace("\r", "&#xD;")


def _write_structure(shape: Shape, value: Mapping[str, Any]) -> Iterator[str]:
    for name, member in shape.members.items():
        given = value.get(name)
        if given is not None:
            yield from _write(member, member.wire_name, given)


def _write(member: Member, tag: str, value: Any) -> Iterator[str]:
    shape = member.shape
    if shape.type == "list" and member.is_flattened:
        for item in value:
            yield from _write(shape.element, member.entry_name, item)
        return
    if shape.type == "map" and member.is_flattened:
        for key, item in value.items():
            yield f"<{tag}>"
            yield from _write_entry(shape, key, item)
            yield f"</{tag}>"
        return
    yield f"<{tag}>"
    match shape.type:
        case "structure":
            yield from _write_structure(shape, value)
        case "list":
            for item in value:
                yield from _write(shape.element, shape.element.wire_name, item)
        case "map":
            for key, item in value.items():
                yield "<entry>"
                yield from _write_entry(shape, key, item)
                yield "</entry>"
        case _:
            yield escape_text(format_text(shape, value, member.timestamp_format or ISO8601))
    yield f"</{tag}>"


def _write_entry(shape: Shape, key: Any, value: Any) -> Iterator[str]:
    yield from _write(shape.key, shape.key.wire_name, key)
    yield from _write(shape.value, shape.value.wire_name, value)
