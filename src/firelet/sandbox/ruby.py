"""Ruby on this host: the one on PATH, by the version that it reports of itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from firelet.sandbox.interpreter import Interpreter

_TIMEOUT_S = 10.0


def find_ruby(path: str | None = None) -> Interpreter | None:
    """``path`` is an executable, or None for the one on PATH; None when there is none."""
    found = path or shutil.which("ruby")
    if found is None:
        return None
    executable = Path(found).resolve()
    try:
        answer = subprocess.run(
            [executable, "-e", "print RUBY_VERSION"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"(\d+\.\d+)\.", answer)
    if match is None:
        return None
    prefix = executable.parent.parent
    return Interpreter(f"ruby{match[1]}", "ruby", prefix, str(executable.relative_to(prefix)))
