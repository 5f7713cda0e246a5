"""Parameters of a template: what was given, what is by default, and whether that is allowed. Pure.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firelet.stacks.errors import StackError

_LIST_TYPES = ("CommaDelimitedList", "List<Number>", "List<String>")
_TYPES = ("String", "Number", *_LIST_TYPES)


def resolve_parameters(
    declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]
) -> dict[str, Any]:
    """Values by name: texts, and lists of texts. StackError names what is missing or refused."""
    for name in given:
        if name not in declared:
            raise StackError(f"the template has no parameter {name}")
    return {name: _resolve(name, rules, given.get(name)) for name, rules in declared.items()}


def _resolve(name: str, rules: Mapping[str, Any], given: str | None) -> str | list[str]:
    kind = rules.get("Type", "String")
    if kind not in _TYPES:
        raise StackError(f"the type {kind} of the parameter {name} is not supported")
    value = rules.get("Default") if given is None else given
    if value is None:
        raise StackError(f"the parameter {name} has no value: give one with --parameter {name}=…")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if kind not in _LIST_TYPES:
        _check(name, rules, kind, text)
        return text
    items = [item.strip() for item in text.split(",")] if text else []
    for item in items:
        _check(name, rules, "Number" if kind == "List<Number>" else "String", item)
    return items


def _check(name: str, rules: Mapping[str, Any], kind: str, text: str) -> None:
    if kind == "Number":
        _check_number(name, rules, text)
    allowed = rules.get("AllowedValues")
    if allowed is not None and text not in [str(item) for item in allowed]:
        listed = ", ".join(str(item) for item in allowed)
        raise StackError(f"the parameter {name} is {text}, and may be {listed}")
    pattern = rules.get("AllowedPattern")
    if pattern is not None and re.fullmatch(pattern, text) is None:
        raise StackError(f"the parameter {name} is {text}, which does not match {pattern}")
    least, most = rules.get("MinLength"), rules.get("MaxLength")
    if least is not None and len(text) < int(least):
        raise StackError(f"the parameter {name} is shorter than {least}")
    if most is not None and len(text) > int(most):
        raise StackError(f"the parameter {name} is longer than {most}")


def _check_number(name: str, rules: Mapping[str, Any], text: str) -> None:
    try:
        number = float(text)
    except ValueError:
        raise StackError(f"the parameter {name} is {text}, which is no number") from None
    least, most = rules.get("MinValue"), rules.get("MaxValue")
    if least is not None and number < float(least):
        raise StackError(f"the parameter {name} is less than {least}")
    if most is not None and number > float(most):
        raise StackError(f"the parameter {name} is more than {most}")
