"""Operations on the policies of layer versions: who else may use them.

Source: aws-lambda API reference and recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.layer_names import parse_own_layer
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.layer import LayerPermission
from firelet.model.permission import format_json


class LayerPolicyOperations:
    """The family of layer policies."""

    def __init__(self, registry: Registry) -> None:
        self._layers = registry.layers

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("AddLayerVersionPermission", self.add_layer_version_permission),
            ("RemoveLayerVersionPermission", self.remove_layer_version_permission),
            ("GetLayerVersionPolicy", self.get_layer_version_policy),
        ):
            operations.add("lambda", name, handler)

    async def add_layer_version_permission(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        permission = LayerPermission(
            statement_id=params["StatementId"],
            principal=params["Principal"],
            organization_id=params.get("OrganizationId") or None,
        )
        version = await self._layers.add_permission(
            parse_own_layer(call), params["VersionNumber"], permission, params.get("RevisionId")
        )
        return {
            "Statement": format_json(permission.statement(version.arn)),
            "RevisionId": version.revision_id,
        }

    async def remove_layer_version_permission(self, call: Call) -> Reply:
        params = call.params
        await self._layers.remove_permission(
            parse_own_layer(call),
            params["VersionNumber"],
            params["StatementId"],
            params.get("RevisionId"),
        )
        return Reply(status=204)

    async def get_layer_version_policy(self, call: Call) -> Mapping[str, Any]:
        version = self._layers.with_policy(parse_own_layer(call), call.params["VersionNumber"])
        return {"Policy": version.policy(), "RevisionId": version.revision_id}
