"""``firelet parity``: which of AWS's operations are served, and which are not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firelet.cli.terminal import print_table

if TYPE_CHECKING:
    from firelet.app.parity import Coverage

_COLUMNS = ("OPERATION", "STANDING", "MISSING OF IT")


def parity(
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """List Lambda's operations: implemented, partly, or missing. Needs no running firelet."""
    from firelet.app.parity import list_coverage

    found = list_coverage()
    if as_json:
        print(json.dumps(describe(found), indent=2))
        return
    print_table(_COLUMNS, [[item.operation, item.standing, item.lacks or ""] for item in found])
    print(summarize(found))


def summarize(found: Sequence[Coverage]) -> str:
    """``45 of 91 Lambda operations, 6 of them partly``."""
    counts = _count(found)
    partly = f", {counts['partly']} of them partly" if counts["partly"] else ""
    return f"{counts['served']} of {counts['total']} Lambda operations{partly}"


def describe(found: Sequence[Coverage]) -> dict[str, Any]:
    """What ``--json`` prints: the counts, and each operation with its standing."""
    operations = {
        item.operation: {"standing": item.standing.value}
        | ({"lacks": item.lacks} if item.lacks else {})
        for item in found
    }
    return {"service": "lambda", **_count(found), "operations": operations}


def _count(found: Sequence[Coverage]) -> dict[str, int]:
    missing = sum(item.standing == "missing" for item in found)
    partly = sum(item.standing == "partly" for item in found)
    return {"total": len(found), "served": len(found) - missing, "partly": partly}
