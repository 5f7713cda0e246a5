"""In which order the resources of a template are made: what each refers to comes first. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.template import Template

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


def find_references(expression: Any) -> Iterator[str]:
    """Names in Ref, Fn::GetAtt and Fn::Sub at any depth; parameters are among them."""
    if isinstance(expression, list):
        for item in expression:
            yield from find_references(item)
    elif isinstance(expression, dict):
        for name, operand in expression.items():
            if name == "Ref" and isinstance(operand, str):
                yield operand
            elif name == "Fn::GetAtt":
                yield operand.split(".")[0] if isinstance(operand, str) else operand[0]
            elif name == "Fn::Sub":
                text = operand if isinstance(operand, str) else operand[0]
                for found in _PLACEHOLDER.findall(text):
                    yield found.strip().split(".")[0]
                yield from find_references(operand)
            else:
                yield from find_references(operand)
