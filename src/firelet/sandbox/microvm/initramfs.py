"""The guest's initial file system, from what this host has: its Python, as far as the guest needs
it, the guest's own code, kernel modules, and busybox where there is one.

What it is: enough for pid 1 and for programs that use no more of the standard library than
``MODULES``. What it is not: a root file system for functions. Files keep the paths that they have
here, so that nothing has to be relocated. Called by ``image``. Blocks: call it in a thread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from firelet.guest.vm_init import MODULES as MODULES_DIRECTORY
from firelet.sandbox.microvm import cpio
from firelet.sandbox.microvm.host_tools import ImageBuildError, find_libraries
from firelet.sandbox.microvm.kernel import Kernel

CODE = ".firelet/code"
MODULES = (
    *("firelet.guest.vm_init", "firelet.guest.enter", "firelet.guest.base_root"),
    *("firelet.linux.messages", "firelet.linux.namespaces", "firelet.linux.process"),
    *("firelet.linux.mount", "ctypes", "fcntl", "json", "select", "selectors", "signal", "socket"),
    *("struct", "traceback", "encodings.ascii", "encodings.latin_1", "runpy"),
)
OPTIONAL_MODULES_DIRECTORY = ".firelet/modules-optional"
_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "bin", OPTIONAL_MODULES_DIRECTORY)
_TIMEOUT_S = 60.0
_SOURCES = Path(__file__).resolve().parents[3]
_FIRELET = _SOURCES / "firelet"
_PACKAGES = ("guest", "linux")

# Prints the files of all that is imported, as the guest's interpreter finds them, and compiles what
# is source. One process compiles it all, in order and with one seed for hashes: bytecode depends on
# what its compiler has seen before.
_COMPILE = """
import importlib, json, os, py_compile, sys
sources, target, *names = sys.argv[1:]
sys.path.insert(0, sources)
for name in names:
    importlib.import_module(name)
specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
files = sorted({spec.origin for spec in specs if spec and spec.has_location})
for number, file in enumerate(files):
    if file.endswith(".py"):
        py_compile.compile(
            file, f"{target}/{number}", file, doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
print(json.dumps([os.__file__, *files]))
"""
_COMPILE_OPTIONS = ("-S", "-s", "-P", "-B")
_COMPILE_ENVIRONMENT = {"PYTHONHASHSEED": "0"}

_INIT = """#!{python} -ISB
import sys
sys.path.insert(0, "/{code}")
from firelet.guest import vm_init
vm_init.main()
"""


def build(kernel: Kernel, python: Path, busybox: Path | None) -> Iterator[cpio.Entry]:
    """The entries of the archive. ``python`` is a real interpreter, of version 3.11 or newer and
    outside any virtual environment. ImageBuildError."""
    files = dict(_python_files(python))
    for directory, modules in (
        (MODULES_DIRECTORY[1:], kernel.modules),
        (OPTIONAL_MODULES_DIRECTORY, kernel.optional_modules),
    ):
        for number, (name, data) in enumerate(modules):
            files[f"{directory}/{number:02}-{name}.ko"] = (data, 0o644)
    if busybox is not None:
        for path in (busybox, *sorted(find_libraries([busybox]))):
            files[str(path)[1:]] = (path.read_bytes(), 0o755)
        yield_link = cpio.link("bin/sh", str(busybox))
    files["init"] = (_INIT.format(python=python, code=CODE).encode(), 0o755)
    yield from map(cpio.directory, _parents([*files, *(f"{d}/x" for d in _DIRECTORIES)]))
    yield cpio.character_device("dev/console", 5, 1)
    for name in sorted(files):
        yield cpio.file(name, *files[name])
    if busybox is not None:
        yield yield_link


def code_digest() -> str:
    """Of the guest's code in this version of firelet, in whatever Python: an image of other code
    does not understand what it is told."""
    found = hashlib.sha256()
    for path in sorted(path for name in _PACKAGES for path in (_FIRELET / name).glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def default_python() -> Path:
    """The interpreter behind this process, outside any virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.base_prefix).resolve() / "bin" / name


def find_busybox() -> Path | None:
    found = shutil.which("busybox")
    return Path(found).resolve() if found else None


def _python_files(python: Path) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """Path in the archive, content and mode of all that the interpreter needs. Bytecode is in the
    place of its source: nothing is compiled in the guest."""
    binaries = [python]
    with tempfile.TemporaryDirectory(prefix="firelet-bytecode-") as directory:
        landmark, *origins = map(Path, _compile(python, directory))
        for number, origin in enumerate(origins):
            if origin.suffix == ".py":
                data = Path(directory, str(number)).read_bytes()
                yield _place(origin.with_suffix(".pyc")), (data, 0o644)
            else:
                binaries.append(origin)
    for binary in binaries:
        for path in (binary, *sorted(find_libraries([binary]))):
            yield _place(path), (_stripped(path), 0o755)
    # By this file an interpreter knows its prefix. It is never read: that module is frozen.
    yield _place(landmark), (landmark.read_bytes(), 0o644)


def _compile(python: Path, directory: str) -> list[str]:
    """The file of ``os``, then those of all modules; in ``directory`` the bytecode of each that is
    source, named by its number among these."""
    command = [str(python), *_COMPILE_OPTIONS, "-c", _COMPILE, str(_SOURCES), directory, *MODULES]
    answer = subprocess.run(
        command,
        env=_COMPILE_ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if answer.returncode != 0:
        raise ImageBuildError(f"{python} cannot be used: {answer.stderr.strip()}")
    files: list[str] = json.loads(answer.stdout)
    return files


def _place(path: Path) -> str:
    """Where it goes in the archive: where it is here, but for the guest's own code."""
    if path.is_relative_to(_SOURCES):
        return f"{CODE}/{path.relative_to(_SOURCES)}"
    return str(path)[1:]


def _stripped(binary: Path) -> bytes:
    """Without symbols for debugging, of which a Python that was built here may have 20 MB; as it
    is where there is no ``strip``."""
    if shutil.which("strip") is None:
        return binary.read_bytes()
    with tempfile.NamedTemporaryFile() as target:
        command = ["strip", "--strip-debug", "-o", target.name, str(binary)]
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if answer.returncode != 0:
            raise ImageBuildError(f"strip {binary} failed: {answer.stderr.strip()}")
        return Path(target.name).read_bytes()


def _parents(names: Iterable[str]) -> list[str]:
    """Every directory above them, the outer ones first."""
    found = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return sorted(found - {"."})
