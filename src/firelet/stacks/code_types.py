"""What hangs on code: AWS::Lambda::LayerVersionPermission and CodeSigningConfig.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Lambda.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from firelet.stacks import schemas
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    map_tags,
    unless_missing,
    without,
)


class LayerVersionPermissionType:
    """A statement of a layer version's policy. Never changed: another one takes its place."""

    schema = schemas.LAYER_VERSION_PERMISSION

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        place = _read_layer(properties["LayerVersionArn"])
        answer = unless_missing(self._functions.get_layer_version_policy, **place)
        statements = json.loads(answer["Policy"])["Statement"] if answer else []
        is_there = any(statement.get("Sid") == name for statement in statements)
        return (_format_id(name, properties),) if is_there else ()

    def create(self, name: str, properties: Properties) -> Made:
        given = without(properties, ("LayerVersionArn",))
        place = _read_layer(properties["LayerVersionArn"])
        self._functions.add_layer_version_permission(**place, StatementId=name, **given)
        made = _format_id(name, properties)
        return Made(made, {"Id": made})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._functions.remove_layer_version_permission,
            **_read_layer(properties["LayerVersionArn"]),
            StatementId=physical_id.rpartition("#")[2],
        )


class CodeSigningConfigType:
    """Which publishers' signatures a function's code may have."""

    schema = schemas.CODE_SIGNING_CONFIG

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        pages = self._functions.get_paginator("list_code_signing_configs").paginate()
        found = [item for page in pages for item in page["CodeSigningConfigs"]]
        return [item["CodeSigningConfigArn"] for item in found]

    def create(self, name: str, properties: Properties) -> Made:
        given = without(properties, ("Tags",))
        answer = self._functions.create_code_signing_config(**given, Tags=map_tags(properties))
        return _made(answer["CodeSigningConfig"])

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        cleared = {
            "Description": "",
            "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Warn"},
        }
        gone = {name: cleared[name] for name in cleared if name in before}
        answer = self._functions.update_code_signing_config(
            CodeSigningConfigArn=physical_id, **{**gone, **without(after, ("Tags",))}
        )
        old, new = map_tags(before), map_tags(after)
        if old.keys() - new.keys():
            keys = sorted(old.keys() - new.keys())
            self._functions.untag_resource(Resource=physical_id, TagKeys=keys)
        if new != old and new:
            self._functions.tag_resource(Resource=physical_id, Tags=new)
        return _made(answer["CodeSigningConfig"])

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._functions.delete_code_signing_config, CodeSigningConfigArn=physical_id)


def _made(config: Properties) -> Made:
    arn = config["CodeSigningConfigArn"]
    attributes = {"CodeSigningConfigArn": arn, "CodeSigningConfigId": config["CodeSigningConfigId"]}
    return Made(arn, attributes)


def _read_layer(arn: str) -> dict[str, Any]:
    layer, _, number = arn.rpartition(":")
    return {"LayerName": layer, "VersionNumber": int(number)}


def _format_id(name: str, properties: Properties) -> str:
    return f"{properties['LayerVersionArn']}#{name}"
