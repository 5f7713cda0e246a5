"""How AWS's services, which are written in Java, see text: patterns, sets and printed values.

What it is: the few rules of Java that show through in AWS's validation sentences. Called by
``wire.aws.validate``.

Source: java.util.regex.Pattern, java.util.HashSet and java.lang.String.hashCode in the Java SE
API specification. The set order was checked against recorded sentences of the real service.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from firelet.wire.aws.model import Shape

# A value is repeated in the refusal of it; this is where firelet stops repeating.
PRINTED_MAX_CHARS = 8_192

_CATEGORY = re.compile(r"\\p\{([A-Z][a-z]?)\}")
# `[\w-_]`: after a class escape Java takes the hyphen literally, Python calls it a bad range.
_HYPHEN_AFTER_CLASS = re.compile(r"(?<!\\)(\\[wdsWDS])-(?!\])")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    r"""A model's pattern as a Python one; match it with ``fullmatch``.

    ``\d``, ``\w`` and ``\s`` are ASCII in Java. Raises ``re.error`` on what has no counterpart.
    """
    translated = _CATEGORY.sub(lambda found: _category_ranges(found[1]), pattern)
    translated = _HYPHEN_AFTER_CLASS.sub(r"\1\-", translated)
    return re.compile(translated, re.ASCII)


@cache
def _category_ranges(category: str) -> str:
    """The characters of a Unicode category, as ranges for use inside a character class."""
    ranges: list[str] = []
    start: int | None = None
    # Above the two lowest planes are only ideographs (letters), tags and private use, which no
    # model speaks about: leaving them to one range keeps the first use at some 20 ms.
    end = 0x20000
    for code in range(end):
        if unicodedata.category(chr(code)).startswith(category):
            start = code if start is None else start
        elif start is not None:
            ranges.append(_range(start, code - 1))
            start = None
    if category in ("L", "Lo"):
        ranges.append(_range(end, 0x3FFFF))
    return "".join(ranges)


def _range(first: int, last: int) -> str:
    return f"\\U{first:08x}-\\U{last:08x}"


def order_as_hash_set(values: Iterable[str]) -> list[str]:
    """The values in the order in which a Java ``HashSet`` of them would print."""
    unique = list(dict.fromkeys(values))
    buckets = 16
    while len(unique) > buckets * 3 // 4:
        buckets *= 2
    return sorted(unique, key=lambda value: _spread_hash(value) & (buckets - 1))


def _spread_hash(text: str) -> int:
    code = 0
    units = memoryview(text.encode(f"utf-16-{sys.byteorder[0]}e", "surrogatepass")).cast("H")
    for unit in units:
        code = (31 * code + unit) & 0xFFFFFFFF
    return code ^ (code >> 16)


def print_value(shape: Shape, value: object) -> str:
    """``toString`` of a value, cut at ``PRINTED_MAX_CHARS``."""
    printed = _print(shape, value)
    if len(printed) > PRINTED_MAX_CHARS:
        return printed[:PRINTED_MAX_CHARS] + "..."
    return printed


def print_number(shape: Shape, number: float) -> str:
    """A number as Java prints it: with a fraction exactly when the type has one."""
    return str(float(number)) if shape.type in ("double", "float") else str(int(number))


def lower_first(name: str) -> str:
    """A member's name as a Java field: ``FunctionName`` is ``functionName``."""
    return name[:1].lower() + name[1:]


def _print(shape: Shape, value: Any) -> str:
    if value is None:
        return "null"
    if shape.is_sensitive:
        return "***"
    match shape.type:
        case "structure":
            fields = (
                f"{lower_first(name)}={_print(member.shape, value.get(name))}"
                for name, member in shape.members.items()
            )
            return f"{shape.name}({', '.join(fields)})"
        case "list":
            return f"[{', '.join(_print(shape.element.shape, item) for item in value)}]"
        case "map":
            return _print_map(shape, value)
        case "boolean":
            return "true" if value else "false"
        case "blob":
            return f"java.nio.HeapByteBuffer[pos=0 lim={len(value)} cap={len(value)}]"
        case "integer" | "long" | "double" | "float":
            return print_number(shape, value)
    return str(value)


def _print_map(shape: Shape, value: Mapping[str, Any]) -> str:
    entries = (f"{key}={_print(shape.value.shape, item)}" for key, item in value.items())
    return f"{{{', '.join(entries)}}}"
