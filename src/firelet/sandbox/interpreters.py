"""Which runtimes this host can serve: the interpreters found on it and their prefixes.

Nothing is executed to find Python: a prefix is real when it holds both ``bin/pythonX.Y`` and the
standard library beside it, which leaves out shims and virtual environments.
Called by ``app`` at start-up and by ``firelet runtimes`` and ``firelet doctor``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from firelet.model.errors import PlatformError
from firelet.model.runtimes import OFFERED, runtime_family
from firelet.sandbox.interpreter import Interpreter as Interpreter
from firelet.sandbox.java import find_javas, java_homes
from firelet.sandbox.ruby import find_ruby

_PYTHON = re.compile(r"python(3\.(?:[89]|1[0-9]))")
_PROVIDED = ("provided", "provided.al2", "provided.al2023")
_NODE_TIMEOUT_S = 10.0


def python_prefixes(environment: Iterable[tuple[str, str]] | None = None) -> list[Path]:
    """Directories that may be the prefix of a Python, the most specific first."""
    variables = dict(os.environ if environment is None else environment)
    home = Path(variables.get("HOME", "/nonexistent"))
    candidates: list[Path] = [Path(sys.base_prefix)]
    for pattern in (
        ".pyenv/versions/*",
        ".local/share/uv/python/cpython-*",
        ".local/share/mise/installs/python/*",
        ".asdf/installs/python/*",
    ):
        candidates += _glob(home, pattern)
    root = variables.get("PYENV_ROOT")
    if root:
        candidates += _glob(Path(root), "versions/*")
    candidates += _glob(Path("/opt"), "python*")
    candidates += [Path(d).parent for d in variables.get("PATH", "").split(":") if d]
    candidates += [Path("/usr/local"), Path("/usr")]
    return list(dict.fromkeys(path.resolve() for path in candidates))


def _glob(base: Path, pattern: str) -> list[Path]:
    """Matches, newest version first; none when the directory may not be read."""
    try:
        return sorted(base.glob(pattern), key=_version_key, reverse=True)
    except OSError:
        return []


def _version_key(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.name)]


def find_pythons(prefixes: Iterable[Path]) -> Iterator[Interpreter]:
    """One interpreter per version: the first prefix that has it wins."""
    seen: set[str] = set()
    for prefix in prefixes:
        try:
            names = sorted(os.listdir(prefix / "bin"))
        except OSError:
            continue
        for name in names:
            match = _PYTHON.fullmatch(name)
            if match is None or name in seen:
                continue
            if not (prefix / "lib" / name / "os.py").is_file():
                continue
            seen.add(name)
            yield Interpreter(name, "python", prefix, f"bin/{name}")


def find_node() -> Interpreter | None:
    """The Node.js on PATH, by the major version that it reports of itself."""
    path = shutil.which("node")
    if path is None:
        return None
    executable = Path(path).resolve()
    try:
        answer = subprocess.run(
            [executable, "--version"],
            capture_output=True,
            text=True,
            timeout=_NODE_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"v(\d+)\.", answer)
    if match is None:
        return None
    prefix = executable.parent.parent
    relative = str(executable.relative_to(prefix))
    return Interpreter(f"nodejs{match[1]}.x", "nodejs", prefix, relative)


def named_interpreter(runtime: str, executable: Path) -> Interpreter:
    """What the operator says serves a runtime, whichever version it is. PlatformError when it is
    not the executable of that name in the ``bin`` of a prefix, or the runtime has none."""
    family = runtime_family(runtime) or ""
    names = {"python": runtime, "nodejs": "node", "java": "java", "ruby": "ruby"}
    if runtime not in OFFERED or family not in names:
        raise PlatformError(f"{runtime} is no runtime that an interpreter can serve.")
    wanted = Path("bin", names[family])
    if not executable.match(str(wanted)) or not os.access(executable, os.X_OK):
        raise PlatformError(f"{executable} for {runtime} is not an executable {wanted}.")
    return Interpreter(runtime, family, executable.parent.parent, str(wanted))


def discover() -> dict[str, Interpreter]:
    """All runtimes of this host, by AWS's identifier."""
    found = {item.runtime: item for item in find_pythons(python_prefixes())}
    node = find_node()
    if node is not None:
        found[node.runtime] = node
    ruby = find_ruby()
    if ruby is not None:
        found[ruby.runtime] = ruby
    found |= {item.runtime: item for item in find_javas(java_homes())}
    for name in _PROVIDED:
        found[name] = Interpreter(name, "provided", None, None)
    return found
