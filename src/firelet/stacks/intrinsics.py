"""Intrinsic functions: expressions of a template as values. Pure.

Called by ``stacks.engine`` with what is known so far: parameters, and the resources that exist.
Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference.html
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.references import NO_VALUE
from firelet.stacks.state import ResourceState
from firelet.stacks.template import EXTENSIONS_TRANSFORM, Template

_EXTENSIONS = ("Fn::Length", "Fn::ToJsonString")
_PATH = 3  # parts of a path in a mapping
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")


class _NoValue:
    """What ``AWS::NoValue`` stands for: its member or element is left out."""


class NotYetKnown(Exception):
    """The value is that of a resource that is still to be made."""


class Evaluator:
    """Values of expressions. ``known`` has parameters and pseudo parameters by name; ``resources``
    those that exist, and may grow between two calls. ``exports`` are the values that other stacks
    export; the names of those that were asked for are in ``imported``. ``promised`` has resources
    that are to be made, with the attributes they will have; it may grow too."""

    def __init__(
        self,
        template: Template,
        known: Mapping[str, Any],
        resources: Mapping[str, ResourceState],
        exports: Mapping[str, str] | None = None,
        promised: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        self.imported: set[str] = set()
        self._template = template
        self._known = known
        self._resources = resources
        self._exports = exports or {}
        self._promised = {} if promised is None else promised
        self._open_conditions: list[str] = []
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": self._ref,
            "Condition": self.condition,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::If": self._if,
            "Fn::Equals": lambda pair: self._equals(self._list("Fn::Equals", pair, 2)),
            "Fn::And": lambda items: all(self._tests("Fn::And", items)),
            "Fn::Or": lambda items: any(self._tests("Fn::Or", items)),
            "Fn::Not": lambda items: not self._tests("Fn::Not", self._list("Fn::Not", items, 1))[0],
            "Fn::FindInMap": self._find_in_map,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::Base64": lambda text: base64.b64encode(self._text(text).encode()).decode(),
            "Fn::ImportValue": self._import_value,
        }
        if template.has_extensions:
            self._functions |= {
                "Fn::Length": self._length,
                "Fn::ToJsonString": lambda item: json.dumps(self.value(item)),
            }

    def value(self, expression: Any) -> Any:
        """The value of an expression at any depth. StackError for what cannot be evaluated."""
        found = self._value(expression)
        return None if isinstance(found, _NoValue) else found

    def condition(self, name: str) -> bool:
        """Whether a condition of the template holds."""
        if name not in self._template.conditions:
            raise StackError(f"the condition {name} is not in the template")
        if name in self._open_conditions:
            circle = " -> ".join([*self._open_conditions, name])
            raise StackError(f"the conditions refer to each other in a circle: {circle}")
        self._open_conditions.append(name)
        try:
            return bool(self.value(self._template.conditions[name]))
        finally:
            self._open_conditions.pop()

    def is_wanted(self, name: str) -> bool:
        """Whether the template has a resource of this name whose condition holds."""
        resource = self._template.resources.get(name)
        if resource is None:
            return False
        return resource.condition is None or self.condition(resource.condition)

    def _value(self, expression: Any) -> Any:
        if isinstance(expression, list):
            items = (self._value(item) for item in expression)
            return [item for item in items if not isinstance(item, _NoValue)]
        if not isinstance(expression, dict):
            return expression
        if len(expression) == 1:
            ((name, operand),) = expression.items()
            function = self._functions.get(name)
            # A statement of IAM has a member Condition, which is an object.
            if function is not None and not (name == "Condition" and isinstance(operand, dict)):
                return function(operand)
            if name in _EXTENSIONS:
                raise StackError(f"the function {name} needs Transform: {EXTENSIONS_TRANSFORM}")
            if name.startswith("Fn::"):
                raise StackError(f"the function {name} is not supported")
        members = {name: self._value(item) for name, item in expression.items()}
        return {name: item for name, item in members.items() if not isinstance(item, _NoValue)}

    def _ref(self, name: Any) -> Any:
        if not isinstance(name, str):
            raise StackError(f"Ref takes a name and not {name}")
        if name == NO_VALUE:
            return _NoValue()
        if name in self._known:
            return self._known[name]
        return self._resource(name).physical_id

    def _get_att(self, operand: Any) -> Any:
        parts = operand.split(".", 1) if isinstance(operand, str) else operand
        name, attribute = self._list("Fn::GetAtt", parts, 2)
        attribute = self._text(attribute)
        if attribute not in self._promised.get(name, (attribute,)):
            raise StackError(f"{name} has no attribute {attribute}")
        attributes = self._resource(name).attributes
        if attribute not in attributes:
            raise StackError(f"{name} has no attribute {attribute}")
        return attributes[attribute]

    def _resource(self, name: str) -> ResourceState:
        # What an earlier template made, and this one no longer has, is about to be deleted.
        if not self.is_wanted(name):
            raise StackError(f"{name} is neither a parameter nor a resource of the stack")
        if name in self._promised:
            raise NotYetKnown(name)
        found = self._resources.get(name)
        if found is None:
            raise StackError(f"{name} is not there yet")
        return found

    def _sub(self, operand: Any) -> str:
        text, given = (
            (operand, {}) if isinstance(operand, str) else self._list("Fn::Sub", operand, 2)
        )
        if not isinstance(text, str) or not isinstance(given, dict):
            raise StackError("Fn::Sub takes a text, or a list of a text and a map")

        def replace(found: re.Match[str]) -> str:
            is_literal, name = found[1], found[2].strip()
            if is_literal:
                return f"${{{found[2]}}}"
            if name in given:
                return self._text(given[name])
            value = self._get_att(name) if "." in name else self._ref(name)
            return self._text(value)

        return _PLACEHOLDER.sub(replace, text)

    def _join(self, operand: Any) -> str:
        delimiter, items = self._list("Fn::Join", operand, 2)
        listed = self.value(items)
        if not isinstance(listed, list):
            raise StackError("Fn::Join takes a list to join")
        return str(delimiter).join(self._text(item) for item in listed)

    def _if(self, operand: Any) -> Any:
        name, then, otherwise = self._list("Fn::If", operand, 3)
        return self._value(then if self.condition(name) else otherwise)

    def _equals(self, pair: list[Any]) -> bool:
        first, second = (self.value(item) for item in pair)
        return self._text(first) == self._text(second)

    def _tests(self, name: str, items: Any) -> list[bool]:
        if not isinstance(items, list) or not items:
            raise StackError(f"{name} takes a list of conditions")
        return [bool(self.value(item)) for item in items]

    def _find_in_map(self, operand: Any) -> Any:
        if self._template.has_extensions and isinstance(operand, list) and len(operand) > _PATH:
            default = operand[_PATH]
            if not isinstance(default, dict) or "DefaultValue" not in default:
                raise StackError("Fn::FindInMap takes a DefaultValue as its fourth")
            found = self._look_up([self._text(part) for part in operand[:_PATH]])
            return self._value(default["DefaultValue"]) if found is None else found
        path = [self._text(part) for part in self._list("Fn::FindInMap", operand, _PATH)]
        found = self._look_up(path)
        if found is None:
            raise StackError(f"Fn::FindInMap: {' / '.join(path)} is not in the mappings")
        return found

    def _look_up(self, path: list[str]) -> Any:
        found: Any = self._template.mappings
        for part in path:
            if not isinstance(found, dict) or part not in found:
                return None
            found = found[part]
        return found

    def _import_value(self, operand: Any) -> str:
        name = self._text(operand)
        if name not in self._exports:
            raise StackError(f"No export named {name} found.")
        self.imported.add(name)
        return self._exports[name]

    def _length(self, operand: Any) -> int:
        items = self.value(operand)
        if not isinstance(items, list):
            raise StackError("Fn::Length takes a list")
        return len(items)

    def _select(self, operand: Any) -> Any:
        index, items = self._list("Fn::Select", operand, 2)
        number, among = self._text(index), self.value(items)
        if not number.isdigit():
            raise StackError(f"Fn::Select: {number} is no index")
        chosen = int(number)
        if not isinstance(among, list) or not 0 <= chosen < len(among):
            raise StackError(f"Fn::Select: there is no item {chosen}")
        return among[chosen]

    def _split(self, operand: Any) -> list[str]:
        delimiter, text = self._list("Fn::Split", operand, 2)
        return self._text(text).split(str(delimiter))

    def _list(self, name: str, operand: Any, count: int) -> list[Any]:
        if not isinstance(operand, list) or len(operand) != count:
            raise StackError(f"{name} takes a list of {count}")
        return operand

    def _text(self, expression: Any) -> str:
        value = self.value(expression)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list | dict):
            raise StackError(f"a text was expected and not {value}")
        return str(value)
