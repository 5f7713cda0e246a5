"""``firelet doctor``: what this host offers for isolation, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from firelet.cli.failure import CliError
from firelet.cli.terminal import print_table, say


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="Below which guest images are; else as `firelet up` has it.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration [./firelet.toml].")] = None,
) -> None:
    """Look at this host. Exit code 1 when functions cannot run, or only behind weaker walls."""
    from firelet.app.config import load_config
    from firelet.model.errors import PlatformError
    from firelet.sandbox.host import probe_host

    try:
        microvms = load_config({"data_dir": data_dir}, file=config).microvms
    except PlatformError as error:
        raise CliError(error.message) from error
    facts = probe_host(microvms)
    rows = [[item.name, item.level, item.detail, item.consequence] for item in facts.findings]
    print_table(("WHAT", "LEVEL", "FOUND", "SO"), rows)
    for item in facts.missing():
        say(f"missing: {item.name}: {item.consequence}")
    for item in facts.weaker():
        say(f"weaker: {item.name}: `firelet up` starts only with --accept {item.name}")
    if facts.missing() or facts.weaker():
        raise typer.Exit(1)
