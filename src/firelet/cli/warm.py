"""``firelet warm``: environments made ahead, so that the first callers do not wait for them."""

from __future__ import annotations

from typing import Annotated

import typer

from firelet.cli.endpoint import Endpoint, EndpointOption, find_endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.terminal import progress


def warm(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Function, or NAME:ALIAS.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many environments more.")] = 1,
    endpoint: EndpointOption = None,
) -> None:
    """Make environments of a function ahead of its first invocations."""
    target = find_endpoint(endpoint)
    with reach(target), progress(f"making {n} environments of {name}"):
        ready = make_environments(target, name, n)
    if ready < n:
        raise CliError(
            f"{ready} of {n} environments of {name} are ready; the log of `firelet up` says what"
            " went wrong"
        )
    print(f"{ready} {'environment' if n == 1 else 'environments'} of {name} ready")


def make_environments(target: Endpoint, name: str, count: int) -> int:
    """How many of ``count`` were made. Each answer covers ten seconds: asks again while the
    platform gets on."""
    import msgspec

    from firelet.frontend.status import WARM_PATH, WarmAnswer, WarmOrder

    ready = 0
    while ready < count:
        order = WarmOrder(name, n=count - ready)
        body = target.page(WARM_PATH, msgspec.json.encode(order))
        answer = msgspec.json.decode(body, type=WarmAnswer)
        if not answer.ready:
            break
        ready += answer.ready
    return ready
