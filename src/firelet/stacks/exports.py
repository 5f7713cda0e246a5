"""Outputs that a stack exports, and other stacks import by name. Pure.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-stack-exports.html. The
sentences follow CloudFormation's, from memory of its console.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.intrinsics import Evaluator
from firelet.stacks.state import StackState
from firelet.stacks.template import Template


def read_exports(
    template: Template, outputs: Mapping[str, Any], evaluator: Evaluator
) -> dict[str, str]:
    """What the template exports: values by the names under which others import them."""
    exports: dict[str, str] = {}
    for name, value in outputs.items():
        export = template.outputs[name].get("Export")
        if export is None:
            continue
        if not isinstance(export, Mapping) or "Name" not in export:
            raise StackError(f"the Export of the output {name} has no Name")
        exported = str(evaluator.value(export["Name"]))
        if exported in exports:
            raise StackError(f"two outputs export {exported}")
        exports[exported] = str(value)
    return exports


def collect_exports(others: Iterable[StackState]) -> dict[str, str]:
    """What all of these stacks export."""
    return {name: value for state in others for name, value in state.exports.items()}


def check_exports(
    before: Mapping[str, str], after: Mapping[str, str], others: Iterable[StackState]
) -> None:
    """StackError when another stack exports a name too, or imports one that changes."""
    for other in others:
        for name in sorted(after):
            if name in other.exports:
                raise StackError(
                    f"Export with name {name} is already exported by stack {other.name}"
                )
        for name in other.imports:
            if name in before and before[name] != after.get(name):
                verb = "updated" if name in after else "deleted"
                raise StackError(f"Export {name} cannot be {verb} as it is in use by {other.name}")
