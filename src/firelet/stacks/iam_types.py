"""AWS::IAM::Role, Policy and ManagedPolicy.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_IAM.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    format_document,
    map_tags,
    without,
)

_ROLE_PARTS = ("Policies", "ManagedPolicyArns", "AssumeRolePolicyDocument", "Tags")


class RoleType:
    """A role with its inline policies, attached policies and tags."""

    immutable = frozenset({"RoleName", "Path", "PermissionsBoundary"})

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, _ROLE_PARTS)
        params.setdefault("RoleName", name)
        role = self._iam.create_role(
            **params,
            AssumeRolePolicyDocument=format_document(properties["AssumeRolePolicyDocument"]),
            Tags=_list_tags(properties),
        )["Role"]
        self._set_policies(role["RoleName"], {}, properties)
        return Made(role["RoleName"], {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        iam = self._iam
        if before["AssumeRolePolicyDocument"] != after["AssumeRolePolicyDocument"]:
            iam.update_assume_role_policy(
                RoleName=physical_id,
                PolicyDocument=format_document(after["AssumeRolePolicyDocument"]),
            )
        settings = {"Description": "", "MaxSessionDuration": 3_600}
        wanted = {name: after.get(name, empty) for name, empty in settings.items()}
        if any(before.get(name, settings[name]) != wanted[name] for name in settings):
            iam.update_role(RoleName=physical_id, **wanted)
        gone = sorted(map_tags(before).keys() - map_tags(after).keys())
        if gone:
            iam.untag_role(RoleName=physical_id, TagKeys=gone)
        if map_tags(after) != map_tags(before) and map_tags(after):
            iam.tag_role(RoleName=physical_id, Tags=_list_tags(after))
        self._set_policies(physical_id, before, after)
        role = iam.get_role(RoleName=physical_id)["Role"]
        return Made(physical_id, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._set_policies(physical_id, properties, {})
        self._iam.delete_role(RoleName=physical_id)

    def _set_policies(self, role: str, before: Properties, after: Properties) -> None:
        _set_inline(self._iam, role, _inline(before), _inline(after))
        old, new = before.get("ManagedPolicyArns") or [], after.get("ManagedPolicyArns") or []
        for arn in new:
            if arn not in old:
                self._iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        for arn in old:
            if arn not in new:
                self._iam.detach_role_policy(RoleName=role, PolicyArn=arn)


class PolicyType:
    """An inline policy of some roles."""

    immutable = frozenset({"PolicyName"})

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def create(self, name: str, properties: Properties) -> Made:
        policy = properties["PolicyName"]
        for role in _roles(properties):
            _set_inline(self._iam, role, {}, {policy: properties["PolicyDocument"]})
        return Made(policy)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        for role in _roles(before):
            if role not in _roles(after):
                self._iam.delete_role_policy(RoleName=role, PolicyName=physical_id)
        return self.create(physical_id, after)

    def delete(self, physical_id: str, properties: Properties) -> None:
        for role in _roles(properties):
            self._iam.delete_role_policy(RoleName=role, PolicyName=physical_id)


class ManagedPolicyType:
    """A policy of its own, attached to some roles. Another document takes another policy."""

    immutable = frozenset({"ManagedPolicyName", "Path", "Description", "PolicyDocument"})

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("ManagedPolicyName", "PolicyDocument", "Roles"))
        arn = self._iam.create_policy(
            **params,
            PolicyName=properties.get("ManagedPolicyName", name),
            PolicyDocument=format_document(properties["PolicyDocument"]),
        )["Policy"]["Arn"]
        return self.update(arn, {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        for role in _roles(before):
            if role not in _roles(after):
                self._iam.detach_role_policy(RoleName=role, PolicyArn=physical_id)
        for role in _roles(after):
            if role not in _roles(before):
                self._iam.attach_role_policy(RoleName=role, PolicyArn=physical_id)
        return Made(physical_id, {"PolicyArn": physical_id})

    def delete(self, physical_id: str, properties: Properties) -> None:
        for role in _roles(properties):
            self._iam.detach_role_policy(RoleName=role, PolicyArn=physical_id)
        self._iam.delete_policy(PolicyArn=physical_id)


def _inline(properties: Properties) -> dict[str, Any]:
    return {item["PolicyName"]: item["PolicyDocument"] for item in properties.get("Policies") or []}


def _set_inline(iam: Any, role: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for name, document in after.items():
        if before.get(name) != document:
            iam.put_role_policy(
                RoleName=role, PolicyName=name, PolicyDocument=format_document(document)
            )
    for name in before:
        if name not in after:
            iam.delete_role_policy(RoleName=role, PolicyName=name)


def _roles(properties: Properties) -> list[str]:
    for member in ("Users", "Groups"):
        if properties.get(member):
            raise StackError(f"{member} of a policy are not supported")
    return list(properties.get("Roles") or [])


def _list_tags(properties: Properties) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in map_tags(properties).items()]
