"""Operations on functions: create, read, list, update, delete.

Source: aws-lambda API reference; the names of the handlers are those of the operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.control.configuration import SOURCE_KMS_KEY
from firelet.control.functions import NewCode, NewFunction
from firelet.control.registry import Registry
from firelet.frontend.code_location import format_location
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.function_names import parse_function_name, parse_version_name
from firelet.frontend.function_shapes import (
    LACKS,
    format_arn,
    format_configuration,
    format_listed,
    parse_settings,
)
from firelet.frontend.images import ImageIntake
from firelet.frontend.markers import cut_page, parse_marker
from firelet.frontend.operations import Call, Operations, Reply
from firelet.frontend.packages import CODE_LACKS, PackageIntake
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import InvalidParameterValue, NotYetImplemented
from firelet.model.function import DEFAULT_ARCHITECTURE, FunctionVersion, S3Object
from firelet.model.image import Image


class FunctionOperations:
    """The family of functions."""

    def __init__(
        self, registry: Registry, intake: PackageIntake, images: ImageIntake, links: CodeLinks
    ) -> None:
        self._registry = registry
        self._functions = registry.functions
        self._intake = intake
        self._images = images
        self._links = links

    def register(self, operations: Operations) -> None:
        create, update = self.create_function, self.update_function_configuration
        operations.add("lambda", "CreateFunction", create, lacks=LACKS)
        operations.add("lambda", "UpdateFunctionConfiguration", update, lacks=LACKS)
        operations.add("lambda", "UpdateFunctionCode", self.update_function_code, lacks=CODE_LACKS)
        for name, handler in (
            ("GetFunction", self.get_function),
            ("GetFunctionConfiguration", self.get_function_configuration),
            ("ListFunctions", self.list_functions),
            ("DeleteFunction", self.delete_function),
        ):
            operations.add("lambda", name, handler)

    async def create_function(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        key = parse_function_name(call)
        _check_name_length(key[2])
        settings = parse_settings(params)
        is_image = params.get("PackageType") == "Image"
        architecture = settings.architecture or DEFAULT_ARCHITECTURE
        package, reference = await self._accept(
            params["Code"], "creating", architecture if is_image else None
        )
        created = await self._functions.create(
            NewFunction(
                key=key,
                settings=settings,
                package=package,
                reference=reference,
                tags=params.get("Tags") or {},
                publish=params.get("Publish", False),
                code_signing=params.get("CodeSigningConfigArn") or None,
            )
        )
        # Unqualified even if it is version 1 that was published (recorded).
        return format_configuration(created, created.unqualified_arn)

    async def get_function(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        version = self._functions.version(key, qualifier)
        function = self._functions.get(key)
        answer: dict[str, Any] = {
            "Configuration": self._format(version, qualifier),
            "Code": self._format_code(call, version),
        }
        if function.tags:
            answer["Tags"] = dict(function.tags)
        if function.reserved_concurrency is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return answer

    async def get_function_configuration(self, call: Call) -> Mapping[str, Any]:
        key, qualifier = parse_version_name(call)
        return self._format(self._functions.version(key, qualifier), qualifier)

    async def list_functions(self, call: Call) -> Mapping[str, Any]:
        is_all = call.params.get("FunctionVersion") == "ALL"
        functions = self._functions.all(call.account, call.region, _first_name(call.params))
        if call.params.get("MasterRegion"):
            functions = iter(())  # only replicas of Lambda@Edge, of which there are none
        versions = (
            version
            for function in functions
            for version in (function.latest, *(function.versions.values() if is_all else ()))
        )
        page, marker = cut_page(versions, _sort_key, call.params, limits.FUNCTIONS_PER_PAGE)
        listed = [
            format_listed(version, version.qualified_arn if is_all else version.unqualified_arn)
            for version in page
        ]
        return {"Functions": listed, **marker}

    async def update_function_code(self, call: Call) -> Mapping[str, Any]:
        params = call.params
        key = parse_function_name(call)
        latest = self._functions.get(key).latest
        if params.get("PublishTo"):
            raise NotYetImplemented("PublishTo is not served yet.")
        architectures = params.get("Architectures")
        architecture = architectures[0] if architectures else latest.architecture
        package, reference = await self._accept(
            params, "updating", architecture if latest.image is not None else None
        )
        updated = await self._functions.update_code(
            NewCode(
                key=key,
                package=package,
                reference=reference,
                architecture=architectures[0] if architectures else None,
                source_key=params.get(SOURCE_KMS_KEY) or None,
                revision_id=params.get("RevisionId"),
                publish=params.get("Publish", False),
                is_dry_run=params.get("DryRun", False),
            )
        )
        return self._format(updated)

    async def update_function_configuration(self, call: Call) -> Mapping[str, Any]:
        key = parse_function_name(call)
        updated = await self._functions.update_configuration(
            key, parse_settings(call.params), call.params.get("RevisionId")
        )
        return self._format(updated)

    async def delete_function(self, call: Call) -> Reply:
        key, qualifier = parse_version_name(call)
        if qualifier is None:
            await self._functions.delete(key)
        else:
            await self._registry.versions.delete(key, qualifier)
        return Reply(status=204)

    async def _accept(
        self, code: Mapping[str, Any], verb: str, image_for: str | None
    ) -> tuple[bytes | Image, S3Object | None]:
        """A zip, and the object that it is a reference to; or, for an architecture, an image."""
        if image_for is not None:
            return await self._images.accept(code, verb, image_for), None
        package = await self._intake.accept(code, verb)
        return package.content, package.reference

    def _format_code(self, call: Call, version: FunctionVersion) -> dict[str, str]:
        """FunctionCodeLocation."""
        if version.image is not None:
            return {
                "RepositoryType": "ECR",
                "ImageUri": version.image.uri,
                "ResolvedImageUri": version.image.resolved_uri,
            }
        code = {"RepositoryType": "S3", **format_location(self._links, call, version.code)}
        if SOURCE_KMS_KEY in version.extras:
            code[SOURCE_KMS_KEY] = version.extras[SOURCE_KMS_KEY]
        return code

    def _format(self, version: FunctionVersion, qualifier: str | None = None) -> dict[str, Any]:
        """The configuration; a published version has its number in the ARN in any case."""
        if qualifier is None and version.version != LATEST:
            qualifier = version.version
        return format_configuration(version, format_arn(version, qualifier))


def _first_name(params: Mapping[str, Any]) -> str:
    """The function that a page begins with, or the last one of the page before: the rest of its
    versions may be still to come."""
    match parse_marker(params):
        case [str(name), *_]:
            return name
    return ""


def _sort_key(version: FunctionVersion) -> tuple[str, int]:
    return (version.name, 0 if version.version == LATEST else int(version.version))


def _check_name_length(name: str) -> None:
    """The model's limit is that of an ARN. Source: recorded message."""
    if len(name) > limits.FUNCTION_NAME_MAX:
        raise InvalidParameterValue(
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy"
            f" constraint: Member must have length less than or equal to"
            f" {limits.FUNCTION_NAME_MAX}"
        )
