"""Values for AWS's operations, made from botocore's service model alone.

What it is: parameters that satisfy a shape, and parameters of which one value breaks one
constraint, together with what AWS says of it. It reads the model through botocore and not through
firelet, whose own view of the model is what the tests here check.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import hypothesis
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from hypothesis import strategies as st

from firelet.model.runtimes import OFFERED

MODEL = ServiceModel(Loader().load_service_model("lambda", "service-2"), "lambda")
OPERATIONS = tuple(sorted(MODEL.operation_names))
DEEPEST = 6

# Texts that many patterns are about. Those of other patterns are found, which takes a while.
_ARN = "arn:aws:lambda:us-east-1:000000000000"
_UUID = "00000000-0000-4000-8000-000000000000"
_CANDIDATES = (
    "a",
    "1",
    "a" * 17,
    "a" * 36,
    "A" * 44,
    _UUID,
    "000000000000",
    "us-east-1",
    "sg-a",
    "subnet-a",
    "host:1",
    "/mnt/a",
    "lambda:GetLayerVersion",
    "lambda:InvokeFunction",
    "*",
    "o-aaaaaaaaaa",
    f"{_ARN}:function:a",
    "arn:aws:lambda:us-east-1::runtime:a",
    f"{_ARN}:runtime/aaaaaaaa",
    f"{_ARN}:function:a:1",
    f"{_ARN}:layer:a:1",
    f"{_ARN}:layer:a",
    f"{_ARN}:code-signing-config:csc-{'a' * 17}",
    f"{_ARN}:event-source-mapping:{_UUID}",
    f"{_ARN}:capacity-provider:a",
    f"{_ARN}:function:a:1/durable-execution/{'a' * 8}/{_UUID}",
    "arn:aws:iam::000000000000:role/r",
    "arn:aws:iam::000000000000:instance-profile/a",
    "arn:aws:kms:us-east-1:000000000000:key/a",
    "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-" + "a" * 17,
    "arn:aws:sns:us-east-1:000000000000:a",
    "arn:aws:signer:us-east-1:000000000000:/signing-profiles/a/aaaaaaaaaa",
)

# Java's categories, for texts of ASCII.
_CATEGORIES = {r"\p{L}": "a-zA-Z", r"\p{Z}": " ", r"\p{N}": "0-9"}
# Enums that the service checks after its model, in other words.
LATE_ENUMS = {"runtime"}
# Lists whose elements' enum is reported as if it were the list's own.
PLAIN_ENUM_LISTS = {"CompatibleRuntimes"}


@dataclass(frozen=True, slots=True)
class Breach:
    """A call of which one value breaks the model, and AWS's sentence about it."""

    operation: str
    member: str  # of the input shape, at its top level
    value: Any
    path: str
    constraint: str  # AWS's sentence, or several joined as AWS joins them
    failures: int = 1
    is_late: bool = False

    @property
    def sentence(self) -> str:
        """Enum sets are sorted here and by the caller: AWS prints them in the order of a hash."""
        if self.is_late:
            return sort_enum_sets(f"{self.constraint} or be a valid ARN")
        plural = "s" if self.failures > 1 else ""
        text = f"{self.failures} validation error{plural} detected: {self.constraint}"
        return sort_enum_sets(text)

    def __str__(self) -> str:
        kind = re.sub(r"[^a-z]+", "-", self.constraint.rpartition("Member must ")[2].lower())
        return f"{self.operation}-{self.path}-{kind[:24].strip('-')}"


def sort_enum_sets(text: str) -> str:
    return re.sub(
        r"(?<=enum value set: \[)[^\]]*",
        lambda found: ", ".join(sorted(found[0].split(", "))),
        text,
    )


def make_params(
    operation: OperationModel, known: Mapping[str, Any], *, is_full: bool
) -> dict[str, Any]:
    """Parameters that satisfy the model: the required ones, or all. ``known`` has the values of
    members that must name what is there, by the member's name."""
    shape = operation.input_shape
    return {} if shape is None else _structure(shape, known, is_full=is_full, depth=0)


def make_breaches(operation: OperationModel) -> Iterator[Breach]:
    """Each constraint of each input member broken once. What cannot be sent is left out: a path
    without one of its labels leads elsewhere, and headers hold no arbitrary text."""
    shape = operation.input_shape
    if shape is None:
        return
    for name, member in shape.members.items():
        location = member.serialization.get("location")
        is_in_path = location == "uri"
        if name in shape.required_members and not is_in_path:
            yield _missing(operation.name, name, name)
        if location in ("header", "headers") or member.serialization.get("streaming"):
            continue
        for value, path, said in _broken(member, _lower_first(name), 0):
            if is_in_path and (not isinstance(value, str) or not value):
                continue
            is_late = path in LATE_ENUMS
            if is_late:
                said = [said[0].replace(f"'{value}'", str(value), 1)]
            yield Breach(operation.name, name, value, path, "; ".join(said), len(said), is_late)


def sample(shape: Shape, known: Mapping[str, Any], *, is_full: bool, depth: int = 0) -> Any:
    """A value that satisfies ``shape``."""
    match shape.type_name:
        case "structure":
            return _structure(shape, known, is_full=is_full, depth=depth)
        case "list":
            count = max(1, shape.metadata.get("min", 1))
            item = sample(shape.member, known, is_full=is_full, depth=depth + 1)
            return [item] * count
        case "map":
            key = sample(shape.key, known, is_full=is_full, depth=depth + 1)
            return {key: sample(shape.value, known, is_full=is_full, depth=depth + 1)}
        case "string":
            return _text(shape)
        case "integer" | "long":
            return max(1, shape.metadata.get("min", 1))
        case "double" | "float":
            return float(shape.metadata.get("min", 0.5))
        case "boolean":
            return True
        case "timestamp":
            return 1_700_000_000
        case "blob":
            return b"{}"
    raise AssertionError(f"{shape.name} is a {shape.type_name}")


def _structure(
    shape: Shape, known: Mapping[str, Any], *, is_full: bool, depth: int
) -> dict[str, Any]:
    made = {}
    for name, member in shape.members.items():
        if name in known and depth == 0:
            made[name] = known[name]
        elif name in shape.required_members or (is_full and depth < DEEPEST):
            made[name] = sample(member, known, is_full=is_full, depth=depth + 1)
    return made


@functools.cache
def _minimal_text(pattern: str, least: int, most: int) -> str:
    """The simplest text of that pattern and length."""
    compiled = _compile(pattern)
    for text in _CANDIDATES:
        if least <= len(text) <= most and compiled.fullmatch(text):
            return text
    found: str = hypothesis.find(
        st.from_regex(compiled, fullmatch=True),
        lambda text: least <= len(text) <= most and text.isprintable(),
        settings=hypothesis.settings(database=None, derandomize=True, max_examples=2_000),
    )
    return found


def _text(shape: Shape) -> str:
    if getattr(shape, "enum", None):
        return str(shape.enum[0])
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max", 10_000)
    pattern = shape.metadata.get("pattern")
    if pattern is None:
        return "a" * max(1, least)
    return _minimal_text(pattern, max(1, least), most)


def _compile(pattern: str) -> re.Pattern[str]:
    for category, range_ in _CATEGORIES.items():
        pattern = pattern.replace(category, range_)
    return re.compile(re.sub(r"(\\w)-(?!\])", r"\1\\-", pattern), re.ASCII)


def _broken(shape: Shape, path: str, depth: int) -> Iterator[tuple[Any, str, list[str]]]:
    """Values that break one constraint, at any depth: the whole value, where, what AWS says."""
    if depth > DEEPEST:
        return
    for value in _bad_values(shape):
        constraints = _violated(shape, value)
        yield value, path, [_said(shape, value, path, text) for text in constraints]
    if shape.type_name == "structure":
        yield from _broken_structure(shape, path, depth)
    elif shape.type_name == "list":
        yield from _broken_list(shape, path, depth)
    elif shape.type_name == "map":
        yield from _broken_map(shape, path, depth)


def _broken_structure(shape: Shape, path: str, depth: int) -> Iterator[tuple[Any, str, list[str]]]:
    whole = sample(shape, {}, is_full=False)
    for name, member in shape.members.items():
        inner = f"{path}.{_lower_first(name)}"
        if name in shape.required_members:
            without = {key: value for key, value in whole.items() if key != name}
            yield without, inner, [_null(inner)]
        for value, where, said in _broken(member, inner, depth + 1):
            yield {**whole, name: value}, where, said


def _broken_list(shape: Shape, path: str, depth: int) -> Iterator[tuple[Any, str, list[str]]]:
    element = shape.member
    if not _is_scalar(element):
        for value, where, said in _broken(element, f"{path}.1.member", depth + 1):
            yield [value], where, said
        return
    for value in _bad_values(element):
        if shape.name in PLAIN_ENUM_LISTS:
            text = _constraints(element)[-1][0]
        else:
            # Lists that may be empty drop nulls, and say nothing of them.
            null = [] if shape.metadata.get("min") == 0 else ["Member must not be null"]
            text = _together(element, null)
        yield [value], path, [_said(shape, [value], path, text)]


def _broken_map(shape: Shape, path: str, depth: int) -> Iterator[tuple[Any, str, list[str]]]:
    good_key = sample(shape.key, {}, is_full=False)
    good_value = sample(shape.value, {}, is_full=False)
    for key in _bad_values(shape.key):
        text = f"Map keys must satisfy constraint: {_constraint_list(shape.key, [])}"
        yield {key: good_value}, path, [_said(shape, {key: good_value}, path, text)]
    if not _is_scalar(shape.value):
        inner = f"{path}.{good_key}.member"
        for value, where, said in _broken(shape.value, inner, depth + 1):
            yield {good_key: value}, where, said
        return
    for value in _bad_values(shape.value):
        sentences = _constraint_list(shape.value, ["Member must not be null"])
        text = f"Map value must satisfy constraint: {sentences}"
        yield {good_key: value}, path, [_said(shape, {good_key: value}, path, text)]


def _bad_values(shape: Shape) -> Iterator[Any]:
    """One value for each constraint of a shape's own that can be broken at all."""
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    match shape.type_name:
        case "integer" | "long" | "double" | "float":
            if least is not None:
                yield least - 1
            if most is not None:
                yield most + 1
        case "string":
            yield from _bad_texts(shape, least, most)
        case "list":
            item = sample(shape.member, {}, is_full=False)
            if least:
                yield [item] * (least - 1)
            if most is not None:
                yield [item] * (most + 1)


def _bad_texts(shape: Shape, least: int | None, most: int | None) -> Iterator[str]:
    if getattr(shape, "enum", None):
        yield "no-such-value"
        return
    if most is not None:
        yield "a" * (most + 1)
    if least:
        yield "a" * (least - 1)
    pattern = shape.metadata.get("pattern")
    if pattern is not None:
        size = max(1, least or 0)
        for text in ("?" * size, "%" * size, " " * size, "!" * size, ".", "$"):
            if _compile(pattern).fullmatch(text) is None:
                yield text
                return


def _constraints(shape: Shape) -> list[tuple[str, Callable[[Any], bool]]]:
    """A shape's own constraints as AWS words and orders them, and whether a value keeps them."""
    meta = shape.metadata
    found: list[tuple[str, Callable[[Any], bool]]] = []
    is_number = shape.type_name in ("integer", "long", "double", "float")
    noun = "value" if is_number else "length"

    def size(value: Any) -> float:
        return value if is_number else len(value)

    show = float if shape.type_name in ("double", "float") else int
    if "max" in meta:
        text = f"Member must have {noun} less than or equal to {show(meta['max'])}"
        found.append((text, lambda value: size(value) <= meta["max"]))
    if "min" in meta:
        text = f"Member must have {noun} greater than or equal to {show(meta['min'])}"
        found.append((text, lambda value: size(value) >= meta["min"]))
    if "pattern" in meta:
        pattern = _compile(meta["pattern"])
        text = f"Member must satisfy regular expression pattern: {meta['pattern']}"
        found.append((text, lambda value: pattern.fullmatch(value) is not None))
    if getattr(shape, "enum", None):
        listed = OFFERED if shape.name == "Runtime" else shape.enum
        text = f"Member must satisfy enum value set: [{', '.join(listed)}]"
        found.append((text, lambda value: value in shape.enum))
    return found


def _violated(shape: Shape, value: Any) -> list[str]:
    return [text for text, holds in _constraints(shape) if not holds(value)]


def _constraint_list(shape: Shape, more: list[str]) -> str:
    return f"[{', '.join([text for text, _ in _constraints(shape)] + more)}]"


def _together(shape: Shape, more: list[str]) -> str:
    return f"Member must satisfy constraint: {_constraint_list(shape, more)}"


def _missing(operation: str, member: str, name: str) -> Breach:
    return Breach(operation, member, None, _lower_first(name), _null(_lower_first(name)))


def _null(path: str) -> str:
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def _said(shape: Shape, value: Any, path: str, constraint: str) -> str:
    shown = "" if shape.metadata.get("sensitive") else f" '{_java(shape, value)}'"
    return f"Value{shown} at '{path}' failed to satisfy constraint: {constraint}"


def _java(shape: Shape, value: Any) -> str:
    """The value as Java prints it, cut where firelet stops to repeat it."""
    printed = _print(shape, value)
    return printed if len(printed) <= 8_192 else f"{printed[:8_192]}..."


def _print(shape: Shape, value: Any) -> str:
    if value is None:
        return "null"
    if shape.metadata.get("sensitive"):
        return "***"
    match shape.type_name:
        case "list":
            return f"[{', '.join(_print(shape.member, item) for item in value)}]"
        case "map":
            pairs = (f"{key}={_print(shape.value, item)}" for key, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        case "structure":
            members = (
                f"{_lower_first(name)}={_print(member, value.get(name))}"
                for name, member in shape.members.items()
            )
            return f"{shape.name}({', '.join(members)})"
        case "double" | "float":
            return str(float(value))
        case "boolean":
            return str(value).lower()
    return str(value)


def _is_scalar(shape: Shape) -> bool:
    return shape.type_name not in ("structure", "list", "map")


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]
