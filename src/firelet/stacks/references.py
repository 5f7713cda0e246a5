"""What the expressions of a template refer to, and in which order its resources are made. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.template import Template

NO_VALUE = "AWS::NoValue"
_PLACEHOLDER = re.compile(r"\$\{([^!}][^}]*)\}")


def order_resources(template: Template) -> list[str]:
    """Logical ids, dependencies first. StackError for a circle, or for DependsOn of nothing."""
    graph: dict[str, set[str]] = {}
    for name, resource in template.resources.items():
        for needed in resource.depends_on:
            if needed not in template.resources:
                raise StackError(f"{name} depends on {needed}, which is not in the template")
        found = set(find_references(resource.properties)) & template.resources.keys()
        graph[name] = {*found, *resource.depends_on}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise StackError(f"the resources refer to each other in a circle: {circle}") from None


def check_references(template: Template, known: Iterable[str]) -> None:
    """StackError names what a resource or an output refers to, and nothing defines. ``known`` are
    the names of parameters and pseudo parameters."""
    names = {*known, *template.resources, NO_VALUE}
    parts = [(name, resource.properties) for name, resource in template.resources.items()]
    parts += [(f"the output {name}", output) for name, output in template.outputs.items()]
    for place, expression in parts:
        for name in find_references(expression):
            if name not in names:
                raise StackError(
                    f"{place} refers to {name}, which is neither a parameter nor a resource"
                )


def find_references(expression: Any) -> Iterator[str]:
    """Names in Ref, Fn::GetAtt and Fn::Sub at any depth; parameters are among them."""
    if isinstance(expression, list):
        for item in expression:
            yield from find_references(item)
    elif isinstance(expression, dict):
        for name, operand in expression.items():
            if name == "Ref" and isinstance(operand, str):
                yield operand
            elif name == "Fn::GetAtt" and isinstance(operand, str | list) and operand:
                yield str(operand.split(".")[0] if isinstance(operand, str) else operand[0])
            elif name == "Fn::Sub" and isinstance(operand, str | list) and operand:
                yield from _find_in_text(operand)
            else:
                yield from find_references(operand)


def _find_in_text(operand: str | list[Any]) -> Iterator[str]:
    text, given = (operand, {}) if isinstance(operand, str) else (operand[0], operand[-1])
    own = given if isinstance(given, dict) else {}
    for found in _PLACEHOLDER.findall(str(text)):
        name = found.strip()
        if name not in own:
            yield name.split(".")[0]
    yield from find_references(own)
