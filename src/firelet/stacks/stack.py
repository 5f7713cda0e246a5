"""One stack at an endpoint: reads a template, applies it, and deletes it again.

The facade of the package; ``firelet deploy`` and ``firelet delete`` call it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelet.stacks.access_types import (
    EventInvokeConfigType,
    EventSourceMappingType,
    PermissionType,
    UrlType,
)
from firelet.stacks.calls import LenientClient
from firelet.stacks.engine import Change, Engine
from firelet.stacks.errors import StackError
from firelet.stacks.function_types import AliasType, FunctionType, LayerVersionType, VersionType
from firelet.stacks.iam_types import ManagedPolicyType, PolicyType, RoleType
from firelet.stacks.logs_types import LogGroupType
from firelet.stacks.parameters import resolve_parameters
from firelet.stacks.resource_types import Clients, ResourceType
from firelet.stacks.sam import Packages, take_in_code, transform
from firelet.stacks.state import StackState, StateFile
from firelet.stacks.template import load_document, parse_template, uses_sam

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where stacks are: an account and region of an endpoint, and the folder of their states."""

    clients: Clients
    account: str
    region: str
    states: Path


def deploy_stack(
    place: Place,
    name: str,
    template: Path,
    given: Mapping[str, str],
    pack: Callable[[Path], bytes],
    report: Callable[[Change], None],
) -> Mapping[str, Any]:
    """Applies a template; its outputs. ``given`` are parameters, ``pack`` makes a zip of a path.
    StackError, or what botocore raises."""
    document, packages = take_in_code(load_document(template.read_text()), template.parent, pack)
    known = resolve_parameters(document.get("Parameters") or {}, given)
    if uses_sam(document):
        document = transform(
            document, known, place.region, lambda: _list_managed_policies(place.clients("iam"))
        )
    file = _open_state(place, name)
    state = file.load() or StackState(name=name)
    parsed = parse_template(document)
    engine = Engine(make_types(place.clients, packages), file.save, report)
    # Types first: they are known without asking anybody.
    engine.check(parsed)
    engine.deploy(parsed, {**known, **_pseudo_parameters(place, name)}, state)
    return state.outputs


def delete_stack(place: Place, name: str, report: Callable[[Change], None]) -> None:
    """Deletes everything that a stack has made. StackError when there is no such stack."""
    file = _open_state(place, name)
    state = file.load()
    if state is None:
        raise StackError(f"there is no stack {name} here")
    Engine(make_types(place.clients, {}), file.save, report).delete(state)
    file.delete()


def make_types(connect: Clients, packages: Packages) -> dict[str, ResourceType]:
    """Every supported type by its name in templates."""

    def clients(service: str) -> LenientClient:
        return LenientClient(connect(service))

    return {
        "AWS::Lambda::Function": FunctionType(clients, packages),
        "AWS::Lambda::Version": VersionType(clients),
        "AWS::Lambda::Alias": AliasType(clients),
        "AWS::Lambda::LayerVersion": LayerVersionType(clients, packages),
        "AWS::Lambda::Permission": PermissionType(clients),
        "AWS::Lambda::Url": UrlType(clients),
        "AWS::Lambda::EventInvokeConfig": EventInvokeConfigType(clients),
        "AWS::Lambda::EventSourceMapping": EventSourceMappingType(clients),
        "AWS::IAM::Role": RoleType(clients),
        "AWS::IAM::Policy": PolicyType(clients),
        "AWS::IAM::ManagedPolicy": ManagedPolicyType(clients),
        "AWS::Logs::LogGroup": LogGroupType(clients),
    }


def _open_state(place: Place, name: str) -> StateFile:
    if _NAME.fullmatch(name) is None:
        raise StackError(f"{name} is no name of a stack: letters, digits and hyphens")
    return StateFile(place.states, name)


def _pseudo_parameters(place: Place, name: str) -> dict[str, Any]:
    stack_id = f"arn:aws:cloudformation:{place.region}:{place.account}:stack/{name}/firelet"
    return {
        "AWS::AccountId": place.account,
        "AWS::Region": place.region,
        "AWS::Partition": "aws",
        "AWS::URLSuffix": "amazonaws.com",
        "AWS::StackName": name,
        "AWS::StackId": stack_id,
        "AWS::NotificationARNs": [],
    }


def _list_managed_policies(iam: Any) -> dict[str, str]:
    pages = iam.get_paginator("list_policies").paginate(Scope="AWS")
    return {item["PolicyName"]: item["Arn"] for page in pages for item in page["Policies"]}
