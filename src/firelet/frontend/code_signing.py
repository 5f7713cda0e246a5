"""Operations on code signing configurations, and on the functions that have one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.code_signing import SigningSettings
from firelet.control.qualifiers import qualified_arn
from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.code_signing import CodeSigningConfig, SigningKey, parse_signing_arn
from firelet.model.errors import ResourceNotFound


class CodeSigningOperations:
    """The family of code signing."""

    def __init__(self, registry: Registry) -> None:
        self._signing = registry.code_signing

    def register(self, operations: Operations) -> None:
        operations.add(
            "lambda",
            "CreateCodeSigningConfig",
            self.create_code_signing_config,
            lacks="revocations of signatures are not looked up",
        )
        for name, handler in (
            ("GetCodeSigningConfig", self.get_code_signing_config),
            ("UpdateCodeSigningConfig", self.update_code_signing_config),
            ("ListCodeSigningConfigs", self.list_code_signing_configs),
            ("ListFunctionsByCodeSigningConfig", self.list_functions_by_code_signing_config),
            ("PutFunctionCodeSigningConfig", self.put_function_code_signing_config),
            ("GetFunctionCodeSigningConfig", self.get_function_code_signing_config),
        ):
            operations.add("lambda", name, handler)
        operations.add("lambda", "DeleteCodeSigningConfig", self.delete_code_signing_config)
        operations.add(
            "lambda", "DeleteFunctionCodeSigningConfig", self.delete_function_code_signing_config
        )

    async def create_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        config = await self._signing.create(call.account, call.region, _parse(call.params))
        return {"CodeSigningConfig": _format(config)}

    async def get_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        return {"CodeSigningConfig": _format(self._signing.get(_parse_arn(call)))}

    async def update_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        config = await self._signing.update(_parse_arn(call), _parse(call.params))
        return {"CodeSigningConfig": _format(config)}

    async def delete_code_signing_config(self, call: Call) -> Reply:
        await self._signing.delete(_parse_arn(call))
        return Reply(status=204)

    async def list_code_signing_configs(self, call: Call) -> Mapping[str, Any]:
        page, marker = cut_page(
            self._signing.all(call.account, call.region),
            lambda config: (config.config_id,),
            call.params,
            limits.CODE_SIGNING_CONFIGS_PER_PAGE,
        )
        return {"CodeSigningConfigs": [_format(config) for config in page], **marker}

    async def list_functions_by_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        page, marker = cut_page(
            [qualified_arn(key, None) for key in self._signing.users(_parse_arn(call))],
            lambda arn: (arn,),
            call.params,
            limits.FUNCTION_ARNS_PER_PAGE,
        )
        return {"FunctionArns": page, **marker}

    async def put_function_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        arn: str = call.params["CodeSigningConfigArn"]
        await self._signing.attach(key, arn)
        return {"CodeSigningConfigArn": arn, "FunctionName": key[2]}

    async def get_function_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        """200 and nothing more when there is no configuration: recorded in 2023 and in 2024, though
        the model requires both members."""
        key = parse_function_name(call)
        arn = self._signing.of(key)
        return {} if arn is None else {"CodeSigningConfigArn": arn, "FunctionName": key[2]}

    async def delete_function_code_signing_config(self, call: Call) -> Reply:
        await self._signing.attach(parse_function_name(call), None)
        return Reply(status=204)


def _parse_arn(call: Call) -> SigningKey:
    """The configuration that the ARN names; those of others are none of the caller's."""
    arn: str = call.params["CodeSigningConfigArn"]
    key = parse_signing_arn(arn)
    if key[:2] != (call.account, call.region):
        raise ResourceNotFound(f"The Lambda code signing configuration {arn} can not be found.")
    return key


def _parse(params: Mapping[str, Any]) -> SigningSettings:
    publishers = params.get("AllowedPublishers")
    policies = params.get("CodeSigningPolicies") or {}
    return SigningSettings(
        description=params.get("Description"),
        publishers=None if publishers is None else tuple(publishers["SigningProfileVersionArns"]),
        untrusted=policies.get("UntrustedArtifactOnDeployment"),
        tags=params.get("Tags") or {},
    )


def _format(config: CodeSigningConfig) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "CodeSigningConfigId": config.config_id,
        "CodeSigningConfigArn": config.arn,
        "AllowedPublishers": {"SigningProfileVersionArns": list(config.publishers)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.untrusted},
        "LastModified": config.last_modified,
    }
    if config.description is not None:
        shape["Description"] = config.description
    return shape
