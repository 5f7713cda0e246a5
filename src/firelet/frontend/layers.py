"""Operations on layers and their versions: publish, list, get, delete.

Source: aws-lambda API reference and recorded answers; the names of the handlers are those of the
operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.layers import NewLayerVersion
from firelet.control.registry import Registry
from firelet.frontend.code_location import format_location
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.layer_names import parse_layer_name, parse_own_layer
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations, Reply
from firelet.frontend.packages import PackageIntake
from firelet.model import limits
from firelet.model.errors import ResourceNotFound
from firelet.model.layer import LayerVersion, format_layer_arn, parse_layer_version_arn


class LayerOperations:
    """The family of layers."""

    def __init__(self, registry: Registry, intake: PackageIntake, links: CodeLinks) -> None:
        self._layers = registry.layers
        self._intake = intake
        self._links = links

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("PublishLayerVersion", self.publish_layer_version),
            ("ListLayers", self.list_layers),
            ("ListLayerVersions", self.list_layer_versions),
            ("GetLayerVersion", self.get_layer_version),
            ("GetLayerVersionByArn", self.get_layer_version_by_arn),
            ("DeleteLayerVersion", self.delete_layer_version),
        ):
            operations.add("lambda", name, handler)

    async def publish_layer_version(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        key = parse_own_layer(call)
        package = await self._intake.accept(params["Content"], "creating")
        version = await self._layers.publish(
            NewLayerVersion(
                key=key,
                package=package.content,
                reference=package.reference,
                description=params.get("Description", ""),
                license_info=params.get("LicenseInfo"),
                runtimes=_parse_list(params.get("CompatibleRuntimes")),
                architectures=_parse_list(params.get("CompatibleArchitectures")),
            )
        )
        return self._format(call, version)

    async def list_layers(self, call: Call) -> Mapping[str, Any]:
        found = self._layers.latest(call.account, call.region, *_filters(call))
        page, marker = cut_page(
            found, lambda version: (version.name,), call.params, limits.LAYERS_PER_PAGE
        )
        layers = [
            {
                "LayerName": version.name,
                "LayerArn": format_layer_arn(version.key),
                "LatestMatchingVersion": _format_listed(version),
            }
            for version in page
        ]
        return {"Layers": layers, **marker}

    async def list_layer_versions(self, call: Call) -> Mapping[str, Any]:
        found = self._layers.versions(parse_own_layer(call), *_filters(call))
        page, marker = cut_page(
            found, lambda version: (-version.number,), call.params, limits.LAYERS_PER_PAGE
        )
        return {"LayerVersions": [_format_listed(version) for version in page], **marker}

    async def get_layer_version(self, call: Call) -> Mapping[str, Any]:
        number = call.params["VersionNumber"]
        return self._format(call, self._layers.get(call.account, parse_layer_name(call), number))

    async def get_layer_version_by_arn(self, call: Call) -> Mapping[str, Any]:
        parsed = parse_layer_version_arn(call.params["Arn"])
        if parsed is None or parsed[0][1] != call.region:
            raise ResourceNotFound("The resource you requested does not exist.")
        return self._format(call, self._layers.get(call.account, *parsed))

    async def delete_layer_version(self, call: Call) -> Reply:
        await self._layers.delete(parse_own_layer(call), call.params["VersionNumber"])
        return Reply(status=204)

    def _format(self, call: Call, version: LayerVersion) -> dict[str, Any]:
        """GetLayerVersionResponse, which PublishLayerVersionResponse is equal to."""
        return {
            "Content": {
                **format_location(self._links, call, version.code),
                "CodeSha256": version.code.sha256,
                "CodeSize": version.code.size,
            },
            "LayerArn": format_layer_arn(version.key),
            **_format_listed(version),
        }


def _filters(call: Call) -> tuple[str | None, str | None]:
    """Runtime and architecture that are asked for."""
    return call.params.get("CompatibleRuntime"), call.params.get("CompatibleArchitecture")


def _parse_list(items: list[str] | None) -> tuple[str, ...] | None:
    """A list that is given empty is returned empty (recorded)."""
    return None if items is None else tuple(items)


def _format_listed(version: LayerVersion) -> dict[str, Any]:
    """LayerVersionsListItem. What was not given is left out, but for the description."""
    shape: dict[str, Any] = {
        "LayerVersionArn": version.arn,
        "Version": version.number,
        "Description": version.description,
        "CreatedDate": version.created,
    }
    if version.runtimes is not None:
        shape["CompatibleRuntimes"] = list(version.runtimes)
    if version.architectures is not None:
        shape["CompatibleArchitectures"] = list(version.architectures)
    if version.license_info is not None:
        shape["LicenseInfo"] = version.license_info
    return shape
