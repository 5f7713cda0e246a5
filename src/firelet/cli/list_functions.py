"""``firelet list``: the functions that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.cli.endpoint import Endpoint, EndpointOption, find_endpoint, reach
from firelet.cli.terminal import print_table, say
from firelet.model.isolation import TAG

_COLUMNS = ("NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "MODIFIED", "ISOLATION")
_AS_THE_PLATFORM = "-"


def list_functions(endpoint: EndpointOption = None) -> None:
    """List functions: a table on a terminal, tab-separated values in a pipe."""
    target = find_endpoint(endpoint)
    with reach(target):
        pages = target.client("lambda").get_paginator("list_functions").paginate()
        functions = [function for page in pages for function in page["Functions"]]
        asked = _isolations(target) if functions else {}
        rows = [_row(function, asked) for function in functions]
    if not rows:
        say("no functions yet: make one with `firelet deploy DIR`")
        return
    print_table(_COLUMNS, rows)


def _isolations(target: Endpoint) -> dict[str, str]:
    """What functions ask for by their tags, by ARN."""
    pages = (
        target.client("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(TagFilters=[{"Key": TAG}], ResourceTypeFilters=["lambda:function"])
    )
    return {
        item["ResourceARN"]: tag["Value"]
        for page in pages
        for item in page["ResourceTagMappingList"]
        for tag in item["Tags"]
        if tag["Key"] == TAG
    }


def _row(function: Mapping[str, Any], isolations: Mapping[str, str]) -> list[str]:
    return [
        function["FunctionName"],
        function.get("Runtime", function.get("PackageType", "")),
        function.get("Handler", ""),
        f"{function['MemorySize']} MiB",
        f"{function['Timeout']} s",
        function["LastModified"][:19].replace("T", " "),
        isolations.get(function["FunctionArn"], _AS_THE_PLATFORM),
    ]
