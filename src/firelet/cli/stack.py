"""Templates on the command line: what ``deploy`` does with one, and ``delete --stack``.

What a stack has made is remembered in the user's state directory, by endpoint, account and region.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firelet.cli.endpoint import Endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.terminal import format_duration, say

if TYPE_CHECKING:
    from firelet.stacks.plan import Change
    from firelet.stacks.stack import Place

TEMPLATE_SUFFIXES = (".yaml", ".yml", ".json", ".template")
_STATE_HOME = "~/.local/state"


def is_template(source: Path) -> bool:
    """Whether ``deploy`` is given a template and not code."""
    return source.suffix in TEMPLATE_SUFFIXES and source.is_file()


def deploy_template(
    endpoint: Endpoint,
    template: Path,
    name: str,
    parameters: Mapping[str, str],
    *,
    is_dry_run: bool = False,
) -> None:
    """Applies a template, with a line for each change, and prints the outputs. A dry run prints
    the changes alone, and makes none."""
    from firelet.cli.package import open_package
    from firelet.stacks.stack import deploy_stack, plan_stack

    def pack(path: Path) -> bytes:
        return open_package(path).zipped

    started = time.monotonic()
    with _stack(endpoint) as place:
        if is_dry_run:
            changes = plan_stack(place, name, template, parameters, pack)
        else:
            deployed = deploy_stack(place, name, template, parameters, pack, _tell)
    if is_dry_run:
        _show_plan(name, changes)
        return
    for key, value in deployed.outputs.items():
        print(f"{key}\t{value}")
    if deployed.left:
        say(f"warning: {deployed.left}; the next deployment tries again")
    took = format_duration(time.monotonic() - started)
    say(f"stack {name} is deployed in {took} ({deployed.status})")


def delete_template(endpoint: Endpoint, name: str) -> None:
    """Deletes what a stack has made."""
    from firelet.stacks.stack import delete_stack

    with _stack(endpoint) as place:
        delete_stack(place, name, _tell)
    say(f"deleted stack {name}")


@contextmanager
def _stack(endpoint: Endpoint) -> Iterator[Place]:
    from firelet.stacks.errors import StackError
    from firelet.stacks.stack import Place

    with reach(endpoint):
        account = endpoint.client("sts").get_caller_identity()["Account"]
        place = Place(
            clients=endpoint.client,
            account=account,
            region=endpoint.region,
            states=_find_states(endpoint, account, os.environ),
        )
        try:
            yield place
        except StackError as error:
            raise CliError(str(error)) from None


def _find_states(endpoint: Endpoint, account: str, environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("XDG_STATE_HOME") or _STATE_HOME).expanduser()
    parts = urlsplit(endpoint.url)
    where = f"{parts.hostname}-{parts.port or parts.scheme}"
    return home / "firelet" / "stacks" / where / account / endpoint.region


def _tell(change: Change) -> None:
    if change.action != "keep":
        say(f"{change.action:8} {change.type} {change.logical_id} {change.physical_id}")


def _show_plan(name: str, changes: Sequence[Change]) -> None:
    made = [change for change in changes if change.action != "keep"]
    for change in made:
        of = f" ({', '.join(change.properties)})" if change.properties else ""
        print(f"{change.action:8} {change.type} {change.logical_id}{of}")
    say(f"stack {name}: a dry run, nothing was changed ({len(made)} to change)")
