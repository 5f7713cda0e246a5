"""IAM operations on roles: parameters in, output members out.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/ and the service model of ``iam``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from firelet.frontend.iam_pages import cut_page
from firelet.frontend.operations import Call, Operations
from firelet.iam.errors import EntityAlreadyExists, InvalidInput, NoSuchEntity
from firelet.iam.policies import Policies
from firelet.iam.roles import SERVICE_ROLE_PATH, SESSION_DEFAULT_S, Role, Roles

Output = Mapping[str, Any]

# Services whose role name does not follow from their host name.
_SERVICE_ROLE_NAMES = {
    "lambda.amazonaws.com": "AWSServiceRoleForLambda",
    "replicator.lambda.amazonaws.com": "AWSServiceRoleForLambdaReplicator",
    "lambda.application-autoscaling.amazonaws.com": (
        "AWSServiceRoleForApplicationAutoScaling_LambdaConcurrency"
    ),
}


class IamRoleOperations:
    """Roles with their tags, inline policies and attachments."""

    def __init__(self, roles: Roles, policies: Policies) -> None:
        self._roles = roles
        self._policies = policies

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateRole", self.create_role),
            ("GetRole", self.get_role),
            ("ListRoles", self.list_roles),
            ("UpdateRole", self.update_role),
            ("UpdateRoleDescription", self.update_role_description),
            ("UpdateAssumeRolePolicy", self.update_assume_role_policy),
            ("DeleteRole", self.delete_role),
            ("PutRolePermissionsBoundary", self.put_role_permissions_boundary),
            ("DeleteRolePermissionsBoundary", self.delete_role_permissions_boundary),
            ("TagRole", self.tag_role),
            ("UntagRole", self.untag_role),
            ("ListRoleTags", self.list_role_tags),
            ("PutRolePolicy", self.put_role_policy),
            ("GetRolePolicy", self.get_role_policy),
            ("ListRolePolicies", self.list_role_policies),
            ("DeleteRolePolicy", self.delete_role_policy),
            ("AttachRolePolicy", self.attach_role_policy),
            ("DetachRolePolicy", self.detach_role_policy),
            ("ListAttachedRolePolicies", self.list_attached_role_policies),
            ("ListInstanceProfilesForRole", self.list_instance_profiles_for_role),
            ("CreateServiceLinkedRole", self.create_service_linked_role),
            ("DeleteServiceLinkedRole", self.delete_service_linked_role),
            ("GetServiceLinkedRoleDeletionStatus", self.get_service_linked_role_deletion_status),
        ):
            operations.add("iam", name, handler)

    async def create_role(self, call: Call) -> Output:
        params = call.params
        role = await self._roles.create(
            call.account,
            params["RoleName"],
            params["AssumeRolePolicyDocument"],
            path=params.get("Path") or "/",
            description=params.get("Description", ""),
            max_session_s=params.get("MaxSessionDuration", SESSION_DEFAULT_S),
            permissions_boundary=params.get("PermissionsBoundary"),
            tags=params.get("Tags", ()),
        )
        return {"Role": _describe(role)}

    async def get_role(self, call: Call) -> Output:
        role = self._roles.get(call.account, call.params["RoleName"])
        # No date and region: firelet does not follow when a role was last used.
        return {"Role": {**_describe(role), "RoleLastUsed": {}}}

    async def list_roles(self, call: Call) -> Output:
        """A list leaves out tags and boundaries. Source: API reference of ListRoles."""
        roles = self._roles.of_account(call.account, call.params.get("PathPrefix", "/"))
        page, paging = cut_page(roles, call.params, lambda role: role.name)
        return {"Roles": [_summarize(role) for role in page], **paging}

    async def update_role(self, call: Call) -> Output:
        await self._roles.update(
            call.account,
            call.params["RoleName"],
            description=call.params.get("Description"),
            max_session_s=call.params.get("MaxSessionDuration"),
        )
        return {}

    async def update_role_description(self, call: Call) -> Output:
        role = await self._roles.update(
            call.account, call.params["RoleName"], description=call.params["Description"]
        )
        return {"Role": _describe(role)}

    async def update_assume_role_policy(self, call: Call) -> None:
        await self._roles.set_trust_policy(
            call.account, call.params["RoleName"], call.params["PolicyDocument"]
        )

    async def delete_role(self, call: Call) -> None:
        await self._roles.delete(call.account, call.params["RoleName"])

    async def put_role_permissions_boundary(self, call: Call) -> None:
        await self._roles.set_boundary(
            call.account, call.params["RoleName"], call.params["PermissionsBoundary"]
        )

    async def delete_role_permissions_boundary(self, call: Call) -> None:
        await self._roles.set_boundary(call.account, call.params["RoleName"], None)

    async def tag_role(self, call: Call) -> None:
        await self._roles.tag(call.account, call.params["RoleName"], call.params["Tags"])

    async def untag_role(self, call: Call) -> None:
        await self._roles.untag(call.account, call.params["RoleName"], call.params["TagKeys"])

    async def list_role_tags(self, call: Call) -> Output:
        role = self._roles.get(call.account, call.params["RoleName"])
        page, paging = cut_page(format_tags(role.tags), call.params, lambda tag: tag["Key"])
        return {"Tags": page, **paging}

    async def put_role_policy(self, call: Call) -> None:
        await self._roles.put_inline(
            call.account,
            call.params["RoleName"],
            call.params["PolicyName"],
            call.params["PolicyDocument"],
        )

    async def get_role_policy(self, call: Call) -> Output:
        role_name, policy_name = call.params["RoleName"], call.params["PolicyName"]
        document = self._roles.inline_policy(call.account, role_name, policy_name)
        return {
            "RoleName": role_name,
            "PolicyName": policy_name,
            "PolicyDocument": format_document(document),
        }

    async def list_role_policies(self, call: Call) -> Output:
        role = self._roles.get(call.account, call.params["RoleName"])
        page, paging = cut_page(sorted(role.inline), call.params, str)
        return {"PolicyNames": page, **paging}

    async def delete_role_policy(self, call: Call) -> None:
        await self._roles.delete_inline(
            call.account, call.params["RoleName"], call.params["PolicyName"]
        )

    async def attach_role_policy(self, call: Call) -> None:
        await self._roles.attach(call.account, call.params["RoleName"], call.params["PolicyArn"])

    async def detach_role_policy(self, call: Call) -> None:
        await self._roles.detach(call.account, call.params["RoleName"], call.params["PolicyArn"])

    async def list_attached_role_policies(self, call: Call) -> Output:
        role = self._roles.get(call.account, call.params["RoleName"])
        attached = [self._policies.get(call.account, arn) for arn in role.attached]
        prefix = call.params.get("PathPrefix", "/")
        chosen = sorted(
            (policy for policy in attached if policy.path.startswith(prefix)),
            key=lambda policy: policy.arn,
        )
        page, paging = cut_page(chosen, call.params, lambda policy: policy.arn)
        listed = [{"PolicyName": policy.name, "PolicyArn": policy.arn} for policy in page]
        return {"AttachedPolicies": listed, **paging}

    async def list_instance_profiles_for_role(self, call: Call) -> Output:
        """Always empty, because there are no instances; Terraform asks before it deletes a role."""
        self._roles.get(call.account, call.params["RoleName"])
        return {"InstanceProfiles": [], "IsTruncated": False}

    async def create_service_linked_role(self, call: Call) -> Output:
        service = call.params["AWSServiceName"]
        suffix = call.params.get("CustomSuffix")
        name = _service_role_name(service) + (f"_{suffix}" if suffix else "")
        trust = (
            '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":'
            f'{{"Service":"{service}"}},"Action":"sts:AssumeRole"}}]}}'
        )
        try:
            role = await self._roles.create(
                call.account,
                name,
                trust,
                path=f"{SERVICE_ROLE_PATH}{service}/",
                description=call.params.get("Description", ""),
            )
        except EntityAlreadyExists:
            raise InvalidInput(
                f"Service role name {name} has been taken in this account, please try a different"
                " suffix."
            ) from None
        return {"Role": _describe(role)}

    async def delete_service_linked_role(self, call: Call) -> Output:
        """Nothing uses such a role here, so the task that AWS starts is done at once."""
        role = await self._roles.delete_service_linked(call.account, call.params["RoleName"])
        return {"DeletionTaskId": f"task{role.path}{role.name}/{uuid.uuid4()}"}

    async def get_service_linked_role_deletion_status(self, call: Call) -> Output:
        task = call.params["DeletionTaskId"]
        if not task.startswith(f"task{SERVICE_ROLE_PATH}"):
            raise NoSuchEntity(f"Task {task} does not exist.")
        return {"Status": "SUCCEEDED"}


def format_document(document: str) -> str:
    """A policy as IAM returns it: percent-encoded by RFC 3986. SDKs decode it."""
    return quote(document, safe="")


def format_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as a list of pairs, by key."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def _summarize(role: Role) -> dict[str, Any]:
    members = {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.role_id,
        "Arn": role.arn,
        "CreateDate": role.created,
        "AssumeRolePolicyDocument": format_document(role.trust_policy),
        "MaxSessionDuration": role.max_session_s,
    }
    if role.description:
        members["Description"] = role.description
    return members


def _describe(role: Role) -> dict[str, Any]:
    members = _summarize(role)
    if role.permissions_boundary is not None:
        members["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": role.permissions_boundary,
        }
    if role.tags:
        members["Tags"] = format_tags(role.tags)
    return members


def _service_role_name(service: str) -> str:
    known = _SERVICE_ROLE_NAMES.get(service)
    if known is not None:
        return known
    label = service.partition(".")[0]
    return "AWSServiceRoleFor" + "".join(word.capitalize() for word in label.split("-"))
