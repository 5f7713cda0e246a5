"""The disk with what a runtime needs besides the base system, and the plan of its root in a guest.

``sandbox.rootfs`` plans a root from paths of the host. Here all that the plan takes from the host
is put onto a disk, and the plan is rewritten to where a guest has it: the base system's disk is
mounted at ``BASE``, this one at ``RUNTIME``, and the store of packages is at ``STORE``. What comes
from /usr is the base system's instead, whose libraries are completed by those of the host that the
interpreter is linked to.

A disk is found by its ingredients' paths, sizes and times: to read them all at each start would
take a second. Blocks: call it in a thread.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from firelet.model.layout import DEBUGGER_PATH
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.microvm import bytecode, staging
from firelet.sandbox.microvm.base_system import PYTHON, BaseManifest, mount_points
from firelet.sandbox.microvm.disk_store import Disk, DiskStore
from firelet.sandbox.microvm.host_tools import ImageBuildError, find_libraries
from firelet.sandbox.microvm.interpreter_files import PREFIX, Part, find_files
from firelet.sandbox.rootfs import HIDDEN, RootPlan

BASE = "/drives/base"
RUNTIME = "/drives/runtime"
STORE = "/drives/store"

RUNTIME_KIND = "runtime"  # of a disk, in its store
_RECIPE = "1"  # another one for every change of what disks look like
# The platform's own files, the AWS SDK and libraries: one directory, and so one mount.
_PLATFORM = "/var/runtime"
_LIBRARIES = "lib"
_CLIENT = "client"
_TOP_DIRECTORIES = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_BASE_LINKS = tuple((f"/{name}", f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64"))
_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")
# It changes when libraries of the host do.
_LINKER_CACHE = Path("/etc/ld.so.cache")
_ELF = b"\x7fELF"


@dataclass(frozen=True, slots=True)
class RuntimeDisk:
    """``plan`` is for the guest; its sources are paths there."""

    disk: Disk
    plan: RootPlan


@dataclass(frozen=True, slots=True)
class _Piece:
    """A numbered directory of the disk. ``targets`` are the paths at which a sandbox has it, or the
    one file in it."""

    targets: tuple[str, ...]
    parts: tuple[Part, ...]
    file: str | None = None


def ensure_runtime_disk(
    interpreter: Interpreter, plan: RootPlan, base: BaseManifest, store: DiskStore
) -> RuntimeDisk:
    """The disk for ``plan``, which is the plan of that interpreter; made now if there is none of
    the same files. ImageBuildError."""
    pieces = [*_collect_binds(interpreter, plan), *_collect_interpreter(interpreter)]
    pieces.sort(key=lambda piece: piece.targets)

    def populate(place: Path) -> Path:
        for number, piece in enumerate(pieces):
            _stage(piece, place / str(number))
        _add_libraries(pieces, place, base)
        _add_bytecode(interpreter, pieces, place, base)
        return place

    try:
        ingredients = _fingerprint(interpreter, pieces, base)
    except OSError as error:
        raise ImageBuildError(f"Files of {interpreter.runtime} cannot be read: {error}.") from error
    disk = store.obtain(RUNTIME_KIND, ingredients, populate)
    return RuntimeDisk(disk, _rewrite(interpreter, plan, pieces))


def _collect_binds(interpreter: Interpreter, plan: RootPlan) -> Iterator[_Piece]:
    """What the plan takes from the host, but for the base system, the interpreter, and what
    changes while guests run: the store of packages, and shared directories."""
    platform: list[Part] = []
    by_source: dict[str, list[str]] = {}
    for target, source in plan.binds:
        if target in ("/usr", PREFIX, str(interpreter.prefix), *_TOP_DIRECTORIES):
            continue
        if target.startswith(f"{HIDDEN}/"):
            continue
        if target.startswith(f"{_PLATFORM}/"):
            place = target.removeprefix(f"{_PLATFORM}/")
            platform.append(Part(place, Path(source), _takes_of_platform))
        else:
            by_source.setdefault(source, []).append(target)
    yield _Piece((_PLATFORM,), tuple(platform))
    for source, targets in by_source.items():
        path = Path(source)
        if path.is_dir():
            yield _Piece(tuple(targets), (Part("", path, _readable(path)),))
        else:
            yield _Piece(tuple(targets), (Part(path.name, path),), file=path.name)


def _collect_interpreter(interpreter: Interpreter) -> Iterator[_Piece]:
    targets: dict[tuple[Part, ...], list[str]] = {}
    for target, parts in find_files(interpreter):
        if target.startswith("/usr/") and target not in mount_points():
            raise ImageBuildError(
                f"{interpreter.runtime} needs {target}, where the base system has no directory."
            )
        targets.setdefault(parts, []).append(target)
    for parts, found in targets.items():
        yield _Piece(tuple(found), parts)


def _takes_of_platform(path: str, is_directory: bool) -> bool:
    """Bytecode is made for the interpreter that will read it; Java's client is compiled already."""
    return path.rpartition("/")[2] != "__pycache__" and not (is_directory and path == "java")


def _readable(source: Path) -> staging.Filter:
    """What this user may not read stays out, as a sandbox could not read it either."""
    return lambda path, _: (
        os.access(source / path, os.R_OK, follow_symlinks=False) or (source / path).is_symlink()
    )


def _fingerprint(
    interpreter: Interpreter, pieces: Iterable[_Piece], base: BaseManifest
) -> list[str]:
    digest = hashlib.sha256()
    # Not the runtime's name: some have two.
    of_interpreter = (interpreter.family, interpreter.prefix, interpreter.executable)
    lines = [_RECIPE, *map(str, of_interpreter), base.python, *base.libraries]
    if _LINKER_CACHE.exists():
        lines += staging.describe(_LINKER_CACHE)
    for piece in pieces:
        lines += [*piece.targets, str(piece.file)]
        for part in piece.parts:
            lines += [part.place, str(part.link)]
            if part.link is None:
                lines += staging.describe(part.source, part.takes)
    for line in lines:
        digest.update(os.fsencode(line) + b"\0")
    return [digest.hexdigest()]


def _stage(piece: _Piece, place: Path) -> None:
    staging.make_directory(place)
    for part in piece.parts:
        target = place / part.place
        if part.link is not None:
            staging.make_directory(target.parent)
            target.symlink_to(part.link)
        elif part.source.is_dir():
            staging.place_tree(part.source, target, part.takes)
        else:
            staging.place_file(part.source, target)


def _add_libraries(pieces: list[_Piece], place: Path, base: BaseManifest) -> None:
    """Libraries of the host that files of the disk are linked to and the base system lacks. One of
    a directory of its own is taken also when there is one of that name."""
    binaries = [
        binary
        for number, piece in enumerate(pieces)
        for binary in _binaries(piece, place / str(number))
    ]
    staged = {os.path.realpath(binary) for binary in binaries}
    target = place / str(_number(pieces, _PLATFORM)) / _LIBRARIES
    staging.make_directory(target)
    for library in sorted(find_libraries(binaries)):
        is_systems = str(library.parent).startswith(_SYSTEM_LIBRARIES)
        if is_systems and library.name in base.libraries:
            continue
        if os.path.realpath(library) in staged or (target / library.name).exists():
            continue
        staging.place_file(library, target / library.name)


def _binaries(piece: _Piece, root: Path) -> Iterator[Path]:
    """Programs and libraries of a piece that is staged at ``root``, by their paths on the host."""
    for part in piece.parts:
        if part.link is not None:
            continue
        if not part.source.is_dir():
            if _is_elf(part.source):
                yield part.source
            continue
        base = root / part.place
        for directory, _, names in os.walk(base):
            for name in names:
                path = Path(directory, name)
                source = part.source / path.relative_to(base)
                is_likely = ".so" in name or os.access(path, os.X_OK)
                if is_likely and source.is_file() and _is_elf(source):
                    yield source


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _add_bytecode(
    interpreter: Interpreter, pieces: list[_Piece], place: Path, base: BaseManifest
) -> None:
    platform = place / str(_number(pieces, _PLATFORM))
    if interpreter.family == "python":
        assert interpreter.prefix is not None
        assert interpreter.executable is not None
        python = interpreter.prefix / interpreter.executable
        trees = [
            (platform, _PLATFORM),
            (place / str(_number(pieces, PREFIX)), PREFIX),
        ]
        # That of the debugger would take longer than all the rest, and few want one.
        bytecode.compile_trees([python], trees, [DEBUGGER_PATH.rpartition("/")[2]])
    elif base.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        # The platform's own program runs on the base system's Python, whose bytecode is ours too.
        bytecode.compile_trees([sys.executable], [(platform / _CLIENT, f"{_PLATFORM}/{_CLIENT}")])


def _number(pieces: list[_Piece], target: str) -> int:
    return next(number for number, piece in enumerate(pieces) if target in piece.targets)


def _rewrite(interpreter: Interpreter, plan: RootPlan, pieces: list[_Piece]) -> RootPlan:
    binds = [("/usr", f"{BASE}/usr"), (f"{HIDDEN}/code", STORE)]
    for number, piece in enumerate(pieces):
        source = f"{RUNTIME}/{number}" + (f"/{piece.file}" if piece.file else "")
        binds += [(target, source) for target in piece.targets]
    links = [link for link in plan.links if link[0] not in _TOP_DIRECTORIES]
    return dataclasses.replace(
        plan,
        binds=tuple(binds),
        links=(*links, *_BASE_LINKS),
        covers=(),  # what they hide is not on the disk
        interpreter=plan.interpreter if interpreter.family == "python" else f"/{PYTHON}",
        is_rootless=False,  # whoever runs the platform, the guest's pid 1 is its root
    )
