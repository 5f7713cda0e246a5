"""Parameters against the constraints of the service model, refused in AWS's own sentences.

What it is: required, length, range, pattern and enum, at any depth. What it is not: anything that
the model does not state; that belongs to the handlers. Called by ``wire.aws.protocol``.

Source: sentences recorded from the real service; ``tests/unit/wire/test_validate.py`` lists them.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from firelet.model.errors import InvalidParameterValue, ValidationError
from firelet.model.runtimes import OFFERED
from firelet.wire.aws.java import (
    compile_pattern,
    lower_first,
    order_as_hash_set,
    print_number,
    print_value,
)
from firelet.wire.aws.model import Operation, Shape
from firelet.wire.aws.parse import drops_nulls

log = logging.getLogger(__name__)

# The code of a failed constraint, by service; the others say ValidationException.
_CODES = {
    "iam": "ValidationError",
    "sts": "ValidationError",
    "elbv2": "ValidationError",
    "logs": "InvalidParameterException",
}

# Enums that the service checks after its model, with another code and sentence (recorded).
_LATE_ENUMS = {("lambda", "runtime")}

# Lists whose elements' enum is reported as if it were the list's own (recorded).
_LISTS_WITH_PLAIN_ENUM = {("lambda", "CompatibleRuntimes")}

# Enums that are listed otherwise than as the set of the model's values (recorded): of runtimes only
# those that new functions may have.
_LISTED_ENUMS = {
    ("lambda", "Runtime"): OFFERED,
    ("lambda", "EventSourcePosition"): ("LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"),
}

# A member that is checked after those that follow it in the model (recorded).
_CHECKED_LAST = {("lambda", "PublishLayerVersionRequest"): "CompatibleArchitectures"}

# A text longer than its limit and longer than this is refused for its length alone: no pattern
# runs over megabytes.
_PATTERN_MAX_CHARS = 65_536

_NOT_NULL = "Member must not be null"


@dataclass(frozen=True, slots=True)
class _Constraint:
    sentence: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A constraint that a value breaks. ``value`` is as printed, or None for null. A secret is
    never repeated: AWS leaves its value out of the sentence."""

    path: str
    value: str | None
    constraint: str
    is_secret: bool = False

    def __str__(self) -> str:
        shown = " null" if self.value is None else f" '{self.value}'"
        if self.is_secret:
            shown = ""
        return f"Value{shown} at '{self.path}' failed to satisfy constraint: {self.constraint}"


class Validator:
    """Checks parameters; keeps the compiled constraints of each shape it has met."""

    def __init__(self) -> None:
        self._constraints: dict[Shape, tuple[_Constraint, ...]] = {}

    def check(self, operation: Operation, params: Mapping[str, Any]) -> None:
        """Raises ``ValidationError`` that lists every failed constraint, or returns."""
        if operation.input is None:
            return
        service = operation.service.name
        failures = list(self._failures_in_structure(operation.input, params, ""))
        now = [failure for failure in failures if (service, failure.path) not in _LATE_ENUMS]
        if now:
            plural = "s" if len(now) > 1 else ""
            raise ValidationError(
                f"{len(now)} validation error{plural} detected: {'; '.join(map(str, now))}",
                code=_CODES.get(service),
            )
        for late in failures:
            raise InvalidParameterValue(
                f"Value {late.value} at '{late.path}' failed to satisfy constraint:"
                f" {late.constraint} or be a valid ARN"
            )

    def _failures(self, shape: Shape, value: Any, path: str) -> Iterator[_Failure]:
        if value is None:
            yield _Failure(path, None, _NOT_NULL)
            return
        for constraint in self._constraints_of(shape):
            if not constraint.holds(value):
                yield _refuse(shape, value, path, constraint.sentence)
        if shape.type == "structure":
            yield from self._failures_in_structure(shape, value, f"{path}.")
        elif shape.type == "list":
            yield from self._failures_in_list(shape, value, path)
        elif shape.type == "map":
            yield from self._failures_in_map(shape, value, path)

    def _failures_in_structure(
        self, shape: Shape, value: Mapping[str, Any], prefix: str
    ) -> Iterator[_Failure]:
        last = _CHECKED_LAST.get((shape.service.name, shape.name))
        for name, member in sorted(shape.members.items(), key=lambda item: item[0] == last):
            given = value.get(name)
            if given is not None or name in shape.required:
                yield from self._failures(member.shape, given, prefix + lower_first(name))

    def _failures_in_list(self, shape: Shape, items: list[Any], path: str) -> Iterator[_Failure]:
        element = shape.element.shape
        if not element.is_scalar:
            for number, item in enumerate(items, start=1):
                yield from self._failures(element, item, f"{path}.{number}.member")
        elif not all(self._holds(element, item) for item in items):
            if (shape.service.name, shape.name) in _LISTS_WITH_PLAIN_ENUM:
                sentence = self._constraints_of(element)[0].sentence
            else:
                sentences = self._sentences(element, is_nullable=drops_nulls(shape))
                sentence = f"Member must satisfy constraint: {sentences}"
            yield _refuse(shape, items, path, sentence)

    def _failures_in_map(
        self, shape: Shape, entries: Mapping[str, Any], path: str
    ) -> Iterator[_Failure]:
        if not all(self._holds(shape.key.shape, key) for key in entries):
            sentences = self._sentences(shape.key.shape, is_nullable=True)
            yield _refuse(shape, entries, path, f"Map keys must satisfy constraint: {sentences}")
        element = shape.value.shape
        if not element.is_scalar:
            for key, item in entries.items():
                yield from self._failures(element, item, f"{path}.{key}.member")
        elif not all(self._holds(element, item) for item in entries.values()):
            sentences = self._sentences(element, is_nullable=False)
            yield _refuse(shape, entries, path, f"Map value must satisfy constraint: {sentences}")

    def _holds(self, shape: Shape, value: Any) -> bool:
        if value is None:
            return False
        return all(constraint.holds(value) for constraint in self._constraints_of(shape))

    def _sentences(self, shape: Shape, *, is_nullable: bool) -> str:
        sentences = [constraint.sentence for constraint in self._constraints_of(shape)]
        if not is_nullable:
            sentences.append(_NOT_NULL)
        return f"[{', '.join(sentences)}]"

    def _constraints_of(self, shape: Shape) -> tuple[_Constraint, ...]:
        known = self._constraints.get(shape)
        if known is None:
            known = self._constraints[shape] = tuple(_make_constraints(shape))
        return known


def _refuse(shape: Shape, value: object, path: str, constraint: str) -> _Failure:
    return _Failure(path, print_value(shape, value), constraint, is_secret=shape.is_sensitive)


def _make_constraints(shape: Shape) -> Iterator[_Constraint]:
    """In the order in which AWS names them: upper bound, lower bound, pattern, enum."""
    if shape.is_streaming or shape.is_eventstream:
        return
    if shape.type in ("integer", "long", "double", "float"):
        yield from _make_range(shape)
    else:
        yield from _make_length(shape)
    if shape.pattern is not None:
        try:
            pattern = compile_pattern(shape.pattern)
        except re.error:
            log.warning("pattern not understood shape=%s pattern=%s", shape.name, shape.pattern)
        else:
            # Without a limit of its own a text is matched whatever its length.
            too_long = max(shape.max, _PATTERN_MAX_CHARS) if shape.max is not None else math.inf
            yield _Constraint(
                f"Member must satisfy regular expression pattern: {shape.pattern}",
                lambda value: len(value) > too_long or pattern.fullmatch(value) is not None,
            )
    if shape.enum:
        allowed = frozenset(shape.enum)
        recorded = _LISTED_ENUMS.get((shape.service.name, shape.name))
        listed = ", ".join(recorded or order_as_hash_set(shape.enum))
        yield _Constraint(
            f"Member must satisfy enum value set: [{listed}]", lambda value: value in allowed
        )


def _make_length(shape: Shape) -> Iterator[_Constraint]:
    most, least = shape.max, shape.min
    if most is not None:
        yield _Constraint(
            f"Member must have length less than or equal to {int(most)}",
            lambda value: len(value) <= most,
        )
    if least is not None:
        yield _Constraint(
            f"Member must have length greater than or equal to {int(least)}",
            lambda value: len(value) >= least,
        )


def _make_range(shape: Shape) -> Iterator[_Constraint]:
    most, least = shape.max, shape.min
    if most is not None:
        yield _Constraint(
            f"Member must have value less than or equal to {print_number(shape, most)}",
            lambda value: value <= most,
        )
    if least is not None:
        yield _Constraint(
            f"Member must have value greater than or equal to {print_number(shape, least)}",
            lambda value: value >= least,
        )
