"""Deployments and stages: operations of the API Gateway API.

Source: https://docs.aws.amazon.com/apigateway/latest/api/ and the service model of ``apigateway``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from firelet.control.api_errors import BadRequest, Conflict
from firelet.control.rest_api_patch import (
    Entries,
    Operation,
    Schema,
    apply_patch,
    flag,
    integer,
    number,
    split_path,
    text,
)
from firelet.control.rest_api_records import Deployment, RestApi, Stage
from firelet.control.rest_apis import RestApis, find_stage
from firelet.frontend.apigateway_shapes import cut, format_deployment, format_stage, without
from firelet.frontend.operations import Call, Operations

Output = Mapping[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_VARIABLE = re.compile(r"[A-Za-z0-9_]+")
_VARIABLE_VALUE = re.compile(r"[A-Za-z0-9-._~:/?#&=,]*")

_STAGE_PATHS: Schema = {
    "deploymentId": text,
    "description": text,
    "documentationVersion": text,
    "clientCertificateId": text,
    "cacheClusterEnabled": flag,
    "cacheClusterSize": text,
    "tracingEnabled": flag,
    "variables": Entries(),
    "accessLogSettings": {"destinationArn": text, "format": text},
    "canarySettings": {
        "percentTraffic": number,
        "deploymentId": text,
        "useStageCache": flag,
        "stageVariableOverrides": Entries(),
    },
}
# The end of a path below a method, and the member of the shape MethodSetting that it means.
_METHOD_SETTINGS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "metrics/enabled": ("metricsEnabled", flag),
    "logging/loglevel": ("loggingLevel", text),
    "logging/dataTrace": ("dataTraceEnabled", flag),
    "throttling/burstLimit": ("throttlingBurstLimit", integer),
    "throttling/rateLimit": ("throttlingRateLimit", number),
    "caching/enabled": ("cachingEnabled", flag),
    "caching/ttlInSeconds": ("cacheTtlInSeconds", integer),
    "caching/dataEncrypted": ("cacheDataEncrypted", flag),
    "caching/requireAuthorizationForCacheControl": ("requireAuthorizationForCacheControl", flag),
    "caching/unauthorizedCacheControlHeaderStrategy": (
        "unauthorizedCacheControlHeaderStrategy",
        text,
    ),
}
_STAGE_MEMBERS = (
    "variables",
    "cacheClusterEnabled",
    "cacheClusterSize",
    "documentationVersion",
    "tracingEnabled",
)


class RestStageOperations:
    """What is served, and under which name."""

    def __init__(self, apis: RestApis) -> None:
        self._apis = apis

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateDeployment", self.create_deployment),
            ("GetDeployment", self.get_deployment),
            ("GetDeployments", self.get_deployments),
            ("UpdateDeployment", self.update_deployment),
            ("DeleteDeployment", self.delete_deployment),
            ("GetStage", self.get_stage),
            ("GetStages", self.get_stages),
            ("DeleteStage", self.delete_stage),
            ("FlushStageCache", self.flush_stage_cache),
        ):
            operations.add("apigateway", name, handler)
        kept = "canaries, caches and access logs are kept and answered, and have no effect"
        operations.add("apigateway", "CreateStage", self.create_stage, lacks=kept)
        operations.add("apigateway", "UpdateStage", self.update_stage, lacks=kept)

    async def create_deployment(self, call: Call) -> Output:
        """With a stage name, the deployment is served there: by a new stage, or one that is."""
        params = call.params
        name: str = params.get("stageName", "")
        if name:
            _check_stage(name, params)

        def place(api: RestApi, deployment: Deployment) -> RestApi:
            before = api.stages.get(name)
            settings = {k: params[k] for k in _STAGE_MEMBERS if k in params}
            if "stageDescription" in params:
                settings["description"] = params["stageDescription"]
            now = self._apis.now
            if before is None:
                stage = Stage(
                    name=name,
                    deployment_id=deployment.id,
                    created=now,
                    updated=now,
                    settings=settings,
                )
            else:
                stage = replace(
                    before,
                    deployment_id=deployment.id,
                    updated=now,
                    settings={**before.settings, **settings},
                )
            return replace(api, stages={**api.stages, name: stage})

        deployment = await self._apis.deploy(
            call.account,
            call.region,
            params["restApiId"],
            params.get("description"),
            place if name else None,
        )
        return format_deployment(deployment)

    async def get_deployment(self, call: Call) -> Output:
        deployment = self._apis.deployment(self._api(call), call.params["deploymentId"])
        summary = any(part.startswith("apisummary") for part in call.params.get("embed", ()))
        return format_deployment(deployment, with_summary=summary)

    async def get_deployments(self, call: Call) -> Output:
        ordered = sorted(self._apis.deployments(self._api(call)), key=lambda item: item.id)
        page = cut(call, ordered, lambda item: item.id)
        return {**page, "items": [format_deployment(item) for item in page["items"]]}

    async def update_deployment(self, call: Call) -> Output:
        params = call.params
        before = self._apis.deployment(self._api(call), params["deploymentId"])
        after = apply_patch(
            {"description": text},
            {"description": before.description},
            params.get("patchOperations", []),
        )
        deployment = await self._apis.describe_deployment(
            call.account,
            call.region,
            params["restApiId"],
            params["deploymentId"],
            after.get("description"),
        )
        return format_deployment(deployment)

    async def delete_deployment(self, call: Call) -> None:
        await self._apis.delete_deployment(
            call.account, call.region, call.params["restApiId"], call.params["deploymentId"]
        )

    async def create_stage(self, call: Call) -> Output:
        params = call.params
        name = params["stageName"]
        _check_stage(name, params)

        def change(api: RestApi) -> RestApi:
            if name in api.stages:
                raise Conflict("Stage already exists")
            self._apis.deployment(api, params["deploymentId"])
            stage = Stage(
                name=name,
                deployment_id=params["deploymentId"],
                created=self._apis.now,
                updated=self._apis.now,
                settings=without(params, "restApiId", "stageName", "deploymentId"),
            )
            return replace(api, stages={**api.stages, name: stage})

        return format_stage(find_stage(await self._change(call, change), name))

    async def get_stage(self, call: Call) -> Output:
        return format_stage(find_stage(self._api(call), call.params["stageName"]))

    async def get_stages(self, call: Call) -> Output:
        wanted = call.params.get("deploymentId")
        stages = sorted(self._api(call).stages.values(), key=lambda stage: stage.name)
        shown = [format_stage(s) for s in stages if wanted in (None, s.deployment_id)]
        return {"item": shown}

    async def update_stage(self, call: Call) -> Output:
        name, operations = call.params["stageName"], call.params.get("patchOperations", [])

        def change(api: RestApi) -> RestApi:
            stage = find_stage(api, name)
            settings: dict[str, Any] = {**stage.settings, "deploymentId": stage.deployment_id}
            for operation in operations:
                settings = _patch_stage(settings, operation)
            deployment_id = settings.pop("deploymentId")
            self._apis.deployment(api, deployment_id)
            _check_stage(name, settings)
            after = replace(
                stage, deployment_id=deployment_id, settings=settings, updated=self._apis.now
            )
            return replace(api, stages={**api.stages, name: after})

        return format_stage(find_stage(await self._change(call, change), name))

    async def delete_stage(self, call: Call) -> None:
        name = call.params["stageName"]

        def change(api: RestApi) -> RestApi:
            find_stage(api, name)
            left = {key: stage for key, stage in api.stages.items() if key != name}
            return replace(api, stages=left)

        await self._change(call, change)

    async def flush_stage_cache(self, call: Call) -> None:
        """Responses are never cached here, so that there is nothing to do."""
        find_stage(self._api(call), call.params["stageName"])

    def _api(self, call: Call) -> RestApi:
        return self._apis.get(call.account, call.region, call.params["restApiId"])

    async def _change(self, call: Call, change: Callable[[RestApi], RestApi]) -> RestApi:
        return await self._apis.change(call.account, call.region, call.params["restApiId"], change)


def _patch_stage(settings: dict[str, Any], operation: Operation) -> dict[str, Any]:
    tokens = split_path(operation.get("path", ""))
    if tokens[0] in _STAGE_PATHS or len(tokens) < 2:
        return apply_patch(_STAGE_PATHS, settings, [operation])
    return {
        **settings,
        "methodSettings": _patch_method_settings(
            settings.get("methodSettings", {}), tokens, operation
        ),
    }


def _patch_method_settings(
    before: Mapping[str, Any], tokens: list[str], operation: Operation
) -> dict[str, Any]:
    """``/PATH/METHOD/throttling/rateLimit``, where PATH may be given with its slashes escaped or
    as it is; without an end, all that is set for the method."""
    op, path = operation.get("op"), operation.get("path", "")
    found = _METHOD_SETTINGS.get("/".join(tokens[-2:])) if len(tokens) > 3 else None
    if found is None:
        key = _method_key(tokens)
        if op != "remove" or key not in before:
            raise BadRequest(
                f"Invalid method setting path: {path}. Must be one of:"
                f" [/deploymentId, /description, {', '.join(_listed())}]"
            )
        return {name: value for name, value in before.items() if name != key}
    member, parse = found
    key = _method_key(tokens[:-2])
    settings = dict(before.get(key, {}))
    if op == "remove":
        settings.pop(member, None)
    elif op == "replace" and "value" in operation:
        settings[member] = parse(operation["value"], path)
        if member == "loggingLevel" and settings[member] not in ("OFF", "ERROR", "INFO"):
            raise BadRequest("Invalid logging level. Valid values are OFF, ERROR, and INFO")
    else:
        raise BadRequest(f"Patch operation '{op}' is not supported at '{path}'")
    return {**before, key: settings}


def _method_key(tokens: list[str]) -> str:
    """``*/*``, ``pets/GET``; the root is ``~1``."""
    path = "/".join(tokens[:-1])
    return f"{path.lstrip('/') or '~1'}/{tokens[-1]}"


def _listed() -> list[str]:
    return [f"/{{resourcePath}}/{{httpMethod}}/{name}" for name in _METHOD_SETTINGS]


def _check_stage(name: str, settings: Mapping[str, Any]) -> None:
    if _NAME.fullmatch(name) is None:
        raise BadRequest("Stage name only allows a-zA-Z0-9_-")
    for variable, value in settings.get("variables", {}).items():
        if _VARIABLE.fullmatch(variable) is None or _VARIABLE_VALUE.fullmatch(value) is None:
            raise BadRequest(
                "Stage variable names must contain only alphanumeric characters and underscores,"
                " and values only alphanumeric characters and -._~:/?#&=,"
            )
