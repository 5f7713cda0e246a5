"""``firelet delete``: removes a function with its versions and aliases."""

from __future__ import annotations

from typing import Annotated

import typer

from firelet.cli.endpoint import EndpointOption, find_endpoint, reach
from firelet.cli.terminal import say


def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Function.")],
    endpoint: EndpointOption = None,
) -> None:
    """Delete a function. Its logs stay."""
    target = find_endpoint(endpoint)
    with reach(target):
        target.client("lambda").delete_function(FunctionName=name)
    say(f"deleted {name}")
