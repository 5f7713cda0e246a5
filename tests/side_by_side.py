"""Runs all tests in two processes side by side: a good part of its time each of them only waits.
``make test-side-by-side`` calls it. Its arguments are pytest's.

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
# About half of the time of all.
_BESIDE = (
    "unit",
    "protocol",
    "conformance",
    "clients",
    "integration/test_compiled_examples.py",
    "integration/test_frameworks.py",
    "integration/test_java_and_ruby.py",
    "integration/test_rest_api*.py",
    "integration/test_stack*.py",
    "security",
)
_FIRST = "linux"

Process = subprocess.Popen[bytes]


def main() -> int:
    beside = [str(path) for pattern in _BESIDE for path in sorted(_HERE.glob(pattern))]
    kinds = {path.relative_to(_HERE).parts[0] for path in _HERE.glob("*/**/test_*.py")}
    rest = [str(_HERE / kind) for kind in (_FIRST, *sorted(kinds - {*_BESIDE, _FIRST}))]
    rest += [f"--ignore={path}" for path in beside]
    with tempfile.TemporaryFile() as output:
        process = _start(beside, output)
        code = _wait(_start(rest, None))
        code_beside = _wait(process)
        output.seek(0)
        print(f"\nAnd what has run beside it ({', '.join(_BESIDE)}):\n", flush=True)
        sys.stdout.buffer.write(output.read())
    if code and not code_beside:
        print("\nOther tests have failed, which are above these.")
    return code or code_beside


def _start(places: list[str], output: IO[bytes] | None) -> Process:
    """With all that it says in ``output``, or here."""
    command = [sys.executable, "-m", "pytest", *sys.argv[1:], *places]
    return subprocess.Popen(command, stdout=output, stderr=output and subprocess.STDOUT)


def _wait(process: Process) -> int:
    """Its exit code. Who interrupts this process interrupts the tests, which clean up then."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
