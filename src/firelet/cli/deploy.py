"""``firelet deploy``: a folder or file becomes a function, a template becomes a stack."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from firelet.cli.deployment import (
    create_or_update,
    name_of,
    parse_pairs,
    runtimes_of,
    settings_of,
)
from firelet.cli.endpoint import EndpointOption, find_endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.stack import deploy_template, is_template
from firelet.cli.terminal import format_duration, progress, say


def deploy(
    source: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="What to deploy.")],
    name: Annotated[str | None, typer.Option(help="Function name \\[that of the source].")] = None,
    runtime: Annotated[str | None, typer.Option(help="For example python3.12.")] = None,
    handler: Annotated[str | None, typer.Option(help="For example main.handler.")] = None,
    memory: Annotated[int | None, typer.Option(metavar="MIB", help="Memory [128].")] = None,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="Timeout [3].")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Environment variable; repeat.")
    ] = None,
    role: Annotated[
        str | None, typer.Option(metavar="ARN", help="Execution role \\[made when missing].")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Isolation: namespaces or microvm \\[the platform's].",
        ),
    ] = None,
    stack: Annotated[
        str | None, typer.Option(help="Name of a template's stack \\[that of its folder].")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Parameter of a template; repeat.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a template would change; change nothing.")
    ] = False,
    endpoint: EndpointOption = None,
) -> None:
    """Create a function, or update it: code first, then configuration. A SAM or CloudFormation
    template is applied as a stack."""
    from firelet.cli.guess import guess
    from firelet.cli.package import open_package

    target = find_endpoint(endpoint)
    of_code = (name, runtime, handler, memory, timeout, env, role, isolation)
    is_stack = is_template(source)
    of_stack = (stack, parameter, dry_run or None)
    if any(option is not None for option in (of_code if is_stack else of_stack)):
        kind = "a template" if is_stack else "code"
        raise CliError(f"{source} is {kind}, and some of the options are not for that")
    if is_stack:
        parameters = parse_pairs(parameter or (), "--parameter")
        stack_name = stack or name_of(source.resolve().parent)
        deploy_template(target, source, stack_name, parameters, is_dry_run=dry_run)
        return
    settings = settings_of(
        memory=memory, timeout=timeout, variables=parse_pairs(env or (), "--env")
    )
    started = time.monotonic()
    with progress(f"packing {source}"):
        package = open_package(source)
    function = name or name_of(source)
    if runtime is None or handler is None:
        guessed = guess(package, lambda: runtimes_of(target))
        runtime, handler = runtime or guessed.runtime, handler or guessed.handler
    settings |= {"Runtime": runtime, "Handler": handler}
    with reach(target), progress(f"deploying {function}"):
        verb = create_or_update(target, function, package, settings, role, isolation)
    took = format_duration(time.monotonic() - started)
    size = f"{len(package.zipped) / 1_024:.1f} KiB"
    say(f"{verb} {function} ({runtime}, {handler}, {size}) in {took}")
