"""Bytecode for files of a disk: an emulated guest that has to compile its Python starts three to
four times slower, and a disk that cannot be written keeps nothing of it.

It is bound to no time of its source and never compared with it (PEP 552, "unchecked"). Blocks: call
it in a thread.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from firelet.sandbox.microvm import ext4
from firelet.sandbox.microvm.host_tools import ImageBuildError

_TIMEOUT_S = 600.0
# One process compiles it all, in order and with one seed for hashes: bytecode depends on what its
# compiler has seen before. Runs on Python 3.8 and newer. What is no Python of this version (as the
# examples that some packages bring) stays as it is.
_PROGRAM = """
import importlib.util, json, os, py_compile, sys
epoch, left_out = int(sys.argv[2]), set(sys.argv[3:])
for place, seen_as in json.loads(sys.argv[1]):
    for directory, directories, names in os.walk(place):
        directories[:] = sorted(set(directories) - left_out)
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            path = os.path.join(directory, name)
            target = importlib.util.cache_from_source(path)
            if os.path.exists(target):
                continue
            try:
                py_compile.compile(
                    path, target, seen_as + path[len(place):], doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
                os.utime(target, (epoch, epoch))
            except (py_compile.PyCompileError, ValueError):
                pass
"""
_OPTIONS = ("-S", "-s", "-B")
_ENVIRONMENT = {"PYTHONHASHSEED": "0"}


def compile_trees(
    python: Sequence[str | Path],
    trees: Sequence[tuple[Path, str]],
    left_out: Sequence[str] = (),
) -> None:
    """Compiles what has no bytecode for the interpreter that the command ``python`` starts.
    ``trees`` are directories here, and their paths in the guest; ``left_out`` are names of
    directories in them. ImageBuildError."""
    pairs = json.dumps([(str(place), seen_as) for place, seen_as in trees])
    try:
        answer = subprocess.run(
            [*map(str, python), *_OPTIONS, "-c", _PROGRAM, pairs, str(ext4.EPOCH), *left_out],
            env=_ENVIRONMENT,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            umask=0o022,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageBuildError(f"{python[-1]} cannot be used: {error}.") from error
    if answer.returncode != 0:
        raise ImageBuildError(f"{python[-1]} cannot compile: {answer.stderr.strip()}")
