"""One stack at an endpoint: reads a template, applies it, and deletes it again.

The facade of the package; ``firelet deploy`` and ``firelet delete`` call it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from firelet.stacks.access_types import EventInvokeConfigType, PermissionType, UrlType
from firelet.stacks.calls import LenientClient
from firelet.stacks.code_types import CodeSigningConfigType, LayerVersionPermissionType
from firelet.stacks.engine import Engine
from firelet.stacks.errors import StackError
from firelet.stacks.exports import check_exports, collect_exports
from firelet.stacks.function_types import (
    AliasType,
    FunctionType,
    LayerVersionType,
    Packages,
    VersionType,
)
from firelet.stacks.gateway_types import make_gateway_types
from firelet.stacks.iam_types import ManagedPolicyType, PolicyType, RolePolicyType, RoleType
from firelet.stacks.lock import hold_lock
from firelet.stacks.logs_types import LogGroupType
from firelet.stacks.mapping_type import EventSourceMappingType
from firelet.stacks.packages import PackageFolder
from firelet.stacks.parameters import resolve_parameters
from firelet.stacks.plan import Change, check_types, make_plan
from firelet.stacks.resource_types import Clients, ResourceType
from firelet.stacks.rest_api_types import make_rest_api_types
from firelet.stacks.sam import take_in_code, transform
from firelet.stacks.state import UNFINISHED, StackState, StateFile, Status, load_others
from firelet.stacks.template import (
    EXTENSIONS_TRANSFORM,
    SAM_TRANSFORM,
    Template,
    find_transforms,
    load_document,
    parse_template,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_DELETING = (Status.DELETE_IN_PROGRESS, Status.DELETE_FAILED)
Pack = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where stacks are: an account and region of an endpoint, and the folder of their states."""

    clients: Clients
    account: str
    region: str
    states: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A stack after its deployment. ``left`` says what should have been deleted and could not be;
    empty when all was."""

    outputs: Mapping[str, Any]
    status: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A template that was read: its parameters' and pseudo parameters' values, its zips."""

    template: Template
    known: Mapping[str, Any]
    packages: Mapping[str, bytes]


def deploy_stack(
    place: Place,
    name: str,
    template: Path,
    given: Mapping[str, str],
    pack: Pack,
    report: Callable[[Change], None],
) -> Deployed:
    """Applies a template. ``given`` are parameters, ``pack`` makes a zip of a path. A deployment
    before that was cut short is taken back first. StackError, or what botocore raises."""
    file, folder = _open_state(place, name), PackageFolder(place.states, name)
    types = make_types(place.clients, folder)
    engine = Engine(types, file.save, report)
    with hold_lock(place.states, name):
        wanted = _read(place, name, template, given, pack, types)
        state, others = _load(file, name), load_others(place.states, name)
        engine.recover(state)
        exports = collect_exports(others)
        _plan(wanted, exports, state, types)
        folder.add(wanted.packages)
        check = partial(check_exports, state.exports, others=others)
        try:
            engine.deploy(wanted.template, wanted.known, state, exports, check)
        finally:
            if state.status not in UNFINISHED:
                folder.prune([*state.resources.values(), *(i.resource for i in state.retired)])
    assert state.status is not None
    return Deployed(outputs=state.outputs, status=state.status, left=state.reason)


def plan_stack(
    place: Place, name: str, template: Path, given: Mapping[str, str], pack: Pack
) -> list[Change]:
    """What ``deploy_stack`` would do. Changes nothing."""
    file = _open_state(place, name)
    types = make_types(place.clients, PackageFolder(place.states, name))
    wanted = _read(place, name, template, given, pack, types)
    state = _load(file, name)
    if state.status in UNFINISHED:
        raise StackError(
            f"the stack {name} is {state.status}: the next deployment takes that back first, and"
            " can be planned after it"
        )
    return _plan(wanted, collect_exports(load_others(place.states, name)), state, types)


def delete_stack(place: Place, name: str, report: Callable[[Change], None]) -> None:
    """Deletes everything that a stack has made. StackError when there is no such stack, or when
    something could not be deleted."""
    file, folder = _open_state(place, name), PackageFolder(place.states, name)
    if file.load() is None:
        raise StackError(f"there is no stack {name} here")
    with hold_lock(place.states, name):
        state = file.load()
        if state is None:
            raise StackError(f"there is no stack {name} here")
        check_exports(state.exports, {}, load_others(place.states, name))
        Engine(make_types(place.clients, folder), file.save, report).delete(state)
        folder.delete()
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
        "AWS::Lambda::LayerVersionPermission": LayerVersionPermissionType(clients),
        "AWS::Lambda::CodeSigningConfig": CodeSigningConfigType(clients),
        "AWS::IAM::Role": RoleType(clients),
        "AWS::IAM::Policy": PolicyType(clients),
        "AWS::IAM::RolePolicy": RolePolicyType(clients),
        "AWS::IAM::ManagedPolicy": ManagedPolicyType(clients),
        "AWS::Logs::LogGroup": LogGroupType(clients),
        **make_gateway_types(clients),
        **make_rest_api_types(clients),
    }


def _read(
    place: Place,
    name: str,
    path: Path,
    given: Mapping[str, str],
    pack: Pack,
    types: Mapping[str, ResourceType],
) -> _Wanted:
    document = load_document(path.read_text())
    transforms = find_transforms(document)
    document, packages = take_in_code(document, path.parent, pack)
    known = resolve_parameters(document.get("Parameters") or {}, given)
    if SAM_TRANSFORM in transforms:
        document = transform(
            document, known, place.region, lambda: _list_managed_policies(place.clients("iam"))
        )
    parsed = parse_template(document, has_extensions=EXTENSIONS_TRANSFORM in transforms)
    # Types first: they are known without asking anybody.
    check_types(parsed, {key: kind.schema for key, kind in types.items()})
    known |= _pseudo_parameters(place, name)
    return _Wanted(template=parsed, known=known, packages=packages)


def _load(file: StateFile, name: str) -> StackState:
    state = file.load() or StackState(name=name)
    if state.status in _DELETING:
        raise StackError(f"the stack {name} is in {state.status} state and cannot be updated")
    return state


def _plan(
    wanted: _Wanted,
    exports: Mapping[str, str],
    state: StackState,
    types: Mapping[str, ResourceType],
) -> list[Change]:
    schemas = {key: kind.schema for key, kind in types.items()}
    return make_plan(wanted.template, wanted.known, exports, state, schemas)


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
