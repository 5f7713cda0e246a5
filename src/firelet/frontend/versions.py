"""Operations on published versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.function_names import parse_function_name
from firelet.frontend.function_shapes import format_configuration, format_listed
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import NotYetImplemented
from firelet.model.function import FunctionVersion


class VersionOperations:
    """The family of versions."""

    def __init__(self, registry: Registry) -> None:
        self._versions = registry.versions

    def register(self, operations: Operations) -> None:
        operations.add("lambda", "PublishVersion", self.publish_version, lacks="PublishTo")
        operations.add("lambda", "ListVersionsByFunction", self.list_versions_by_function)

    async def publish_version(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        if params.get("PublishTo"):
            raise NotYetImplemented("PublishTo is not served yet.")
        version = await self._versions.publish(
            parse_function_name(call),
            description=params.get("Description"),
            code_sha256=params.get("CodeSha256") or None,
            revision_id=params.get("RevisionId"),
        )
        return format_configuration(version, version.qualified_arn)

    async def list_versions_by_function(self, call: Call) -> Mapping[str, Any]:
        versions = self._versions.all(parse_function_name(call))
        page, marker = cut_page(versions, _sort_key, call.params, limits.VERSIONS_PER_PAGE)
        listed = [format_listed(item, item.qualified_arn) for item in page]
        return {"Versions": listed, **marker}


def _sort_key(version: FunctionVersion) -> tuple[int]:
    return (0 if version.version == LATEST else int(version.version),)
