"""Programs of the host that build guest images, and the error for what they cannot do.

Called by the modules that build images and disks. Blocks: call it in a thread.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from firelet.model.errors import PlatformError

_TIMEOUT_S = 600.0
_REASON_MAX = 2_000
# Where administrators' programs are, which users do not have on their path.
_MORE_PLACES = ("/usr/sbin", "/sbin")
# Of Debian, for what may be missing.
_PACKAGES = {
    "dpkg-deb": "dpkg",
    "apt-cache": "apt",
    "apt-get": "apt",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "ldd": "libc-bin",
    "zstd": "zstd",
    "lz4": "lz4",
}


class ImageBuildError(PlatformError):
    """A guest image cannot be built; the sentence says what is missing. The sentences are ours."""


def find_tool(name: str) -> str | None:
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join((path, *_MORE_PLACES)))


def run_tool(
    name: str,
    *arguments: str | Path,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """What it says on its standard output. ``environment`` is added to our own. ImageBuildError."""
    command = [find_tool(name) or name, *map(str, arguments)]
    try:
        answer = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        package = _PACKAGES.get(name)
        advice = f" Install the package {package}." if package else ""
        raise ImageBuildError(f"{name} cannot be used: {error}.{advice}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageBuildError(f"{name} cannot be used: {error}.") from error
    if answer.returncode != 0:
        raise ImageBuildError(f"{name} failed: {answer.stderr.strip()[-_REASON_MAX:]}")
    return answer.stdout


def find_libraries(binaries: Sequence[Path]) -> set[Path]:
    """The shared libraries of programs and libraries, and their loader, where this host has them.
    What is not linked dynamically, or is for another machine, has none. ImageBuildError."""
    if not binaries:
        return set()
    program = find_tool("ldd")
    if program is None:
        raise ImageBuildError("ldd cannot be used. Install the package libc-bin.")
    # Its exit status says that one of them was not dynamic, which is no failure here.
    answer = subprocess.run(
        [program, *map(str, binaries)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    words = [line.split("=>")[-1].split() for line in answer.stdout.splitlines()]
    return {
        Path(word[0])
        for word in words
        if len(word) == 2 and word[0].startswith("/") and word[1].startswith("(0x")
    }
