"""AWS::IAM::Role, Policy, RolePolicy and ManagedPolicy.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_IAM.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firelet.stacks import schemas
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    format_document,
    map_tags,
    unless_missing,
    without,
)

_ROLE_PARTS = ("Policies", "ManagedPolicyArns", "AssumeRolePolicyDocument", "Tags")
_VERSIONS_MAX = 5  # of a managed policy


class RoleType:
    """A role with its inline policies, attached policies, boundary and tags."""

    schema = schemas.ROLE

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        named = properties.get("RoleName", name)
        found = unless_missing(self._iam.get_role, RoleName=named)
        return () if found is None else (named,)

    def create(self, name: str, properties: Properties) -> Made:
        params = {"RoleName": name, **without(properties, _ROLE_PARTS)}
        role = self._iam.create_role(
            **params,
            AssumeRolePolicyDocument=format_document(properties["AssumeRolePolicyDocument"]),
            Tags=_list_tags(properties),
        )["Role"]
        self._set_policies(role["RoleName"], {}, properties)
        return Made(role["RoleName"], {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        iam = self._iam
        document = "AssumeRolePolicyDocument"
        if before[document] != after[document]:
            iam.update_assume_role_policy(
                RoleName=physical_id, PolicyDocument=format_document(after[document])
            )
        settings = {"Description": "", "MaxSessionDuration": 3_600}
        wanted = {name: after.get(name, empty) for name, empty in settings.items()}
        if any(before.get(name, settings[name]) != wanted[name] for name in settings):
            iam.update_role(RoleName=physical_id, **wanted)
        self._set_boundary(physical_id, before, after)
        self._set_tags(physical_id, map_tags(before), map_tags(after))
        self._set_policies(physical_id, before, after)
        role = iam.get_role(RoleName=physical_id)["Role"]
        return Made(physical_id, {"Arn": role["Arn"], "RoleId": role["RoleId"]})

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._set_policies(physical_id, properties, {})
        unless_missing(self._iam.delete_role, RoleName=physical_id)

    def _set_boundary(self, role: str, before: Properties, after: Properties) -> None:
        member = "PermissionsBoundary"
        if before.get(member) == after.get(member):
            return
        if member in after:
            self._iam.put_role_permissions_boundary(RoleName=role, **{member: after[member]})
        else:
            unless_missing(self._iam.delete_role_permissions_boundary, RoleName=role)

    def _set_tags(self, role: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        gone = sorted(before.keys() - after.keys())
        if gone:
            self._iam.untag_role(RoleName=role, TagKeys=gone)
        if after != before and after:
            self._iam.tag_role(RoleName=role, Tags=_list_tags({"Tags": after}))

    def _set_policies(self, role: str, before: Properties, after: Properties) -> None:
        _set_inline(self._iam, role, _inline(before), _inline(after))
        old, new = before.get("ManagedPolicyArns") or [], after.get("ManagedPolicyArns") or []
        for arn in new:
            if arn not in old:
                self._iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        for arn in old:
            if arn not in new:
                unless_missing(self._iam.detach_role_policy, RoleName=role, PolicyArn=arn)


class PolicyType:
    """An inline policy of some roles."""

    schema = schemas.POLICY

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        policy = properties["PolicyName"]
        found = (
            unless_missing(self._iam.get_role_policy, RoleName=role, PolicyName=policy)
            for role in properties.get("Roles") or []
        )
        return (name,) if any(item is not None for item in found) else ()

    def create(self, name: str, properties: Properties) -> Made:
        if not properties.get("Roles"):
            raise StackError("At least one of [Groups,Roles,Users] must be non-empty.")
        if self.find(name, properties):
            # PutRolePolicy would overwrite what is not this resource's.
            raise StackError(f"a role has an inline policy {properties['PolicyName']} already")
        return self.update(name, {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        old, new = _placed(before), _placed(after)
        for role, policy in new:
            self._iam.put_role_policy(
                RoleName=role,
                PolicyName=policy,
                PolicyDocument=format_document(after["PolicyDocument"]),
            )
        self._remove([place for place in old if place not in new])
        return Made(physical_id, {"Id": physical_id})

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._remove(_placed(properties))

    def _remove(self, places: Sequence[tuple[str, str]]) -> None:
        for role, policy in places:
            unless_missing(self._iam.delete_role_policy, RoleName=role, PolicyName=policy)


class RolePolicyType:
    """An inline policy of one role."""

    schema = schemas.ROLE_POLICY

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._iam.get_role_policy, **_inline_place(properties))
        return () if found is None else (_format_place(properties),)

    def create(self, name: str, properties: Properties) -> Made:
        if self.find(name, properties):
            # PutRolePolicy would overwrite what is not this resource's.
            raise StackError(f"the role has an inline policy {properties['PolicyName']} already")
        return self.update(_format_place(properties), {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        document = format_document(after["PolicyDocument"])
        self._iam.put_role_policy(**_inline_place(after), PolicyDocument=document)
        return Made(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._iam.delete_role_policy, **_inline_place(properties))


class ManagedPolicyType:
    """A policy of its own, attached to some roles."""

    schema = schemas.MANAGED_POLICY

    def __init__(self, clients: Clients) -> None:
        self._iam = clients("iam")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        named = properties.get("ManagedPolicyName", name)
        pages = self._iam.get_paginator("list_policies").paginate(Scope="Local")
        found = [item for page in pages for item in page["Policies"]]
        return [item["Arn"] for item in found if item["PolicyName"] == named]

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("ManagedPolicyName", "PolicyDocument", "Roles"))
        policy = self._iam.create_policy(
            **params,
            PolicyName=properties.get("ManagedPolicyName", name),
            PolicyDocument=format_document(properties["PolicyDocument"]),
        )["Policy"]
        self._attach(policy["Arn"], (), _roles(properties))
        return Made(policy["Arn"], {"PolicyArn": policy["Arn"], "PolicyId": policy["PolicyId"]})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        document = "PolicyDocument"
        if before[document] != after[document]:
            self._make_room(physical_id)
            self._iam.create_policy_version(
                PolicyArn=physical_id,
                PolicyDocument=format_document(after[document]),
                SetAsDefault=True,
            )
        self._attach(physical_id, _roles(before), _roles(after))
        policy = self._iam.get_policy(PolicyArn=physical_id)["Policy"]
        return Made(physical_id, {"PolicyArn": physical_id, "PolicyId": policy["PolicyId"]})

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._attach(physical_id, _roles(properties), ())
        for version in self._other_versions(physical_id):
            self._remove_version(physical_id, version)
        unless_missing(self._iam.delete_policy, PolicyArn=physical_id)

    def _attach(self, arn: str, before: Sequence[str], after: Sequence[str]) -> None:
        for role in after:
            if role not in before:
                self._iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        for role in before:
            if role not in after:
                unless_missing(self._iam.detach_role_policy, RoleName=role, PolicyArn=arn)

    def _make_room(self, arn: str) -> None:
        others = self._other_versions(arn)
        if len(others) >= _VERSIONS_MAX - 1:
            self._remove_version(arn, others[-1])

    def _other_versions(self, arn: str) -> list[str]:
        """Versions that are not the default one, newest first."""
        answer = unless_missing(self._iam.list_policy_versions, PolicyArn=arn)
        found = answer["Versions"] if answer else []
        others = [item["VersionId"] for item in found if not item["IsDefaultVersion"]]
        return sorted(others, key=lambda version: int(version.removeprefix("v")), reverse=True)

    def _remove_version(self, arn: str, version: str) -> None:
        unless_missing(self._iam.delete_policy_version, PolicyArn=arn, VersionId=version)


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
            unless_missing(iam.delete_role_policy, RoleName=role, PolicyName=name)


def _roles(properties: Properties) -> list[str]:
    return list(properties.get("Roles") or [])


def _inline_place(properties: Properties) -> dict[str, Any]:
    return {name: properties[name] for name in ("RoleName", "PolicyName")}


def _format_place(properties: Properties) -> str:
    return f"{properties['PolicyName']}|{properties['RoleName']}"


def _placed(properties: Properties) -> list[tuple[str, str]]:
    return [(role, properties["PolicyName"]) for role in _roles(properties)]


def _list_tags(properties: Properties) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in map_tags(properties).items()]
