"""Operations on the configuration of function URLs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.control.urls import FoundUrl, UrlSettings
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.model import limits
from firelet.model.function_url import DEFAULT_INVOKE_MODE, format_function_url


class UrlOperations:
    """The family of function URLs."""

    def __init__(self, registry: Registry) -> None:
        self._urls = registry.urls

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateFunctionUrlConfig", self.create_function_url_config),
            ("GetFunctionUrlConfig", self.get_function_url_config),
            ("UpdateFunctionUrlConfig", self.update_function_url_config),
            ("ListFunctionUrlConfigs", self.list_function_url_configs),
        ):
            operations.add("lambda", name, handler)
        operations.add("lambda", "DeleteFunctionUrlConfig", self.delete_function_url_config)

    async def create_function_url_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        shape = _format(call, await self._urls.create(key, qualifier, _parse(call.params)))
        del shape["LastModifiedTime"]
        return shape

    async def get_function_url_config(self, call: Call) -> Mapping[str, Any]:
        return _format_read(call, self._urls.get(*parse_version_name(call)))

    async def update_function_url_config(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        return _format(call, await self._urls.update(key, qualifier, _parse(call.params)))

    async def list_function_url_configs(self, call: Call) -> Mapping[str, Any]:
        page, marker = cut_page(
            self._urls.all(parse_function_name(call)),
            lambda found: (found.qualifier or "",),
            call.params,
            limits.URL_CONFIGS_PER_PAGE,
        )
        return {"FunctionUrlConfigs": [_format_read(call, found) for found in page], **marker}

    async def delete_function_url_config(self, call: Call) -> Reply:
        await self._urls.delete(*parse_version_name(call))
        return Reply(status=204)


def _parse(params: Mapping[str, Any]) -> UrlSettings:
    return UrlSettings(
        auth_type=params.get("AuthType"),
        cors=params.get("Cors"),
        invoke_mode=params.get("InvokeMode"),
    )


def _format(call: Call, found: FoundUrl) -> dict[str, Any]:
    """The answer to a change. Source: recorded; InvokeMode is there only once it has been set."""
    url = found.url
    shape: dict[str, Any] = {
        "FunctionUrl": format_function_url(url.url_id, found.key[1], call.base_url),
        "FunctionArn": found.arn,
        "AuthType": url.auth_type,
        "CreationTime": url.created,
        "LastModifiedTime": url.last_modified,
    }
    if url.cors is not None:
        shape["Cors"] = dict(url.cors)
    if url.invoke_mode is not None:
        shape["InvokeMode"] = url.invoke_mode
    return shape


def _format_read(call: Call, found: FoundUrl) -> dict[str, Any]:
    """FunctionUrlConfig, in which InvokeMode has its default. Source: recorded."""
    return {"InvokeMode": DEFAULT_INVOKE_MODE, **_format(call, found)}
