"""CloudFormation's YAML: short forms of intrinsic functions, and no duplicate keys.

Apart from ``stacks.template`` because PyYAML is there only with the extra ``sam``.
"""

from __future__ import annotations

from typing import Any

import yaml

# Short forms whose long form has no ``Fn::``.
_PLAIN = ("Ref", "Condition")


class TemplateLoader(yaml.SafeLoader):
    """``!Sub text`` is ``{"Fn::Sub": text}``, and so on."""


def _construct_function(loader: TemplateLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in _PLAIN else f"Fn::{suffix}"
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name: value}


def _construct_mapping(loader: TemplateLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise yaml.MarkedYAMLError(problem=f"{twice} is there twice", problem_mark=node.start_mark)
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


TemplateLoader.add_multi_constructor("!", _construct_function)
TemplateLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
