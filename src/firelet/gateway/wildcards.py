"""Patterns with ``*`` and ``?``, as policies and load balancers have them. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_REMEMBERED = 2_048


def matches(pattern: str, text: str, *, fold: bool = False) -> bool:
    """``*`` is any number of characters, ``?`` is one. ``fold``: whatever the case."""
    return _compile(pattern, fold).fullmatch(text) is not None


@lru_cache(_REMEMBERED)
def _compile(pattern: str, fold: bool) -> re.Pattern[str]:
    first, *rest = [re.escape(part).replace(r"\?", ".") for part in pattern.split("*")]
    text = first
    if rest:
        # Atomic: the first place where a part fits is as good as any later one, and patterns from
        # callers must not make the search go back without end.
        text += "".join(f"(?>.*?{part})" for part in rest[:-1]) + f".*{rest[-1]}"
    return re.compile(text, re.DOTALL | (re.IGNORECASE if fold else 0))
