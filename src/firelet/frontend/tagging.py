"""The Resource Groups Tagging API over what Lambda tags: find resources by their tags, tag many.

What it is: operations over the tags of functions, event source mappings and code signing
configurations. What it is not: the tags of other services, tag policies and their reports.
The sentences are firelet's own but for those that the tagged resources say themselves.
Source: https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

from firelet.control.registry import Registry
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call, Operations
from firelet.frontend.tags import ResourceKey, Tagged, TaggedResources
from firelet.model.errors import CallerError, InvalidParameterValue
from firelet.model.mapping import format_mapping_arn

Output = Mapping[str, Any]
Resource = tuple[str, Mapping[str, str]]  # an ARN and its tags

SERVICE = "resourcegroupstaggingapi"
RESOURCES_MAX, RESOURCES = 100, 50  # source: GetResources, ResourcesPerPage
NAMES = 1_000  # keys or values in a page; AWS does not say how many
_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:lambda:[a-z0-9-]+:\d{12}"
    r":(function|event-source-mapping|code-signing-config):.+"
)


class InvalidTaggingParameter(CallerError):
    """400: a parameter that this API does not take."""

    code = "InvalidParameterException"


class TaggingOperations:
    """All of the API that is served."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tagged = TaggedResources(registry)

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("GetResources", self.get_resources),
            ("GetTagKeys", self.get_tag_keys),
            ("GetTagValues", self.get_tag_values),
            ("TagResources", self.tag_resources),
            ("UntagResources", self.untag_resources),
        ):
            operations.add(SERVICE, name, handler)

    async def get_resources(self, call: Call) -> Output:
        """Resources that have tags, by ARN; with filters those that satisfy all of them."""
        params = call.params
        _check_filters(params)
        found = [one for one in self._resources(call) if _is_wanted(one, params)]
        size = params.get("ResourcesPerPage") or RESOURCES
        page, token = _cut(call, sorted(found), lambda one: one[0], size)
        listed = [{"ResourceARN": arn, "Tags": _format_tags(tags)} for arn, tags in page]
        return {"ResourceTagMappingList": listed, "PaginationToken": token}

    async def get_tag_keys(self, call: Call) -> Output:
        keys = {key for _, tags in self._resources(call) for key in tags}
        page, token = _cut(call, sorted(keys), str, NAMES)
        return {"TagKeys": page, "PaginationToken": token}

    async def get_tag_values(self, call: Call) -> Output:
        key = call.params["Key"]
        values = {tags[key] for _, tags in self._resources(call) if key in tags}
        page, token = _cut(call, sorted(values), str, NAMES)
        return {"TagValues": page, "PaginationToken": token}

    async def tag_resources(self, call: Call) -> Output:
        tags = call.params["Tags"]
        return await self._change(call, lambda kind, key: kind.add(key, tags))

    async def untag_resources(self, call: Call) -> Output:
        names = call.params["TagKeys"]
        return await self._change(call, lambda kind, key: kind.remove(key, names))

    async def _change(
        self, call: Call, change: Callable[[Tagged, ResourceKey], Awaitable[None]]
    ) -> Output:
        """Every resource for itself: what fails is told, and the others are changed."""
        failed = {}
        for arn in call.params["ResourceARNList"]:
            try:
                if _ARN.fullmatch(arn) is None:
                    raise InvalidTaggingParameter(f"firelet keeps no tags of {arn}.")
                await change(*self._tagged.find(call, arn))
            except CallerError as error:
                failed[arn] = {
                    "StatusCode": error.status,
                    "ErrorCode": InvalidTaggingParameter.code,
                    "ErrorMessage": error.message,
                }
        return {"FailedResourcesMap": failed}

    def _resources(self, call: Call) -> Iterator[Resource]:
        """What has tags in the caller's account and region."""
        registry, world = self._registry, (call.account, call.region)
        for function in registry.functions.all(*world):
            if function.tags:
                yield function.latest.unqualified_arn, function.tags
        for mapping in registry.mappings.all(*world):
            if mapping.tags:
                yield format_mapping_arn(mapping.key), mapping.tags
        for config in registry.code_signing.all(*world):
            if config.tags:
                yield config.arn, config.tags


def _check_filters(params: Mapping[str, Any]) -> None:
    if not 1 <= (params.get("ResourcesPerPage") or RESOURCES) <= RESOURCES_MAX:
        raise InvalidTaggingParameter(f"ResourcesPerPage must be between 1 and {RESOURCES_MAX}.")
    if "ResourceARNList" in params and any(
        params.get(name)
        for name in (
            "TagFilters",
            "ResourceTypeFilters",
            "ResourcesPerPage",
            "TagsPerPage",
            "PaginationToken",
        )
    ):
        raise InvalidTaggingParameter(
            "ResourceARNList cannot be used together with filters or pages."
        )


def _is_wanted(resource: Resource, params: Mapping[str, Any]) -> bool:
    arn, tags = resource
    if "ResourceARNList" in params:
        return arn in params["ResourceARNList"]
    kinds = params.get("ResourceTypeFilters") or ()
    if kinds and not {"lambda", f"lambda:{arn.split(':')[5]}"} & set(kinds):
        return False
    return all(
        item.get("Key") in tags and (not item.get("Values") or tags[item["Key"]] in item["Values"])
        for item in params.get("TagFilters") or ()
    )


def _format_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _cut(
    call: Call, items: Iterable[Any], name_of: Callable[[Any], str], size: int
) -> tuple[list[Any], str]:
    """A page and the token of the next: empty after the last one, as on AWS."""
    params = {"Marker": call.params.get("PaginationToken")}
    try:
        page, marker = cut_page(items, lambda item: (name_of(item),), params, size)
    except InvalidParameterValue:
        raise InvalidTaggingParameter(
            "The PaginationToken is not one that this operation has returned."
        ) from None
    return page, marker.get("NextMarker", "")
