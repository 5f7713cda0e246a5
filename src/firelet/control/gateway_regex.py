"""The regular expressions of integration responses and authorizers, matched in linear time.

They come from whoever owns an API and run on what anybody sends, so that Python's own engine,
which may go back without end, is no choice. Expressions without groups are taken; others are
refused when they are set.
"""

from __future__ import annotations

from functools import lru_cache

from firelet.model.errors import NotYetImplemented
from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_regex import Regex

_REMEMBERED = 256


@lru_cache(_REMEMBERED)
def compile_whole(pattern: str) -> Regex:
    """An expression whose ``search`` finds a text as a whole. NotYetImplemented for groups."""
    parts = [_without_ends(part) for part in _split(pattern)]
    try:
        if any(_is_escaped(part, len(part)) for part in parts):
            raise InvalidLogParameter("nothing follows the last backslash")
        return Regex("|".join(f"^{part}$" for part in parts))
    except InvalidLogParameter:
        raise NotYetImplemented(
            "firelet matches regular expressions without groups and with ASCII symbols only:"
            f" {pattern[:200]}"
        ) from None


def _without_ends(part: str) -> str:
    part = part.removeprefix("^")
    at = len(part) - 1
    return part[:at] if part.endswith("$") and not _is_escaped(part, at) else part


def _is_escaped(part: str, at: int) -> bool:
    """Whether the character at ``at`` follows an odd number of backslashes."""
    before = part[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _split(pattern: str) -> list[str]:
    """Alternatives: at each ``|`` that is neither escaped nor in a class."""
    parts, start, is_in_class, is_escaped = [], 0, False, False
    for at, character in enumerate(pattern):
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == "[":
            is_in_class = True
        elif character == "]":
            is_in_class = False
        elif character == "|" and not is_in_class:
            parts.append(pattern[start:at])
            start = at + 1
    return [*parts, pattern[start:]]
