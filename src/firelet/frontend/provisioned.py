"""Operations on provisioned concurrency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.provisioned import Allocation
from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.arn import format_function_arn
from firelet.model.function import FunctionKey


class ProvisionedOperations:
    """The family of provisioned concurrency."""

    def __init__(self, registry: Registry) -> None:
        self._provisioned = registry.provisioned

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("PutProvisionedConcurrencyConfig", self.put_provisioned_concurrency_config),
            ("GetProvisionedConcurrencyConfig", self.get_provisioned_concurrency_config),
            ("ListProvisionedConcurrencyConfigs", self.list_provisioned_concurrency_configs),
        ):
            operations.add("lambda", name, handler)
        operations.add(
            "lambda", "DeleteProvisionedConcurrencyConfig", self.delete_provisioned_concurrency
        )

    async def put_provisioned_concurrency_config(self, call: Call) -> Mapping[str, Any]:
        amount: int = call.params["ProvisionedConcurrentExecutions"]
        return format_allocation(await self._provisioned.put(*_parse_name(call), amount))

    async def get_provisioned_concurrency_config(self, call: Call) -> Mapping[str, Any]:
        return format_allocation(self._provisioned.get(*_parse_name(call)))

    async def list_provisioned_concurrency_configs(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        page, marker = cut_page(
            self._provisioned.all(key),
            lambda allocation: (allocation.qualifier,),
            call.params,
            limits.PROVISIONED_CONFIGS_PER_PAGE,
        )
        account, region, name = key
        configs = [
            {
                "FunctionArn": format_function_arn(region, account, name, item.qualifier),
                **format_allocation(item),
            }
            for item in page
        ]
        return {"ProvisionedConcurrencyConfigs": configs, **marker}

    async def delete_provisioned_concurrency(self, call: Call) -> Reply:
        await self._provisioned.delete(*_parse_name(call))
        return Reply(status=204)


def format_allocation(allocation: Allocation) -> dict[str, Any]:
    """GetProvisionedConcurrencyConfigResponse. An environment is available once it is allocated."""
    shape: dict[str, Any] = {
        "RequestedProvisionedConcurrentExecutions": allocation.config.requested,
        "AvailableProvisionedConcurrentExecutions": allocation.available,
        "AllocatedProvisionedConcurrentExecutions": allocation.available,
        "Status": allocation.status.value,
        "LastModified": allocation.config.last_modified,
    }
    if allocation.reason is not None:
        shape["StatusReason"] = allocation.reason
    return shape


def _parse_name(call: Call) -> tuple[FunctionKey, str]:
    """The qualifier is a required parameter of these operations."""
    key, qualifier = parse_version_name(call)
    assert qualifier is not None
    return key, qualifier
