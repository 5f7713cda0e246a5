"""Operations of API Gateway v2 on HTTP and WebSocket APIs, their stages, deployments and tags.

Routes, integrations and responses are in ``apigatewayv2_parts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.http_api_import import parse_definition
from firelet.control.http_apis import HttpApis
from firelet.frontend.apigatewayv2_shapes import (
    SERVICE,
    api_settings,
    cut_list,
    format_api,
    format_deployment,
    format_stage,
    owner_of,
    parse_tag_arn,
    stage_settings,
)
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model.errors import NotYetImplemented

_UNSET: dict[str, Any] = {}


class HttpApiOperations:
    """The family of APIs, stages and deployments."""

    def __init__(self, apis: HttpApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateApi", self.create_api),
            ("GetApi", self.get_api),
            ("GetApis", self.get_apis),
            ("DeleteApi", self.delete_api),
            ("ReimportApi", self.reimport_api),
            ("DeleteCorsConfiguration", self.delete_cors_configuration),
            ("GetStage", self.get_stage),
            ("GetStages", self.get_stages),
            ("UpdateStage", self.update_stage),
            ("DeleteStage", self.delete_stage),
            ("DeleteAccessLogSettings", self.delete_access_log_settings),
            ("DeleteRouteSettings", self.delete_route_settings),
            ("CreateDeployment", self.create_deployment),
            ("GetDeployment", self.get_deployment),
            ("GetDeployments", self.get_deployments),
            ("UpdateDeployment", self.update_deployment),
            ("DeleteDeployment", self.delete_deployment),
            ("GetTags", self.get_tags),
            ("TagResource", self.tag_resource),
            ("UntagResource", self.untag_resource),
        ):
            operations.add(SERVICE, name, handler)
        operations.add(
            SERVICE,
            "UpdateApi",
            self.update_api,
            lacks="the target and route key of a quick create cannot be changed",
        )
        operations.add(
            SERVICE,
            "ImportApi",
            self.import_api,
            lacks="definitions in JSON only; base paths and models are not looked at",
        )
        operations.add(
            SERVICE,
            "CreateStage",
            self.create_stage,
            lacks="access logs are configured, and not written",
        )

    async def create_api(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        api = await self._apis.create(
            owner_of(call),
            params["ProtocolType"],
            api_settings(params),
            params.get("Tags") or _UNSET,
            params.get("Target"),
            params.get("RouteKey"),
        )
        return format_api(call, api)

    async def import_api(self, call: Call) -> Mapping[str, Any]:
        definition = parse_definition(call.params["Body"])
        return format_api(call, await self._apis.import_(owner_of(call), definition))

    async def reimport_api(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        definition = parse_definition(params["Body"])
        api = await self._apis.reimport(owner_of(call), params["ApiId"], definition)
        return format_api(call, api)

    async def get_api(self, call: Call) -> Mapping[str, Any]:
        return format_api(call, self._apis.get(owner_of(call), call.params["ApiId"]))

    async def get_apis(self, call: Call) -> Mapping[str, Any]:
        apis = self._apis.all(owner_of(call))
        return cut_list(call, apis, lambda api: api.api_id, lambda api: format_api(call, api))

    async def update_api(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        if "Target" in params or "RouteKey" in params:
            raise NotYetImplemented("firelet changes a target by UpdateIntegration only")
        api = await self._apis.update(owner_of(call), params["ApiId"], api_settings(params))
        return format_api(call, api)

    async def delete_api(self, call: Call) -> Reply:
        await self._apis.delete(owner_of(call), call.params["ApiId"])
        return Reply(status=204)

    async def delete_cors_configuration(self, call: Call) -> Reply:
        owner = owner_of(call)
        await self._apis.drop_setting(owner, call.params["ApiId"], "CorsConfiguration")
        return Reply(status=204)

    async def create_stage(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        stage = await self._apis.add_stage(
            owner_of(call),
            params["ApiId"],
            params["StageName"],
            stage_settings(params),
            params.get("DeploymentId"),
            params.get("Tags") or _UNSET,
        )
        return format_stage(stage)

    async def get_stage(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        return format_stage(self._apis.stage(owner_of(call), params["ApiId"], params["StageName"]))

    async def get_stages(self, call: Call) -> Mapping[str, Any]:
        stages = self._apis.get(owner_of(call), call.params["ApiId"]).stages.values()
        return cut_list(call, stages, lambda stage: stage.name, format_stage)

    async def update_stage(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        stage = await self._apis.update_stage(
            owner_of(call),
            params["ApiId"],
            params["StageName"],
            stage_settings(params),
            params.get("DeploymentId"),
        )
        return format_stage(stage)

    async def delete_stage(self, call: Call) -> Reply:
        params = call.params
        await self._apis.delete_stage(owner_of(call), params["ApiId"], params["StageName"])
        return Reply(status=204)

    async def delete_access_log_settings(self, call: Call) -> Reply:
        params = call.params
        await self._apis.drop_stage_setting(
            owner_of(call), params["ApiId"], params["StageName"], "AccessLogSettings"
        )
        return Reply(status=204)

    async def delete_route_settings(self, call: Call) -> Reply:
        params = call.params
        await self._apis.drop_stage_setting(
            owner_of(call),
            params["ApiId"],
            params["StageName"],
            "RouteSettings",
            params["RouteKey"],
        )
        return Reply(status=204)

    async def create_deployment(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        made = await self._apis.deploy(
            owner_of(call), params["ApiId"], params.get("StageName"), params.get("Description")
        )
        return format_deployment(made)

    async def get_deployment(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        made = self._apis.deployment(owner_of(call), params["ApiId"], params["DeploymentId"])
        return format_deployment(made)

    async def get_deployments(self, call: Call) -> Mapping[str, Any]:
        made = self._apis.get(owner_of(call), call.params["ApiId"]).deployments.values()
        return cut_list(call, made, lambda one: one.deployment_id, format_deployment)

    async def update_deployment(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        made = await self._apis.describe_deployment(
            owner_of(call), params["ApiId"], params["DeploymentId"], params.get("Description")
        )
        return format_deployment(made)

    async def delete_deployment(self, call: Call) -> Reply:
        params = call.params
        await self._apis.delete_deployment(owner_of(call), params["ApiId"], params["DeploymentId"])
        return Reply(status=204)

    async def get_tags(self, call: Call) -> Mapping[str, Any]:
        api_id, stage_name = parse_tag_arn(call)
        owner = owner_of(call)
        if stage_name is None:
            return {"Tags": dict(self._apis.get(owner, api_id).tags)}
        return {"Tags": dict(self._apis.stage(owner, api_id, stage_name).tags)}

    async def tag_resource(self, call: Call) -> Mapping[str, Any]:
        added = call.params.get("Tags") or {}
        await self._apis.change_tags(owner_of(call), *parse_tag_arn(call), added, frozenset())
        return {}

    async def untag_resource(self, call: Call) -> Reply:
        removed = frozenset(call.params["TagKeys"])
        await self._apis.change_tags(owner_of(call), *parse_tag_arn(call), {}, removed)
        return Reply(status=204)
