"""Machines at rest as directories: written, checked, refused when they are damaged or foreign.

A directory has the ``state`` of the devices, the ``memory``, which is sparse, and a
``manifest.json`` that is written last: a directory without one was never finished. What is loaded
is checked once and then held in sealed memory files, which nobody can change: clones need no other
check. Everything here blocks. Called by the adapters and the driver.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from firelet.sandbox.microvm import sealed_file
from firelet.sandbox.microvm.vmm import HeldSnapshot, VmmError, VmSnapshot

STATE, MEMORY, MANIFEST = "state", "memory", "manifest.json"
FORMAT = 1
STATE_MAX_BYTES = 64 * 1024 * 1024
# The kernel measures the rate of the counter anew at each start of the host.
_COUNTER_TOLERANCE = 0.001


class SnapshotDamaged(VmmError):
    """A snapshot is not complete, or not what was written."""


class SnapshotForeign(VmmError):
    """A snapshot of another machine. ``differences`` name what differs."""

    def __init__(self, directory: Path, differences: list[str]) -> None:
        super().__init__(f"The snapshot {directory} does not fit: {'; '.join(differences)}.")
        self.differences = differences


class SnapshotIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be equal where a snapshot is restored. ``vmm`` has its version, ``processor`` all
    that the guest may have found out about its own, ``image`` is what the caller calls the kernel
    and the initial file system, ``devices`` are in order, ``drive_bytes`` too. ``counter_khz`` is
    the rate of the guest's time stamp counter: nearly equal will do."""

    vmm: str
    machine: str
    processor: str
    counter_khz: int
    image: str
    memory_mib: int
    vcpus: int
    devices: tuple[str, ...]
    drive_bytes: tuple[int, ...]

    def differences(self, found: SnapshotIdentity) -> Iterator[str]:
        """What ``found`` has otherwise, as sentences without an end."""
        for name in self.__struct_fields__:
            expected, other = getattr(self, name), getattr(found, name)
            if name == "counter_khz" and abs(expected - other) <= expected * _COUNTER_TOLERANCE:
                continue
            if expected != other:
                yield f"{name} is {other!r} and should be {expected!r}"


class _Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``state`` is the SHA-256 of the file, ``memory`` what ``sealed_file.copy`` calls the digest,
    ``memory_bytes`` its size with what is zero."""

    format: int
    identity: SnapshotIdentity
    state: str
    memory: str
    memory_bytes: int


def save_snapshot(directory: Path, identity: SnapshotIdentity, held: HeldSnapshot) -> VmSnapshot:
    """Writes what is held into ``directory``; what it returns owns ``held``. Nothing is left in it
    after an error."""
    snapshot = VmSnapshot(directory / STATE, directory / MEMORY, held)
    state = os.pread(held.state, STATE_MAX_BYTES, 0)
    unfinished = directory / f"{MANIFEST}.part"
    made: list[Path] = []
    try:
        made.append(snapshot.state)
        _write(snapshot.state, state)
        made.append(snapshot.memory)
        memory = sealed_file.copy_to(held.memory, snapshot.memory)
        manifest = _Manifest(
            format=FORMAT,
            identity=identity,
            state=hashlib.sha256(state).hexdigest(),
            memory=memory,
            memory_bytes=os.fstat(held.memory).st_size,
        )
        made.append(unfinished)
        _write(unfinished, msgspec.json.format(msgspec.json.encode(manifest)))
        os.rename(unfinished, directory / MANIFEST)
    except FileExistsError:
        made.pop()  # it is another's
        _remove(made)
        raise
    except BaseException:
        _remove(made)
        raise
    return snapshot


def read_identity(directory: Path) -> SnapshotIdentity:
    """Of what is in ``directory``, which is not checked. SnapshotDamaged."""
    return _read_manifest(directory).identity


def load_snapshot(
    directory: Path, expected: SnapshotIdentity, *, is_held: bool = True
) -> VmSnapshot:
    """Checks all of it. SnapshotForeign before anything else but the manifest is read;
    SnapshotDamaged. ``is_held``: the caller closes it; without, only its files are checked."""
    manifest = _read_manifest(directory)
    if differences := list(expected.differences(manifest.identity)):
        raise SnapshotForeign(directory, differences)
    try:
        held = _load(directory, manifest)
    except OSError as error:
        raise SnapshotDamaged(f"The snapshot {directory} cannot be read: {error}.") from error
    snapshot = VmSnapshot(directory / STATE, directory / MEMORY, held)
    if is_held:
        return snapshot
    snapshot.close()
    return VmSnapshot(snapshot.state, snapshot.memory)


def _load(directory: Path, manifest: _Manifest) -> HeldSnapshot:
    size = (directory / MEMORY).stat().st_size
    if size != manifest.memory_bytes:
        raise SnapshotDamaged(
            f"The memory of the snapshot {directory} has {size} bytes, not {manifest.memory_bytes}."
        )
    state = (directory / STATE).read_bytes()
    if hashlib.sha256(state).hexdigest() != manifest.state:
        raise SnapshotDamaged(f"The state of the snapshot {directory} has been changed.")
    memory, digest = sealed_file.load(directory / MEMORY, MEMORY)
    try:
        if digest != manifest.memory:
            raise SnapshotDamaged(f"The memory of the snapshot {directory} has been changed.")
        return HeldSnapshot(_hold(state), memory)
    except BaseException:
        os.close(memory)
        raise


def _hold(state: bytes) -> int:
    fd = sealed_file.create(STATE)
    try:
        os.write(fd, state)
        sealed_file.seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read_manifest(directory: Path) -> _Manifest:
    try:
        text = (directory / MANIFEST).read_bytes()
        manifest = msgspec.json.decode(text, type=_Manifest)
    except (OSError, msgspec.DecodeError) as error:
        raise SnapshotDamaged(
            f"The manifest of the snapshot {directory} cannot be read: {error}."
        ) from error
    if manifest.format != FORMAT:
        raise SnapshotForeign(directory, [f"its format is {manifest.format}, not {FORMAT}"])
    return manifest


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
    with open(fd, "wb") as file:
        file.write(data)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
