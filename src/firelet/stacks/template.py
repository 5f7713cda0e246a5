"""Templates: YAML or JSON text as typed values.

What it is: the sections of a template and the short forms of intrinsic functions (``!Ref``). What
it is not: evaluation (``stacks.intrinsics``) or the SAM transform (``stacks.sam``).
Source: docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firelet.stacks.errors import StackError, lacks_extra

SAM_TRANSFORM = "AWS::Serverless-2016-10-31"
EXTENSIONS_TRANSFORM = "AWS::LanguageExtensions"
_SECTIONS = frozenset(
    {"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings"}
    | {"Conditions", "Transform", "Globals", "Resources", "Outputs"}
)
_ATTRIBUTES = frozenset(
    {"Type", "Properties", "DependsOn", "Condition", "Metadata"}
    | {"DeletionPolicy", "UpdateReplacePolicy"}
)
_POLICIES: Mapping[str, tuple[str, ...]] = {
    "DeletionPolicy": ("Delete", "Retain", "RetainExceptOnCreate"),
    "UpdateReplacePolicy": ("Delete", "Retain"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource as the template says it, with its expressions."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    condition: str | None = None
    is_retained: bool = False  # when it leaves the stack
    is_kept_when_replaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template without macros. ``outputs`` and ``parameters`` are as they were written;
    ``has_extensions`` is whether it asks for the functions of AWS::LanguageExtensions."""

    parameters: Mapping[str, Mapping[str, Any]]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    resources: Mapping[str, Resource]
    outputs: Mapping[str, Mapping[str, Any]]
    has_extensions: bool = False


def load_document(text: str) -> dict[str, Any]:
    """The text of a template as plain values. StackError when it is none."""
    try:
        import yaml
    except ImportError:
        raise lacks_extra() from None
    from firelet.stacks.yaml_tags import TemplateLoader

    try:
        # The loader is a SafeLoader that knows CloudFormation's tags. JSON is YAML.
        document = yaml.load(text, Loader=TemplateLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise StackError(f"the template is not YAML or JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise StackError("the template has no Resources")
    # Dates and the like become the text that they were in JSON.
    plain: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return plain


def find_transforms(document: Mapping[str, Any]) -> frozenset[str]:
    """The transforms that the template asks for; StackError names one that is not supported."""
    named = document.get("Transform") or []
    transforms = named if isinstance(named, list) else [named]
    for transform in transforms:
        if transform not in (SAM_TRANSFORM, EXTENSIONS_TRANSFORM):
            raise StackError(f"the transform {transform} is not supported")
    return frozenset(transforms)


def parse_template(document: Mapping[str, Any], *, has_extensions: bool = False) -> Template:
    """The sections of a template after its transform. StackError names what is not supported."""
    unknown = sorted(document.keys() - _SECTIONS)
    if unknown:
        raise StackError(f"the template's section {unknown[0]} is not supported")
    resources = {
        name: _parse_resource(name, declared) for name, declared in document["Resources"].items()
    }
    outputs = document.get("Outputs") or {}
    for name, output in outputs.items():
        if not isinstance(output, dict) or "Value" not in output:
            raise StackError(f"the output {name} has no Value")
    return Template(
        parameters=document.get("Parameters") or {},
        mappings=document.get("Mappings") or {},
        conditions=document.get("Conditions") or {},
        resources=resources,
        outputs=outputs,
        has_extensions=has_extensions,
    )


def _parse_resource(name: str, declared: Any) -> Resource:
    if name.startswith("Fn::"):
        raise StackError(f"{name}: the function Fn::{name.split('::')[1]} is not supported")
    if not isinstance(declared, dict) or not isinstance(declared.get("Type"), str):
        raise StackError(f"the resource {name} has no Type")
    unknown = sorted(declared.keys() - _ATTRIBUTES)
    if unknown:
        raise StackError(f"the attribute {unknown[0]} of {name} is not supported")
    depends_on = declared.get("DependsOn") or []
    return Resource(
        logical_id=name,
        type=declared["Type"],
        properties=declared.get("Properties") or {},
        depends_on=(depends_on,) if isinstance(depends_on, str) else tuple(depends_on),
        condition=declared.get("Condition"),
        is_retained=_read_policy(name, declared, "DeletionPolicy") != "Delete",
        is_kept_when_replaced=_read_policy(name, declared, "UpdateReplacePolicy") != "Delete",
    )


def _read_policy(name: str, declared: Mapping[str, Any], attribute: str) -> str:
    policy = declared.get(attribute, "Delete")
    if policy not in _POLICIES[attribute]:
        raise StackError(f"the {attribute} {policy} of {name} is not supported")
    return str(policy)
