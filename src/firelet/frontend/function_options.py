"""Small settings of a function that Terraform and other tools read after every deployment.

Code signing configurations cannot be made here, so that no function has one; runtimes are those
of the host and change with it, which AWS calls ``Auto``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.function_shapes import format_arn
from firelet.frontend.operations import Call, Operations
from firelet.model.arn import LATEST


class FunctionOptionOperations:
    """The family of those settings."""

    def __init__(self, registry: Registry) -> None:
        self._functions = registry.functions

    def register(self, operations: Operations) -> None:
        operations.add(
            "lambda",
            "GetFunctionCodeSigningConfig",
            self.get_function_code_signing_config,
            lacks="there are no code signing configurations",
        )
        for name, handler in (
            ("GetFunctionRecursionConfig", self.get_function_recursion_config),
            ("PutFunctionRecursionConfig", self.put_function_recursion_config),
            ("GetRuntimeManagementConfig", self.get_runtime_management_config),
        ):
            operations.add("lambda", name, handler)

    async def get_function_code_signing_config(self, call: Call) -> Mapping[str, Any]:
        """200 without a configuration when there is none. Source: recorded; Terraform needs it."""
        key = parse_function_name(call)
        self._functions.get(key)
        return {"FunctionName": key[2]}

    async def get_function_recursion_config(self, call: Call) -> Mapping[str, Any]:
        function = self._functions.get(parse_function_name(call))
        return {"RecursiveLoop": function.recursive_loop}

    async def put_function_recursion_config(self, call: Call) -> Mapping[str, Any]:
        value: str = call.params["RecursiveLoop"]
        await self._functions.set_recursive_loop(parse_function_name(call), value)
        return {"RecursiveLoop": value}

    async def get_runtime_management_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        version = self._functions.version(key, qualifier)
        return {
            "UpdateRuntimeOn": "Auto",
            "FunctionArn": format_arn(version, qualifier or LATEST),
        }
