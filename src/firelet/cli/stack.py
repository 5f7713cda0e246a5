"""Templates on the command line: what ``deploy`` does with one, and ``delete --stack``.

What a stack has made is remembered in the user's state directory, by endpoint, account and region.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from firelet.cli.endpoint import Endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.terminal import format_duration, say

if TYPE_CHECKING:
    from firelet.stacks.engine import Change
    from firelet.stacks.stack import Place

TEMPLATE_SUFFIXES = (".yaml", ".yml", ".json", ".template")
_STATE_HOME = "~/.local/state"


def is_template(source: Path) -> bool:
    """Whether ``deploy`` is given a template and not code."""
    return source.suffix in TEMPLATE_SUFFIXES and source.is_file()


def deploy_template(
    endpoint: Endpoint, template: Path, name: str, parameters: Mapping[str, str]
) -> None:
    """Applies a template, with a line for each change, and prints the outputs."""
    from firelet.cli.package import open_package
    from firelet.stacks.stack import deploy_stack

    started = time.monotonic()
    with _stack(endpoint) as place:
        outputs = deploy_stack(
            place, name, template, parameters, lambda path: open_package(path).zipped, _tell
        )
    for key, value in outputs.items():
        print(f"{key}\t{value}")
    say(f"stack {name} is deployed in {format_duration(time.monotonic() - started)}")


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
