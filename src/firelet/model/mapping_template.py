"""Mapping templates of API Gateway: text with references such as ``$input.json('$.name')``.

Pure. What it is: literal text and the references ``$input``, ``$context``, ``$stageVariables`` and
``$util``. What it is not: the directives of Velocity (``#set``, ``#if``, ``#foreach``): a template
that has one is refused with ``UnsupportedTemplate`` when it is set, not when it is used.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-mapping-template-reference.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, unquote_plus

_START = re.compile(r"\$(!?)(\{?)([a-zA-Z][\w-]*)")
_NAME = re.compile(r"\.([a-zA-Z][\w-]*)")
_STRING = re.compile(r"\s*(?:'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\")\s*")
_DIRECTIVE = re.compile(
    r"#\{?(set|if|elseif|else|end|foreach|break|stop|include|parse|macro|define|evaluate)\b"
)
_LINE_COMMENT = re.compile(r"##[^\n]*(\n|$)")
_PATH_STEP = re.compile(r"\.([\w-]+)|\[(\d+)\]|\['([^']+)'\]|\[\"([^\"]+)\"\]")
_ROOTS = frozenset(("input", "context", "stageVariables", "util"))
_DEPTH_MAX = 20
_TEMPLATE_MAX_CHARS = 307_200  # quotas of REST APIs

MISSING = object()


class UnsupportedTemplate(ValueError):
    """The template uses what firelet does not evaluate; the message says what."""


@dataclass(frozen=True, slots=True)
class Variables:
    """What a template sees. ``params`` has ``path``, ``querystring`` and ``header``."""

    body: str = ""
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    stage_variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Call:
    """``.name`` or ``.name(arguments)``; ``arguments`` is None without parentheses."""

    name: str
    arguments: tuple[str | _Reference, ...] | None


@dataclass(frozen=True, slots=True)
class _Reference:
    source: str
    is_quiet: bool
    root: str
    steps: tuple[_Call, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: text and references, in their order."""

    parts: tuple[str | _Reference, ...]

    @property
    def is_literal(self) -> bool:
        return all(isinstance(part, str) for part in self.parts)

    def render(self, variables: Variables) -> str:
        """The text. What has no value is left out, except names that mean nothing here: those
        stay as they were written, as Velocity leaves them."""
        return "".join(
            part if isinstance(part, str) else _render(part, variables) for part in self.parts
        )


def parse_template(text: str) -> Template:
    """UnsupportedTemplate for directives and for methods that are not known."""
    if len(text) > _TEMPLATE_MAX_CHARS:
        raise UnsupportedTemplate(f"it is longer than {_TEMPLATE_MAX_CHARS} characters")
    text = _LINE_COMMENT.sub("", _without_block_comments(text))
    directive = _DIRECTIVE.search(text)
    if directive is not None:
        raise UnsupportedTemplate(f"the directive #{directive[1]} is not evaluated by firelet")
    parts: list[str | _Reference] = []
    at = 0
    for start in _START.finditer(text):
        if start.start() < at:
            continue  # inside of the reference before
        reference, end = _parse_reference(text, start, 0)
        parts += [text[at : start.start()], reference]
        at = end
    parts.append(text[at:])
    return Template(tuple(part for part in parts if part != ""))


def _without_block_comments(text: str) -> str:
    """Without ``#* … *#``. One that does not end is text."""
    kept: list[str] = []
    at = 0
    while True:
        start = text.find("#*", at)
        end = text.find("*#", start + 2) if start >= 0 else -1
        if end < 0:
            return "".join((*kept, text[at:]))
        kept.append(text[at:start])
        at = end + 2


def _parse_reference(text: str, start: re.Match[str], depth: int) -> tuple[_Reference, int]:
    if depth > _DEPTH_MAX:
        raise UnsupportedTemplate("references are nested too deeply")
    is_braced = bool(start[2])
    at, steps = start.end(), []
    while True:
        name = _NAME.match(text, at)
        if name is None:
            break
        at = name.end()
        arguments = None
        if text[at : at + 1] == "(":
            arguments, at = _parse_arguments(text, at + 1, depth)
        steps.append(_Call(name[1], arguments))
    if is_braced:
        if text[at : at + 1] != "}":
            raise UnsupportedTemplate(f"{text[start.start() : at + 1]!r} is not closed")
        at += 1
    reference = _Reference(text[start.start() : at], bool(start[1]), start[3], tuple(steps))
    _check(reference)
    return reference, at


def _parse_arguments(text: str, at: int, depth: int) -> tuple[tuple[str | _Reference, ...], int]:
    arguments: list[str | _Reference] = []
    while True:
        while text[at : at + 1].isspace():
            at += 1
        if text[at : at + 1] == ")" and not arguments:
            return (), at + 1
        string = _STRING.match(text, at)
        start = None if string else _START.match(text, at)
        if string is not None:
            arguments.append(string[1] if string[1] is not None else string[2])
            at = string.end()
        elif start is not None:
            reference, at = _parse_reference(text, start, depth + 1)
            arguments.append(reference)
        else:
            raise UnsupportedTemplate("an argument is neither a string nor a reference")
        while text[at : at + 1].isspace():
            at += 1
        after = text[at : at + 1]
        at += 1
        if after == ")":
            return tuple(arguments), at
        if after != ",":
            raise UnsupportedTemplate("a list of arguments is not closed")


def _check(reference: _Reference) -> None:
    if reference.root not in ("input", "util"):
        return
    known = _INPUT if reference.root == "input" else _UTIL
    if not reference.steps or reference.steps[0].name not in known:
        raise UnsupportedTemplate(f"{reference.source} is not known to firelet")


def _render(reference: _Reference, variables: Variables) -> str:
    if reference.root not in _ROOTS:
        return "" if reference.is_quiet else reference.source
    return _format(_evaluate(reference, variables))


def _evaluate(reference: _Reference, variables: Variables) -> Any:
    steps = list(reference.steps)
    value: Any
    match reference.root:
        case "context":
            value = variables.context
        case "stageVariables":
            value = variables.stage_variables
        case "util":
            step = steps.pop(0)
            value = _UTIL[step.name](_argument(step, variables))
        case _:
            step = steps.pop(0)
            value = _INPUT[step.name](variables, _argument(step, variables))
    for step in steps:
        value = _follow(value, step, variables)
    return value


def _argument(step: _Call, variables: Variables) -> Any:
    if not step.arguments:
        return MISSING
    first = step.arguments[0]
    return first if isinstance(first, str) else _evaluate(first, variables)


def _follow(value: Any, step: _Call, variables: Variables) -> Any:
    """``.name``, or ``.get('name')`` as Java's maps have it."""
    key = step.name
    if step.arguments:
        given = _argument(step, variables)
        if step.name == "replaceAll" and isinstance(value, str) and len(step.arguments) == 2:
            old, new = (part if isinstance(part, str) else "" for part in step.arguments)
            return value.replace(old.replace("\\\\", "\\"), new.replace("\\\\", "\\"))
        key = given if isinstance(given, str) else ""
    return value.get(key, MISSING) if isinstance(value, Mapping) else MISSING


def _format(value: Any) -> str:
    if value is MISSING or value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _body(variables: Variables, argument: Any) -> Any:
    return variables.body


def _json(variables: Variables, argument: Any) -> Any:
    """JSON text of what is at a path of the body."""
    found = _path(variables, argument)
    if found is MISSING:
        return '""'
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False)


def _path(variables: Variables, argument: Any) -> Any:
    path = argument if isinstance(argument, str) else "$"
    try:
        value = json.loads(variables.body) if variables.body else {}
    except (ValueError, RecursionError):
        return MISSING
    return find_path(value, path)


def find_path(value: Any, path: str) -> Any:
    """JSONPath without wildcards, filters or slices; ``MISSING`` when there is nothing."""
    if not path.startswith("$"):
        return MISSING
    at = 1
    while at < len(path):
        step = _PATH_STEP.match(path, at)
        if step is None:
            return MISSING
        at = step.end()
        name = step[1] or step[3] or step[4]
        if name is not None and isinstance(value, Mapping) and name in value:
            value = value[name]
        elif step[2] is not None and isinstance(value, Sequence) and not isinstance(value, str):
            index = int(step[2])
            value = value[index] if index < len(value) else MISSING
        else:
            return MISSING
    return value


def _params(variables: Variables, argument: Any) -> Any:
    """All parameters, or one: looked for in the path, the query string and the headers."""
    if argument is MISSING:
        return variables.params
    for place in ("path", "querystring", "header"):
        for name, value in variables.params.get(place, {}).items():
            if name == argument or (place == "header" and name.lower() == str(argument).lower()):
                return value
    return ""


def _escape_javascript(value: Any) -> str:
    """As Java's StringEscapeUtils has it: also single quotes and slashes."""
    escaped = json.dumps(_format(value))[1:-1]
    return escaped.replace("'", "\\'").replace("/", "\\/")


def _base64_decode(value: Any) -> str:
    try:
        return base64.b64decode(_format(value), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""


def _parse_json(value: Any) -> Any:
    try:
        return json.loads(_format(value))
    except (ValueError, RecursionError):
        return MISSING


_INPUT: Mapping[str, Callable[[Variables, Any], Any]] = {
    "body": _body,
    "json": _json,
    "path": _path,
    "params": _params,
}
_UTIL: Mapping[str, Callable[[Any], Any]] = {
    "escapeJavaScript": _escape_javascript,
    "parseJson": _parse_json,
    "urlEncode": lambda value: quote_plus(_format(value)),
    "urlDecode": lambda value: unquote_plus(_format(value)),
    "base64Encode": lambda value: base64.b64encode(_format(value).encode()).decode(),
    "base64Decode": _base64_decode,
}
