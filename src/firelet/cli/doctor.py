"""``firelet doctor``: what this host offers for isolation, and what is missing."""

from __future__ import annotations

import typer

from firelet.cli.failure import CliError
from firelet.cli.terminal import print_table, say


def doctor() -> None:
    """Look at this host. Exit code 1 when functions cannot run, or only behind weaker walls."""
    from firelet.app.config import load_config
    from firelet.model.errors import PlatformError
    from firelet.sandbox.host import probe_host

    try:
        config = load_config()
    except PlatformError as error:
        raise CliError(error.message) from error
    facts = probe_host(config.microvms)
    rows = [[item.name, item.level, item.detail, item.consequence] for item in facts.findings]
    print_table(("WHAT", "LEVEL", "FOUND", "SO"), rows)
    for item in facts.missing():
        say(f"missing: {item.name}: {item.consequence}")
    for item in facts.weaker():
        say(f"weaker: {item.name}: `firelet up` starts only with --accept {item.name}")
    if facts.missing() or facts.weaker():
        raise typer.Exit(1)
