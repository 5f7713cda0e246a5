"""What commands show: rich on a terminal, plain where a program reads.

Answers go to stdout, everything else to stderr. Rich is imported only where it draws, because it
costs as much as the rest of a short command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal, lines of tab-separated values elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def say(message: str) -> None:
    """One line for the person at the keyboard."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Shows that a long step is under way, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} …"):
        yield


def format_duration(seconds: float) -> str:
    """``0.42 ms``, ``12.3 ms`` or ``1.25 s``: three digits that matter."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1_000
    return f"{milliseconds:.2f} ms" if milliseconds < 10 else f"{milliseconds:.1f} ms"
