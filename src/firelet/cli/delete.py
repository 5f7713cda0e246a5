"""``firelet delete``: removes a function with its versions and aliases, or a whole stack."""

from __future__ import annotations

from typing import Annotated

import typer

from firelet.cli.endpoint import EndpointOption, find_endpoint, reach
from firelet.cli.stack import delete_template
from firelet.cli.terminal import say


def delete(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Function.")] = None,
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="Everything that a stack has made.")
    ] = None,
    endpoint: EndpointOption = None,
) -> None:
    """Delete a function, or a stack. Its logs stay."""
    if (name is None) == (stack is None):
        raise typer.BadParameter("give the NAME of a function, or --stack NAME")
    target = find_endpoint(endpoint)
    if stack is not None:
        delete_template(target, stack)
        return
    with reach(target):
        target.client("lambda").delete_function(FunctionName=name)
    say(f"deleted {name}")
