"""What a package is meant to run on: its runtime and handler, read from its files.

What it is: a guess that spares the user two flags, from names and from the top-level definitions
of Python files. What it is not: a check; firelet itself says whether a handler exists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from firelet.cli.failure import CliError
from firelet.cli.package import Package
from firelet.model.runtimes import OFFERED

FALLBACK_PYTHON = "python3.12"
FALLBACK_NODE = "nodejs22.x"
BOOTSTRAP_RUNTIME = "provided.al2023"

_PYTHON_FILES = ("lambda_function.py", "main.py", "app.py", "handler.py", "index.py")
_PYTHON_NAMES = ("lambda_handler", "handler", "main")
_NODE_STEMS = ("index", "app", "main", "handler")
_NODE_SUFFIXES = (".mjs", ".js", ".cjs")
_NODE_EXPORT = re.compile(
    rb"exports\.handler\b|export\s+(?:async\s+)?(?:const|let|var|function)\s+handler\b"
    rb"|export\s*\{[^}]*\bhandler\b"
)


@dataclass(frozen=True, slots=True)
class Guess:
    """AWS's identifier of the runtime, and the handler."""

    runtime: str
    handler: str


def guess(package: Package, find_runtimes: Callable[[], Sequence[str]]) -> Guess:
    """The runtime and handler of a package; CliError names the flags when there is no telling.

    ``find_runtimes`` lists what the platform can run; it is asked only when the answer matters.
    """
    top = [name for name in package.names if "/" not in name]
    if "bootstrap" in top:
        return Guess(BOOTSTRAP_RUNTIME, "bootstrap")
    handler = _python_handler(package, top)
    if handler is not None:
        return Guess(newest("python", find_runtimes()) or FALLBACK_PYTHON, handler)
    handler = _node_handler(package, top)
    if handler is not None:
        return Guess(newest("nodejs", find_runtimes()) or FALLBACK_NODE, handler)
    raise CliError(
        "no handler found: name it with --runtime and --handler (looked for lambda_handler or"
        " handler in Python files, an exported handler in JavaScript files, and bootstrap)"
    )


def newest(family: str, runtimes: Sequence[str]) -> str | None:
    """The runtime of a family with the highest version, of those that AWS offers too."""
    offered = [name for name in runtimes if name.startswith(family) and name in OFFERED]
    return max(offered, key=_version, default=None)


def _version(runtime: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", runtime))


def _python_handler(package: Package, top: Sequence[str]) -> str | None:
    files = [name for name in top if name.endswith(".py")]
    files.sort(key=lambda name: (_rank(name, _PYTHON_FILES), name))
    for name in files:
        defined = _defined_names(package.read(name))
        for wanted in _PYTHON_NAMES:
            if wanted in defined:
                return f"{PurePosixPath(name).stem}.{wanted}"
    return None


def _defined_names(source: bytes) -> set[str]:
    """Functions and variables at the top of a Python file; none when it does not parse here,
    as a file for a newer Python may not."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(statement.name)
        elif isinstance(statement, ast.Assign):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
        elif isinstance(statement, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in statement.names)
    return names


def _node_handler(package: Package, top: Sequence[str]) -> str | None:
    files = [name for name in top if PurePosixPath(name).suffix in _NODE_SUFFIXES]
    files.sort(key=lambda name: (_rank(PurePosixPath(name).stem, _NODE_STEMS), name))
    for name in files:
        if _NODE_EXPORT.search(package.read(name)):
            return f"{PurePosixPath(name).stem}.handler"
    return None


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)
