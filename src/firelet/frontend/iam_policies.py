"""IAM operations on managed policies: parameters in, output members out.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/ and the service model of ``iam``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.frontend.iam_pages import cut_page
from firelet.frontend.iam_roles import format_document, format_tags
from firelet.frontend.operations import Call, Operations
from firelet.iam.policies import Policies, Policy
from firelet.iam.roles import Roles

Output = Mapping[str, Any]


class IamPolicyOperations:
    """Managed policies, their versions and tags, and who has them."""

    def __init__(self, roles: Roles, policies: Policies) -> None:
        self._roles = roles
        self._policies = policies

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreatePolicy", self.create_policy),
            ("GetPolicy", self.get_policy),
            ("ListPolicies", self.list_policies),
            ("DeletePolicy", self.delete_policy),
            ("CreatePolicyVersion", self.create_policy_version),
            ("GetPolicyVersion", self.get_policy_version),
            ("ListPolicyVersions", self.list_policy_versions),
            ("SetDefaultPolicyVersion", self.set_default_policy_version),
            ("DeletePolicyVersion", self.delete_policy_version),
            ("TagPolicy", self.tag_policy),
            ("UntagPolicy", self.untag_policy),
            ("ListPolicyTags", self.list_policy_tags),
            ("ListEntitiesForPolicy", self.list_entities_for_policy),
        ):
            operations.add("iam", name, handler)

    async def create_policy(self, call: Call) -> Output:
        params = call.params
        policy = await self._policies.create(
            call.account,
            params["PolicyName"],
            params["PolicyDocument"],
            path=params.get("Path") or "/",
            description=params.get("Description", ""),
            tags=params.get("Tags", ()),
        )
        # The description is only in GetPolicy's answer. Source: API reference of Policy.
        return {"Policy": self._summarize(call.account, policy) | _tags_member(policy)}

    async def get_policy(self, call: Call) -> Output:
        policy = self._policies.get(call.account, call.params["PolicyArn"])
        members = self._summarize(call.account, policy) | {"Tags": format_tags(policy.tags)}
        if policy.description:
            members["Description"] = policy.description
        return {"Policy": members}

    async def list_policies(self, call: Call) -> Output:
        params = call.params
        policies = self._policies.visible_to(
            call.account, params.get("Scope", "All"), params.get("PathPrefix", "/")
        )
        if params.get("OnlyAttached"):
            policies = [p for p in policies if self._policies.attachments(call.account, p.arn)]
        if params.get("PolicyUsageFilter") == "PermissionsBoundary":
            policies = [p for p in policies if self._boundary_uses(call.account, p.arn)]
        policies.sort(key=lambda policy: policy.arn)
        page, paging = cut_page(policies, params, lambda policy: policy.arn)
        return {"Policies": [self._summarize(call.account, policy) for policy in page], **paging}

    async def delete_policy(self, call: Call) -> None:
        await self._policies.delete(call.account, call.params["PolicyArn"])

    async def create_policy_version(self, call: Call) -> Output:
        """The answer leaves out the document. Source: API reference of PolicyVersion."""
        version_id, policy = await self._policies.add_version(
            call.account,
            call.params["PolicyArn"],
            call.params["PolicyDocument"],
            is_default=call.params.get("SetAsDefault", False),
        )
        return {"PolicyVersion": _summarize_version(policy, version_id)}

    async def get_policy_version(self, call: Call) -> Output:
        policy = self._policies.get(call.account, call.params["PolicyArn"])
        version_id = call.params["VersionId"]
        document = format_document(policy.version(version_id).document)
        return {"PolicyVersion": {"Document": document, **_summarize_version(policy, version_id)}}

    async def list_policy_versions(self, call: Call) -> Output:
        """Newest first; a page's marker therefore counts down."""
        policy = self._policies.get(call.account, call.params["PolicyArn"])
        newest_first = sorted(policy.versions, key=_version_number, reverse=True)
        page, paging = cut_page(newest_first, call.params, _descending)
        return {"Versions": [_summarize_version(policy, v) for v in page], **paging}

    async def set_default_policy_version(self, call: Call) -> None:
        await self._policies.set_default_version(
            call.account, call.params["PolicyArn"], call.params["VersionId"]
        )

    async def delete_policy_version(self, call: Call) -> None:
        await self._policies.delete_version(
            call.account, call.params["PolicyArn"], call.params["VersionId"]
        )

    async def tag_policy(self, call: Call) -> None:
        await self._policies.tag(call.account, call.params["PolicyArn"], call.params["Tags"])

    async def untag_policy(self, call: Call) -> None:
        await self._policies.untag(call.account, call.params["PolicyArn"], call.params["TagKeys"])

    async def list_policy_tags(self, call: Call) -> Output:
        policy = self._policies.get(call.account, call.params["PolicyArn"])
        page, paging = cut_page(format_tags(policy.tags), call.params, lambda tag: tag["Key"])
        return {"Tags": page, **paging}

    async def list_entities_for_policy(self, call: Call) -> Output:
        """Roles only: firelet has no users and no groups."""
        params = call.params
        policy = self._policies.get(call.account, params["PolicyArn"])
        prefix = params.get("PathPrefix", "/")
        if params.get("PolicyUsageFilter") == "PermissionsBoundary":
            roles = [
                role
                for role in self._roles.of_account(call.account, prefix)
                if role.permissions_boundary == policy.arn
            ]
        else:
            roles = self._roles.holders_of(call.account, policy.arn, prefix)
        if params.get("EntityFilter") in ("User", "Group"):
            roles = []
        page, paging = cut_page(roles, params, lambda role: role.name)
        return {
            "PolicyGroups": [],
            "PolicyUsers": [],
            "PolicyRoles": [{"RoleName": r.name, "RoleId": r.role_id} for r in page],
            **paging,
        }

    def _summarize(self, account: str, policy: Policy) -> dict[str, Any]:
        return {
            "PolicyName": policy.name,
            "PolicyId": policy.policy_id,
            "Arn": policy.arn,
            "Path": policy.path,
            "DefaultVersionId": policy.default_version,
            "AttachmentCount": self._policies.attachments(account, policy.arn),
            "PermissionsBoundaryUsageCount": self._boundary_uses(account, policy.arn),
            "IsAttachable": True,
            "CreateDate": policy.created,
            "UpdateDate": policy.updated,
        }

    def _boundary_uses(self, account: str, policy_arn: str) -> int:
        roles = self._roles.of_account(account)
        return sum(role.permissions_boundary == policy_arn for role in roles)


def _tags_member(policy: Policy) -> dict[str, Any]:
    return {"Tags": format_tags(policy.tags)} if policy.tags else {}


def _summarize_version(policy: Policy, version_id: str) -> dict[str, Any]:
    return {
        "VersionId": version_id,
        "IsDefaultVersion": version_id == policy.default_version,
        "CreateDate": policy.version(version_id).created,
    }


def _version_number(version_id: str) -> int:
    return int(version_id.removeprefix("v"))


def _descending(version_id: str) -> str:
    """A key that grows as versions get older."""
    return f"{10**9 - _version_number(version_id):09d}"
