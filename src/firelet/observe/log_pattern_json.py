"""JSON filter patterns: ``{ $.level = "ERROR" && ($.n > 5 || $.user IS NULL) }``.

What it is: the grammar, and the way from a log event to the value that a selector names. An event
that is not a JSON object matches nothing. Pure; called by ``log_pattern``.

Source: AWS guide, "Using filter patterns to match terms in JSON log events". A condition on a field
that an event does not have is not met, ``!=`` included; only ``NOT EXISTS`` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from firelet.observe.log_conditions import (
    Field,
    PatternText,
    Test,
    parse_comparison,
    parse_expression,
)

_EVERY = -1  # the index of [*]
_STOPS = ')}&|"'
_NOTHING = object()

# A member by name, or an element by index.
_Path = tuple[str | int, ...]


def parse_json_pattern(text: PatternText) -> Callable[[str], bool]:
    """Reads a pattern from its opening brace to its end."""
    if not text.take("{"):
        raise text.wrong()
    test = parse_expression(text, _parse_condition)
    if not text.take("}"):
        raise text.wrong()
    text.skip_blanks()
    if not text.is_at_end:
        raise text.wrong()

    def matches(message: str) -> bool:
        if not message.lstrip().startswith("{"):
            return False
        try:
            document = orjson.loads(message)
        except ValueError:
            return False
        return test(document)

    return matches


def _parse_condition(text: PatternText) -> Test[Any]:
    path = _parse_selector(text)
    if text.take_word("IS"):
        for word, value in (("NULL", None), ("TRUE", True), ("FALSE", False)):
            if text.take_word(word):
                return lambda document: any(found is value for found in _find(document, path))
        raise text.wrong()
    if text.take_word("NOT"):
        if not text.take_word("EXISTS"):
            raise text.wrong()
        return lambda document: next(_find(document, path), _NOTHING) is _NOTHING
    if text.take_word("EXISTS"):
        return lambda document: next(_find(document, path), _NOTHING) is not _NOTHING
    compare = parse_comparison(text, _STOPS)

    def test(document: Any) -> bool:
        fields = (_as_field(found) for found in _find(document, path))
        return any(compare(field) for field in fields if field is not None)

    return test


def _parse_selector(text: PatternText) -> _Path:
    if not text.take("$"):
        raise text.wrong()
    path: list[str | int] = []
    while True:
        if text.take_here("["):
            path.append(_parse_index(text))
        elif text.take_here("."):
            if text.take_here("["):
                path.append(_parse_index(text))
                continue
            name = text.take_while(lambda char: char.isalnum() or char in "_-@")
            if not name:
                raise text.wrong()
            path.append(name)
        else:
            break
    if not path:
        raise text.wrong()
    return tuple(path)


def _parse_index(text: PatternText) -> str | int:
    """After the bracket: an element's number, ``*`` for each of them, or a member's name."""
    step: str | int | None = text.take_quoted()
    if step is None and text.take_here("*"):
        step = _EVERY
    if step is None:
        digits = text.take_while(lambda char: char in "0123456789")
        if not digits or len(digits) > 9:
            raise text.wrong()
        step = int(digits)
    if not text.take_here("]"):
        raise text.wrong()
    return step


def _find(value: Any, path: _Path) -> Iterator[Any]:
    """The values at ``path``: none, one, or many where it goes through ``[*]``."""
    if not path:
        yield value
        return
    step, *rest = path
    if isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield from _find(value[step], tuple(rest))
    elif isinstance(value, list):
        for element in value if step == _EVERY else value[step : step + 1]:
            yield from _find(element, tuple(rest))


def _as_field(value: Any) -> Field | None:
    """A scalar as text; None for an object or an array, which nothing is compared with."""
    if isinstance(value, str):
        return Field(value)
    if isinstance(value, dict | list):
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Field(orjson.dumps(value).decode(), value if is_number else None)
