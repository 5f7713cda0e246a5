"""A small process that outlives a crash of the platform and cleans up after it.

Namespaces, mounts and processes end with the zygotes, which notice the end of the platform by
themselves. Control groups do not, and a process that was frozen in version 1 cannot even be
killed before it is thawed. The janitor waits for the end of its standard input, which the
platform holds open, then sweeps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class Janitor:
    """The platform's side: ``start`` once, ``stop`` after an orderly clean-up. ``owner`` names
    the platform's control groups."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # A session of its own: the signal that ends the platform's group must not end it too.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(Path(__file__).resolve()), self._owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        """Lets it run its (now empty) sweep and end."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


def main() -> None:
    while sys.stdin.buffer.read(4096):
        continue
    # Imported only now: what waits for days should be small.
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    from firelet.sandbox import cgroups

    cgroups.sweep(ended=sys.argv[1])


if __name__ == "__main__":
    main()
