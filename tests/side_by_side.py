"""Runs all tests in two processes side by side: a good part of its time each of them only waits.
``make test`` calls it. Its arguments are pytest's.

The tests that look at what is left on the whole machine come first in one of them, while the other
one has those that start no platform.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

_HERE = Path(__file__).resolve().parent
_BESIDE = ("unit", "protocol", "conformance", "clients", "security")
_FIRST = ("linux",)

Process = subprocess.Popen[bytes]


def main() -> int:
    kinds = {path.relative_to(_HERE).parts[0] for path in _HERE.glob("*/**/test_*.py")}
    rest = (*_FIRST, *sorted(kinds - {*_BESIDE, *_FIRST}))
    with tempfile.TemporaryFile() as output:
        beside = _start(_BESIDE, output)
        code = _wait(_start(rest, None))
        code_beside = _wait(beside)
        output.seek(0)
        print(f"\nThe same of {', '.join(_BESIDE)}:\n", flush=True)
        sys.stdout.buffer.write(output.read())
    if code or code_beside:
        failed = [rest] * bool(code) + [_BESIDE] * bool(code_beside)
        print("\nFailed: " + ", ".join(kind for kinds in failed for kind in kinds))
    return code or code_beside


def _start(kinds: tuple[str, ...], output: IO[bytes] | None) -> Process:
    """With all that it says in ``output``, or here."""
    tests = [sys.executable, "-m", "pytest", *sys.argv[1:], *(str(_HERE / kind) for kind in kinds)]
    return subprocess.Popen(tests, stdout=output, stderr=output and subprocess.STDOUT)


def _wait(process: Process) -> int:
    """Its exit code. Who interrupts this process interrupts the tests, which clean up then."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
