"""Cold calls of a function that imports much: with SnapStart, and by its plain INIT.

The function ends its own environment when it is told to, so that the next call needs a new one. It
answers with the moment when it was initialised, or restored; only a call for which that was after
the request had been sent counts.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.functions import PYTHON_SOURCE
from bench.memory import SANDBOXES, SETTLE_S, Footprint, weigh
from bench.platforms import Firelet
from bench.sandboxes import find_sandboxes
from bench.wire import call_once
from firelet.model.runtimes import runtime_family, supports_snap_start
from firelet.sandbox.interpreters import Interpreter, discover

PACKAGES = ("numpy", "pandas", "boto3")
_INSTALLED = ("numpy", "pandas")  # boto3 is in the runtime
_TIMEOUT_S = 60.0
_END = b'"end"'
_PLAIN_SAMPLES = 5

_SOURCE = """\
import os
import time

import boto3
import numpy
import pandas
from snapshot_restore_py import register_after_restore

born_ns = [time.monotonic_ns()]
register_after_restore(lambda: born_ns.append(time.monotonic_ns()))


def born(event, context):
    if event == "end":
        os._exit(0)
    return born_ns[-1]
"""


@dataclass(frozen=True, slots=True)
class Clones:
    """Milliseconds of calls that had an environment made, sorted; ``footprint`` is that of an idle
    clone of a function that imports nothing."""

    clone_ms: list[float]
    plain_ms: list[float]
    footprint: Footprint


def measure_clones(firelet: Firelet, samples: int) -> Clones | str:
    """A sentence where there is nothing to measure with."""
    interpreter = _newest()
    if interpreter is None:
        return "no Python from 3.12 on"
    package = _package(interpreter)
    if package is None:
        return f"{' and '.join(_INSTALLED)} could not be installed"
    name = "imports"
    firelet.create_from(name, interpreter.runtime, package, "app.born", snap_start=True)
    version = firelet.publish(name)
    clone_ms = _measure(firelet, f"{name}:{version}", samples)
    plain_ms = _measure(firelet, name, min(samples, _PLAIN_SAMPLES))
    firelet.delete(name)
    footprint = _weigh_clones(firelet, interpreter)
    return Clones(sorted(clone_ms), sorted(plain_ms), footprint)


def _newest() -> Interpreter | None:
    """The newest Python of this host that has SnapStart."""
    offered = [
        found
        for found in discover().values()
        if runtime_family(found.runtime) == "python" and supports_snap_start(found.runtime)
    ]
    return max(offered, key=lambda found: int(found.runtime.rpartition(".")[2]), default=None)


def _weigh_clones(firelet: Firelet, interpreter: Interpreter) -> Footprint:
    """Of idle clones that were made ahead; their snapshot is not among them."""
    name = "no-op-clones"
    package = PYTHON_SOURCE.zip()
    firelet.create_from(name, interpreter.runtime, package, "app.no_op", snap_start=True)
    version = firelet.publish(name)
    time.sleep(SETTLE_S)
    others = find_sandboxes(firelet.pid)
    firelet.warm(f"{name}:{version}", SANDBOXES)
    time.sleep(SETTLE_S)
    found = find_sandboxes(firelet.pid)
    footprint = weigh([found[identity] for identity in found.keys() - others.keys()])
    firelet.delete(name)
    return footprint


def _measure(firelet: Firelet, target: str, samples: int) -> list[float]:
    found: list[float] = []
    for _ in range(samples):
        with contextlib.suppress(RuntimeError):  # an answer that tells of the exit
            call_once(firelet.call(target, _END), _TIMEOUT_S)
        sent_ns = time.monotonic_ns()
        body, elapsed_ms = call_once(firelet.call(target, b"0"), _TIMEOUT_S)
        if int(body) > sent_ns:
            found.append(elapsed_ms)
    return found


def _package(interpreter: Interpreter) -> bytes | None:
    """The function with its packages, which are installed once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "firelet" / f"imports-{interpreter.runtime}"
    if not home.is_dir() and not _install(interpreter, home):
        return None
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("app.py", _SOURCE)
        for path in home.rglob("*"):
            inside = path.relative_to(home)
            if path.is_file() and not {"tests", "__pycache__", "bin"} & set(inside.parts):
                archive.write(path, inside)
    return buffer.getvalue()


def _install(interpreter: Interpreter, home: Path) -> bool:
    assert interpreter.prefix is not None
    assert interpreter.executable is not None
    python = interpreter.prefix / interpreter.executable
    partial = home.with_suffix(".partial")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--target", str(partial)]
    if subprocess.run([*pip, *_INSTALLED], check=False, capture_output=True).returncode:
        return False
    partial.rename(home)
    return True
