"""Which files of an interpreter go onto a runtime's disk, and where a sandbox has them.

A prefix may be all of /usr, and mostly holds more than functions need: only the interpreter and its
own libraries are taken, without tests, graphics, headers, and what builds software. Shared
libraries of other packages are found later, by ``runtime_disk``. Nothing is executed here; what
exists is looked at.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.microvm.host_tools import ImageBuildError
from firelet.sandbox.microvm.staging import Filter

PREFIX = "/var/lang"

_USR = Path("/usr")
_LEFT_OUT_OF_PYTHON = frozenset(
    (
        *("test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "pydoc_data"),
        *("site-packages", "dist-packages"),
    )
)
# Debian's Node.js reads these at its start, instead of having them in itself.
_SHARED_NODE = ("acorn", "acorn-walk", "cjs-module-lexer", "undici", "minimatch")
_LEFT_OUT_OF_JAVA = frozenset(
    (
        *("jmods", "include", "man", "demo", "sample", "docs", "legal", "src.zip", "lib/src.zip"),
        # For compilers, screens and loudspeakers.
        *("lib/ct.sym", "lib/libawt_xawt.so", "lib/libjawt.so", "lib/libsplashscreen.so"),
        *("lib/libjsound.so", "lib/libatk-wrapper.so"),
    )
)
_NOT_AT_RUN_TIME = (".a", ".h", ".la", ".pc")


@dataclass(frozen=True, slots=True)
class Part:
    """A file or directory of the host and its place below the target. ``takes``: see ``staging``.
    ``link``: no file of the host, but a symbolic link to that."""

    place: str
    source: Path
    takes: Filter | None = None
    link: str | None = None


def find_files(interpreter: Interpreter) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Directories of a sandbox, each with its parts. ImageBuildError."""
    if interpreter.prefix is None or interpreter.executable is None:
        return
    prefix, executable = (
        interpreter.prefix,
        Part(interpreter.executable, interpreter.prefix / interpreter.executable),
    )
    if not executable.source.is_file():
        raise ImageBuildError(
            f"{executable.source} of {interpreter.runtime} is not there any more."
        )
    if interpreter.family == "python":
        yield PREFIX, _python(interpreter.runtime, prefix, executable)
    elif interpreter.family == "nodejs":
        yield PREFIX, (executable,)
        if prefix == _USR:
            yield from _existing("usr/share/nodejs", _SHARED_NODE)
    elif interpreter.family == "java":
        yield PREFIX, (Part("", prefix, _takes_of_java),)
    elif interpreter.family == "ruby":
        yield from _ruby(prefix, executable)
    else:
        raise ImageBuildError(f"There are no disks for {interpreter.runtime}.")


def _python(name: str, prefix: Path, executable: Part) -> tuple[Part, ...]:
    tag = f".cpython-{name.removeprefix('python').replace('.', '')}.pyc"

    def takes(path: str, is_directory: bool) -> bool:
        top, *below = path.split("/")
        if top not in ("lib", "lib64"):
            return False
        if not below or path == f"{top}/{name}/site-packages":
            return is_directory
        if below[0] != name:
            return below[0].startswith("libpython") and ".so" in below[0]
        last = below[-1]
        if "__pycache__" in below and not is_directory:
            return last.endswith(tag)
        return (
            _LEFT_OUT_OF_PYTHON.isdisjoint(below)
            and not last.startswith(("config-", "_tkinter."))
            and not last.endswith(_NOT_AT_RUN_TIME)
        )

    target = Path(executable.place).name
    links = (Part(f"bin/{link}", prefix, link=target) for link in ("python", "python3"))
    return (Part("", prefix, takes), executable, *links)


def _takes_of_java(path: str, is_directory: bool) -> bool:
    return path not in _LEFT_OUT_OF_JAVA and not path.endswith(_NOT_AT_RUN_TIME)


def _takes_of_ruby(path: str, is_directory: bool) -> bool:
    return not path.endswith(_NOT_AT_RUN_TIME) and path.rpartition("/")[2] not in ("doc", "cache")


def _ruby(prefix: Path, executable: Part) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """A Ruby finds its library by the path that it was built for, which must be the same in the
    sandbox."""
    link = Part("bin/ruby", prefix, link=Path(executable.place).name)
    links = () if executable.place == link.place else (link,)
    if prefix != _USR:

        def takes(path: str, is_directory: bool) -> bool:
            top, *below = path.split("/")
            if top != "lib":
                return False
            if below and below[0] != "ruby" and not below[0].startswith("libruby"):
                return False
            return _takes_of_ruby(path, is_directory)

        parts = (Part("", prefix, takes), executable, *links)
        yield PREFIX, parts
        yield str(prefix), parts
        return
    yield PREFIX, (executable, *links)
    triplet = f"{platform.machine()}-linux-gnu"
    for place in ("lib/ruby", f"lib/{triplet}/ruby", "share/rubygems-integration"):
        if (_USR / place).is_dir():
            yield f"/usr/{place}", (Part("", _USR / place, _takes_of_ruby),)


def _existing(place: str, names: tuple[str, ...]) -> Iterator[tuple[str, tuple[Part, ...]]]:
    directory = Path("/", place)
    parts = tuple(Part(name, directory / name) for name in names if (directory / name).is_dir())
    if parts:
        yield str(directory), parts
