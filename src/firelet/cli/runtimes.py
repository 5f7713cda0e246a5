"""``firelet runtimes``: what this host can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firelet.cli.terminal import print_table

if TYPE_CHECKING:
    from firelet.sandbox.interpreters import Interpreter


def runtimes() -> None:
    """List the runtimes of this host and where each comes from."""
    from firelet.sandbox.interpreters import discover

    found = discover()
    rows = [[name, _origin(found[name])] for name in sorted(found, key=_order)]
    print_table(("RUNTIME", "INTERPRETER"), rows)


def _origin(interpreter: Interpreter) -> str:
    if interpreter.prefix is None or interpreter.executable is None:
        return "the package's own bootstrap"
    return str(interpreter.prefix / interpreter.executable)


def _order(runtime: str) -> tuple[str, tuple[int, ...]]:
    """By family, then by version as numbers: python3.9 before python3.10."""
    import re

    numbers = re.findall(r"\d+", runtime)
    return runtime.rstrip("0123456789.x"), tuple(int(number) for number in numbers)
