"""The syntax of filter patterns: what FilterCriteria and rules may say.

Pure. A pattern mirrors a record: objects for objects, and for each leaf the list of what it may
be, whose items are values or one of the comparisons below. Matching is not here.

Source: docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html, "Filter rule syntax".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

_OR = "$or"
_NUMERIC_OPERATORS = ("=", "<", "<=", ">", ">=")
_LOWER_BOUNDS = (">", ">=")
_UPPER_BOUNDS = ("<", "<=")


class InvalidPattern(ValueError):
    """The text is not a filter pattern."""


def check_pattern(text: str) -> None:
    """Raises ``InvalidPattern`` when ``text`` is not one."""
    try:
        pattern = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPattern("not JSON") from error
    if not isinstance(pattern, dict) or not pattern:
        raise InvalidPattern("not an object with members")
    try:
        _check_object(pattern)
    except RecursionError as error:
        raise InvalidPattern("nested too deeply") from error


def _check_object(pattern: Mapping[str, Any]) -> None:
    for name, value in pattern.items():
        if name == _OR and isinstance(value, list):
            _check_alternatives(value)
        elif isinstance(value, dict):
            if not value:
                raise InvalidPattern(f"{name} is empty")
            _check_object(value)
        elif isinstance(value, list) and value:
            for item in value:
                _check_item(item)
        else:
            raise InvalidPattern(f"{name} is neither an object nor a list of alternatives")


def _check_alternatives(patterns: list[Any]) -> None:
    """``$or`` takes two patterns or more."""
    if len(patterns) < 2:
        raise InvalidPattern("$or has no alternatives")
    for pattern in patterns:
        if not isinstance(pattern, dict) or not pattern:
            raise InvalidPattern("an alternative of $or is not a pattern")
        _check_object(pattern)


def _check_item(item: Any) -> None:
    if isinstance(item, list):
        raise InvalidPattern("a list inside a list")
    if isinstance(item, dict):
        if len(item) != 1:
            raise InvalidPattern("a comparison has one operator")
        ((operator, operand),) = item.items()
        holds = _COMPARISONS.get(operator)
        if holds is None or not holds(operand):
            raise InvalidPattern(f"{operator} does not take that")


def _is_text(operand: Any) -> bool:
    return isinstance(operand, str)


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float) and not isinstance(operand, bool)


def _is_excluded(operand: Any) -> bool:
    """A value, values, or a prefix."""
    if isinstance(operand, dict):
        return len(operand) == 1 and _is_text(operand.get("prefix"))
    values = operand if isinstance(operand, list) else [operand]
    return bool(values) and all(_is_text(value) or _is_number(value) for value in values)


def _is_range(operand: Any) -> bool:
    """``[operator, number]``, or a lower and an upper bound."""
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        return False
    operators, numbers = operand[::2], operand[1::2]
    if not all(_is_number(number) for number in numbers):
        return False
    if len(operators) == 1:
        return operators[0] in _NUMERIC_OPERATORS
    is_ordered = operators[0] in _LOWER_BOUNDS and operators[1] in _UPPER_BOUNDS
    return is_ordered and numbers[0] < numbers[1]


_COMPARISONS: Mapping[str, Callable[[Any], bool]] = {
    "prefix": _is_text,
    "suffix": _is_text,
    "equals-ignore-case": _is_text,
    "exists": lambda operand: isinstance(operand, bool),
    "numeric": _is_range,
    "anything-but": _is_excluded,
}


def _refuse_constant(name: str) -> None:
    """Python reads ``NaN`` and ``Infinity``, which JSON does not have."""
    raise InvalidPattern(f"{name} is not JSON")
