"""Parameters of a template: what was given, what is by default, and whether that is allowed. Pure.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from firelet.stacks.errors import StackError

_SCALARS = ("String", "Number")
# Identifiers of things in the cloud: texts, which nobody here looks up.
_CLOUD_TYPES = ("AWS::EC2::", "AWS::Route53::HostedZone::Id")


def resolve_parameters(
    declared: Mapping[str, Mapping[str, Any]], given: Mapping[str, str]
) -> dict[str, Any]:
    """Values by name: texts, and lists of texts. StackError names what is missing or refused."""
    for name in given:
        if name not in declared:
            raise StackError(f"the template has no parameter {name}")
    missing = [name for name in declared if name not in given and "Default" not in declared[name]]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise StackError(
            f"no value for the parameter{plural} {', '.join(missing)}: give it with --parameter"
            f" {missing[0]}=…"
        )
    return {name: _resolve(name, rules, given.get(name)) for name, rules in declared.items()}


def _resolve(name: str, rules: Mapping[str, Any], given: str | None) -> str | list[str]:
    kind = rules.get("Type", "String")
    is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
    item_kind = kind.removeprefix("List<").removesuffix(">") if is_list else kind
    is_known = item_kind in (*_SCALARS, "CommaDelimitedList") or item_kind.startswith(_CLOUD_TYPES)
    if not is_known:
        raise StackError(f"the type {kind} of the parameter {name} is not supported")
    value = rules.get("Default") if given is None else given
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if not is_list:
        _check(name, rules, kind, text)
        return text
    items = [item.strip() for item in text.split(",")] if text else []
    for item in items:
        _check(name, rules, item_kind, item)
    return items


def _check(name: str, rules: Mapping[str, Any], kind: str, text: str) -> None:
    try:
        _check_rules(rules, kind, text)
    except ValueError as error:
        described = rules.get("ConstraintDescription")
        # The value of NoEcho is a secret.
        shown = "" if str(rules.get("NoEcho")).lower() == "true" else f" is {text}, which"
        because = f" ({described})" if described else ""
        raise StackError(f"the parameter {name}{shown} {error}{because}") from None


def _check_rules(rules: Mapping[str, Any], kind: str, text: str) -> None:
    if kind == "Number":
        _check_number(rules, text)
    allowed = rules.get("AllowedValues")
    if allowed is not None and text not in [_format(item) for item in allowed]:
        raise ValueError(f"is none of {', '.join(_format(item) for item in allowed)}")
    pattern = rules.get("AllowedPattern")
    if pattern is not None and re.fullmatch(pattern, text) is None:
        raise ValueError(f"does not match {pattern}")
    least, most = rules.get("MinLength"), rules.get("MaxLength")
    if least is not None and len(text) < int(least):
        raise ValueError(f"is shorter than {least}")
    if most is not None and len(text) > int(most):
        raise ValueError(f"is longer than {most}")


def _check_number(rules: Mapping[str, Any], text: str) -> None:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is no number") from None
    least, most = rules.get("MinValue"), rules.get("MaxValue")
    if least is not None and number < float(least):
        raise ValueError(f"is less than {least}")
    if most is not None and number > float(most):
        raise ValueError(f"is more than {most}")


def _format(item: Any) -> str:
    return str(item).lower() if isinstance(item, bool) else str(item)
