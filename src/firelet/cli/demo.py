"""``firelet demo``: starts a platform, shows what it does, checks it, and cleans up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from firelet.cli.endpoint import DEFAULT_REGION, Endpoint, reach
from firelet.cli.terminal import format_duration

if TYPE_CHECKING:
    from rich.console import Console

    from firelet.cli.demo_scenes import Deployment, Observation


def demo(
    accept: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="As of `firelet up`; accepts what it must by itself."),
    ] = None,
) -> None:
    """Show firelet at work: real functions, timings, errors and walls. Takes some seconds."""
    from rich.console import Console

    from firelet.cli.demo_platform import DemoPlatform

    console = Console()
    started = time.monotonic()
    with DemoPlatform(_weaker(console) if accept is None else accept) as platform:
        console.print(f"platform ready at {platform.url} in {format_duration(platform.start_s)}")
        endpoint = Endpoint(platform.url, {"AWS_REGION": DEFAULT_REGION})
        with reach(endpoint):
            shown = _play(endpoint, console)
        stopping = time.monotonic()
    ended = time.monotonic()
    console.print(
        f"{shown} checks passed, platform stopped in {format_duration(ended - stopping)},"
        f" all in {format_duration(ended - started)}"
    )


def _weaker(console: Console) -> str | None:
    """The weaker walls of this host, each said aloud: a demonstration runs all the same."""
    from firelet.sandbox.host import probe_host

    weaker = probe_host().weaker()
    for item in weaker:
        console.print(
            f"weaker here: {item.name}: {item.detail}; {item.consequence}"
            f" (accepted for this demo only: --accept {item.name})"
        )
    return ",".join(item.name for item in weaker) or None


def _play(endpoint: Endpoint, console: Console) -> int:
    """Runs the scenes; returns how many things were shown and held."""
    from firelet.cli.demo_scenes import Scenes, find_aws
    from firelet.sandbox.interpreters import discover

    aws = find_aws()
    if aws is None:
        console.print("no aws command found: the bash function is deployed by boto3 instead")
    with console.status("deploying and calling functions …"):
        scenes = Scenes(endpoint, tuple(discover()))
        deployments = [scenes.deploy_python()]
        node = scenes.deploy_node()
        deployments += [] if node is None else [node]
        deployments.append(scenes.deploy_shell(aws))
    if node is None:
        console.print("no Node.js on this host: its function is left out")
    _print_deployments(console, deployments)
    observations: list[Observation] = []
    try:
        with console.status("errors, walls and events …"):
            for scene in scenes.behaviour():
                observations += scene()
    finally:
        # What held up to a failure is worth seeing with it.
        _print_observations(console, observations)
    return len(deployments) + len(observations)


def _print_deployments(console: Console, deployments: list[Deployment]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from firelet.cli.demo_scenes import WARM_CALLS

    title = f"Functions (p50 of {WARM_CALLS} calls on one HTTP connection)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("function", "runtime", "by"):
        table.add_column(column)
    for column in ("deploy", "first call", "warm p50"):
        table.add_column(column, justify="right")
    for item in deployments:
        # A deployment by the aws command includes the start of the command itself.
        times = (item.deploy_s, item.first_s, item.warm_s)
        table.add_row(item.function, item.runtime, item.tool, *map(format_duration, times))
    console.print(table)


def _print_observations(console: Console, observations: list[Observation]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Behaviour", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what")
    table.add_column("seen", overflow="fold")
    table.add_column("")
    for item in observations:
        table.add_row(item.title, Text(item.result), "[green]ok[/green]")
    console.print(table)
