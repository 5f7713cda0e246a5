"""Operations on resource policies: one statement at a time, and the whole document.

Source: aws-lambda API reference and recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.policies import Policy
from firelet.control.registry import Registry
from firelet.control.targets import function_key
from firelet.frontend.function_names import parse_version_name
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.arn import parse_function_ref
from firelet.model.errors import ResourceNotFound
from firelet.model.function import FunctionKey
from firelet.model.permission import Permission


class PolicyOperations:
    """The family of resource policies."""

    def __init__(self, registry: Registry) -> None:
        self._policies = registry.policies

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("AddPermission", self.add_permission),
            ("GetPolicy", self.get_policy),
            ("PutResourcePolicy", self.put_resource_policy),
            ("GetResourcePolicy", self.get_resource_policy),
        ):
            operations.add("lambda", name, handler)
        operations.add("lambda", "RemovePermission", self.remove_permission)
        operations.add("lambda", "DeleteResourcePolicy", self.delete_resource_policy)

    async def add_permission(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        permission = _parse_permission(call.params)
        revision = call.params.get("RevisionId")
        return {"Statement": await self._policies.add(key, qualifier, permission, revision)}

    async def remove_permission(self, call: Call) -> Reply:
        key, qualifier = parse_version_name(call)
        params = call.params
        await self._policies.remove(key, qualifier, params["StatementId"], params.get("RevisionId"))
        return Reply(status=204)

    async def get_policy(self, call: Call) -> Mapping[str, Any]:
        return _format_policy(self._policies.get(*parse_version_name(call)))

    async def put_resource_policy(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = _parse_resource(call)
        text, revision = call.params["Policy"], call.params.get("RevisionId")
        return _format_policy(await self._policies.put(key, qualifier, text, revision))

    async def get_resource_policy(self, call: Call) -> Mapping[str, Any]:
        return _format_policy(self._policies.get(*_parse_resource(call)))

    async def delete_resource_policy(self, call: Call) -> Reply:
        key, qualifier = _parse_resource(call)
        await self._policies.delete(key, qualifier, call.params.get("RevisionId"))
        return Reply(status=204)


def _parse_permission(params: Mapping[str, Any]) -> Permission:
    return Permission(
        statement_id=params["StatementId"],
        action=params["Action"],
        principal=params["Principal"],
        source_arn=params.get("SourceArn"),
        source_account=params.get("SourceAccount"),
        organization_id=params.get("PrincipalOrgID"),
        event_source_token=params.get("EventSourceToken"),
        url_auth_type=params.get("FunctionUrlAuthType"),
        is_via_url=params.get("InvokedViaFunctionUrl"),
    )


def _format_policy(policy: Policy) -> dict[str, Any]:
    return {"Policy": policy.text, "RevisionId": policy.revision_id}


def _parse_resource(call: Call) -> tuple[FunctionKey, str | None]:
    """What ``ResourceArn`` names. Runtimes of customers, which the model allows too, there are
    none here."""
    arn: str = call.params["ResourceArn"]
    if ":function:" not in arn:
        raise ResourceNotFound("The resource you requested does not exist.")
    ref = parse_function_ref(arn)
    return function_key(call.account, call.region, ref, call.operation), ref.qualifier
