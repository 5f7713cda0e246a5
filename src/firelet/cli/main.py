"""The ``firelet`` command: names the commands and turns errors into sentences.

What it is: the entry point. Each command is a module of its own that imports what it needs when
it runs, because a command that is typed often must not pay for one that is not.
"""

from __future__ import annotations

import os
import sys

import typer

from firelet.cli.delete import delete
from firelet.cli.demo import demo
from firelet.cli.deploy import deploy
from firelet.cli.dev import dev
from firelet.cli.doctor import doctor
from firelet.cli.env import env
from firelet.cli.failure import CliError
from firelet.cli.image import image
from firelet.cli.invoke import invoke
from firelet.cli.list_functions import list_functions
from firelet.cli.logs import logs
from firelet.cli.parity import parity
from firelet.cli.runtimes import runtimes
from firelet.cli.top import top
from firelet.cli.up import up
from firelet.cli.warm import warm

app = typer.Typer(
    name="firelet",
    help="AWS Lambda on your own machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up)
app.command()(demo)
app.command()(deploy)
app.command()(dev)
app.command()(invoke)
app.command("list")(list_functions)
app.command()(logs)
app.command()(top)
app.command()(warm)
app.command()(delete)
app.command()(env)
app.command()(runtimes)
app.command()(parity)
app.command()(doctor)
app.add_typer(image)


def run() -> None:
    """Runs the command line. Exit code 1 and one sentence for whatever goes wrong."""
    try:
        app()
    except CliError as error:
        _fail(str(error))
    except Exception as error:  # the last supervisor: nobody else can tell the user
        if os.environ.get("FIRELET_DEBUG"):
            raise
        _fail(
            f"{type(error).__name__}: {error} (this is a fault of firelet; FIRELET_DEBUG=1 shows"
            " where)"
        )


def _fail(sentence: str) -> None:
    print(f"firelet: {sentence}", file=sys.stderr)
    sys.exit(1)
