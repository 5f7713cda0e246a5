"""``firelet up``: the whole platform in this process, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def up(
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one [4566].")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where functions, queues and logs are kept.")
    ] = None,
    accept: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Findings of `firelet doctor` to put up with, e.g. cgroups."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that run functions; 0 or 1: this one [0].")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What isolates functions: namespaces or microvm \\[namespaces]."
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration [./firelet.toml].")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")] = False,
) -> None:
    """Run firelet here. Prints `ready URL` when it answers; stops on Ctrl-C."""
    from firelet.cli.serving import run_platform

    flags = {
        "port": port,
        "host": host,
        "data_dir": data_dir,
        "accept": accept,
        "workers": workers,
        "isolation": isolation,
    }
    run_platform(flags, file=config, is_verbose=verbose)
