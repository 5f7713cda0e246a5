"""Operations on reserved concurrency, and the account's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits


class ConcurrencyOperations:
    """The family of reserved concurrency."""

    def __init__(self, registry: Registry) -> None:
        self._concurrency = registry.concurrency

    def register(self, operations: Operations) -> None:
        operations.add("lambda", "PutFunctionConcurrency", self.put_function_concurrency)
        operations.add("lambda", "GetFunctionConcurrency", self.get_function_concurrency)
        operations.add("lambda", "DeleteFunctionConcurrency", self.delete_function_concurrency)
        operations.add("lambda", "GetAccountSettings", self.get_account_settings)

    async def put_function_concurrency(self, call: Call) -> Mapping[str, Any]:
        amount: int = call.params["ReservedConcurrentExecutions"]
        await self._concurrency.reserve(parse_function_name(call), amount)
        return {"ReservedConcurrentExecutions": amount}

    async def get_function_concurrency(self, call: Call) -> Mapping[str, Any]:
        amount = self._concurrency.get(parse_function_name(call))
        return {} if amount is None else {"ReservedConcurrentExecutions": amount}

    async def delete_function_concurrency(self, call: Call) -> Reply:
        await self._concurrency.reserve(parse_function_name(call), None)
        return Reply(status=204)

    async def get_account_settings(self, call: Call) -> Mapping[str, Any]:
        usage = self._concurrency.usage(call.account, call.region)
        return {
            "AccountLimit": {
                "TotalCodeSize": limits.CODE_STORAGE_MAX_BYTES,
                "CodeSizeUnzipped": limits.CODE_UNZIPPED_MAX_BYTES,
                "CodeSizeZipped": limits.CODE_ZIPPED_MAX_BYTES,
                "ConcurrentExecutions": usage.concurrency,
                "UnreservedConcurrentExecutions": usage.unreserved_concurrency,
            },
            "AccountUsage": {
                "TotalCodeSize": usage.code_bytes,
                "FunctionCount": usage.function_count,
            },
        }
