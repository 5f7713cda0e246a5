"""Space-delimited filter patterns: ``[ip, user, ..., status = 4*, bytes > 1000]``.

What it is: the grammar, and the cutting of a log event into fields: words, phrases in double
quotes, and text in square brackets. Pure; called by ``log_pattern``.

Source: AWS guide, "Using filter patterns to match terms in space-delimited log events". Without an
ellipsis an event has as many fields as the pattern; an ellipsis stands for any number of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from firelet.observe.log_conditions import (
    Field,
    PatternText,
    Test,
    parse_comparison,
    parse_expression,
    parse_number,
)

_STOPS = ',])&|"'
# No bracket inside brackets: else an event full of opening ones would take quadratic time.
_FIELD = re.compile(r'"([^"]*)"|\[([^\[\]]*)\]|(\S+)')


def parse_fields_pattern(text: PatternText) -> Callable[[str], bool]:
    """Reads a pattern from its opening bracket to its end."""
    if not text.take("["):
        raise text.wrong()
    before: list[Test[Field]] = []
    after: list[Test[Field]] | None = None  # the fields behind the ellipsis, once there is one
    while True:
        if text.take("..."):
            if after is not None:
                raise text.wrong()
            after = []
        else:
            (before if after is None else after).append(_parse_field(text))
        if not text.take(","):
            break
    if not text.take("]"):
        raise text.wrong()
    text.skip_blanks()
    if not text.is_at_end:
        raise text.wrong()
    return lambda message: _matches(split_fields(message), before, after)


def split_fields(message: str) -> list[str]:
    """The fields of an event, without the quotes or brackets around them."""
    return [
        next((group for group in found.groups() if group is not None), "")
        for found in _FIELD.finditer(message)
    ]


def _parse_field(text: PatternText) -> Test[Field]:
    """A name alone, which any field satisfies, or conditions, each of which may repeat it."""
    text.skip_blanks()
    if text.take_here("*"):
        return _is_there
    return parse_expression(text, _parse_condition)


def _parse_condition(text: PatternText) -> Test[Field]:
    text.skip_blanks()
    name = text.take_while(lambda char: char.isalnum() or char in "_-.$")
    text.skip_blanks()
    if name and not any(text.peek(operator) for operator in "=!<>"):
        return _is_there
    return parse_comparison(text, _STOPS)


def _is_there(field: Field) -> bool:
    return True


def _matches(
    texts: Sequence[str], before: Sequence[Test[Field]], after: Sequence[Test[Field]] | None
) -> bool:
    wanted = len(before) + len(after or ())
    if len(texts) < wanted or (after is None and len(texts) > wanted):
        return False
    fields = [Field(text, parse_number(text)) for text in texts]
    if not all(test(field) for test, field in zip(before, fields, strict=False)):
        return False
    if not after:
        return True
    return all(test(field) for test, field in zip(after, fields[-len(after) :], strict=True))
