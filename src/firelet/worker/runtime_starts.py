"""How the process of a version is started: the runtime of this host or an image's own, or why not.

What it is not: the start itself (``sandbox``), or what its environment has in it
(``runtime.environment``). Called by ``node``; ``app.workers`` asks whether a runtime is there.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from firelet.model.errors import InvalidRuntime
from firelet.model.function import FunctionVersion
from firelet.runtime.environment import (
    image_process_of,
    plain_command,
    runtime_command,
    runtime_family,
)
from firelet.sandbox.driver import RuntimeStart

log = logging.getLogger(__name__)

_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}  # machine: AWS's name
# Where a custom runtime's executable is looked for, in this order (recorded from the service).
_BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")
# Images start from the same embryos as custom runtimes: nothing of a runtime is in those.
_IMAGE_RUNTIME = "provided.al2023"
_NO_PROCESS = "The image has neither an entry point nor a command"
_NO_BOOTSTRAP = f"Couldn't find valid bootstrap(s): [{' '.join(_BOOTSTRAPS)}]"


def check_runtime(version: FunctionVersion, runtimes: Collection[str]) -> str:
    """The version's runtime, or what an image is started from. InvalidRuntime when it is none of
    those that are here."""
    if version.image is not None:
        return _IMAGE_RUNTIME
    if version.runtime is None or version.runtime not in runtimes:
        raise InvalidRuntime(missing_runtime(version.runtime))
    return version.runtime


def missing_runtime(runtime: str | None) -> str:
    """What a user can do about a runtime that this host does not have."""
    family = runtime_family(runtime)
    advice = {
        "python": "install that version of Python (for example with pyenv, uv or the system's"
        " packages) where `firelet runtimes` finds it",
        "nodejs": "install that major version of Node.js and put its node on PATH",
        "java": "install that version of Java, and one JDK with javac, where `firelet runtimes`"
        " finds them (JAVA_HOME, PATH, /usr/lib/jvm)",
        "ruby": "install that version of Ruby and put its ruby on PATH",
    }.get(family, "this kind of runtime is not supported yet")
    return f"The runtime {runtime} is not available on this host: {advice}."


def runtime_start(
    version: FunctionVersion,
    runtime: str,
    environment: Mapping[str, str],
    extracted: Sequence[Path],
) -> tuple[RuntimeStart, str | None]:
    """How a runtime of this host is started, and why it cannot be. ``extracted`` are the
    directories of the code and of the layers."""
    family = runtime_family(version.runtime)
    bootstrap = _find_bootstrap(*extracted)
    start = RuntimeStart(
        environment=environment,
        arguments=runtime_command(version, bootstrap or ""),
        plain=() if family == "python" else plain_command(version, bootstrap or ""),
        name=runtime,
    )
    is_there = family != "provided" or bootstrap is not None
    return start, None if is_there else _NO_BOOTSTRAP


def image_start(
    version: FunctionVersion, environment: Mapping[str, str]
) -> tuple[RuntimeStart, str | None]:
    """How the process of an image is started, and why it cannot be."""
    process = image_process_of(version)
    assert process is not None
    start = RuntimeStart(
        environment=environment,
        arguments=process.arguments,
        name="image",
        directory=process.working_directory,
        is_image=True,
    )
    return start, None if process.arguments else _NO_PROCESS


def note_architecture(version: FunctionVersion) -> None:
    """Interpreted code does not notice; compiled code for another machine fails when it is loaded,
    and then the log has said why."""
    host = _ARCHITECTURES.get(platform.machine())
    if version.architecture != host:
        log.warning(
            "function=%s is for %s and runs on this host's %s",
            version.qualified_arn,
            version.architecture,
            host or platform.machine(),
        )


def _find_bootstrap(code: Path, *layers: Path) -> str | None:
    """A custom runtime's executable, by its path in the sandbox. A few stats of local files:
    cheaper on the event loop than the way to a thread."""
    in_task, in_layers = _BOOTSTRAPS
    if (code / "bootstrap").is_file():
        return in_task
    return in_layers if any((layer / "bootstrap").is_file() for layer in layers) else None
