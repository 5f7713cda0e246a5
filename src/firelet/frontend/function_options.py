"""Small settings of a function that Terraform and other tools read after every deployment.

Source: aws-lambda API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.operations import Call, Operations
from firelet.model.arn import LATEST, format_function_arn
from firelet.model.function import FunctionKey, RuntimeManagement


class FunctionOptionOperations:
    """The family of those settings."""

    def __init__(self, registry: Registry) -> None:
        self._functions = registry.functions
        self._runtime_management = registry.runtime_management

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("GetFunctionRecursionConfig", self.get_function_recursion_config),
            ("PutFunctionRecursionConfig", self.put_function_recursion_config),
            ("GetRuntimeManagementConfig", self.get_runtime_management_config),
            ("PutRuntimeManagementConfig", self.put_runtime_management_config),
        ):
            operations.add("lambda", name, handler)

    async def get_function_recursion_config(self, call: Call) -> Mapping[str, Any]:
        function = self._functions.get(parse_function_name(call))
        return {"RecursiveLoop": function.recursive_loop}

    async def put_function_recursion_config(self, call: Call) -> Mapping[str, Any]:
        value: str = call.params["RecursiveLoop"]
        await self._functions.set_recursive_loop(parse_function_name(call), value)
        return {"RecursiveLoop": value}

    async def get_runtime_management_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        number = qualifier or LATEST
        return _format_management(key, number, self._runtime_management.get(key, number))

    async def put_runtime_management_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        number = qualifier or LATEST
        setting = RuntimeManagement(
            update_on=call.params["UpdateRuntimeOn"],
            build_arn=call.params.get("RuntimeVersionArn"),
        )
        await self._runtime_management.put(key, number, setting)
        return _format_management(key, number, setting)


def _format_management(key: FunctionKey, number: str, setting: RuntimeManagement) -> dict[str, Any]:
    """PutRuntimeManagementConfigResponse; the ARN of a build is there in Manual mode only."""
    account, region, name = key
    shape = {
        "UpdateRuntimeOn": setting.update_on,
        "FunctionArn": format_function_arn(region, account, name, number),
    }
    if setting.build_arn is not None:
        shape["RuntimeVersionArn"] = setting.build_arn
    return shape
