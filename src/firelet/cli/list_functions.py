"""``firelet list``: the functions that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.cli.endpoint import EndpointOption, find_endpoint, reach
from firelet.cli.terminal import print_table, say

_COLUMNS = ("NAME", "RUNTIME", "HANDLER", "MEMORY", "TIMEOUT", "MODIFIED")


def list_functions(endpoint: EndpointOption = None) -> None:
    """List functions: a table on a terminal, tab-separated values in a pipe."""
    target = find_endpoint(endpoint)
    with reach(target):
        pages = target.client("lambda").get_paginator("list_functions").paginate()
        rows = [_row(function) for page in pages for function in page["Functions"]]
    if not rows:
        say("no functions yet: make one with `firelet deploy DIR`")
        return
    print_table(_COLUMNS, rows)


def _row(function: Mapping[str, Any]) -> list[str]:
    return [
        function["FunctionName"],
        function.get("Runtime", function.get("PackageType", "")),
        function.get("Handler", ""),
        f"{function['MemorySize']} MiB",
        f"{function['Timeout']} s",
        function["LastModified"][:19].replace("T", " "),
    ]
