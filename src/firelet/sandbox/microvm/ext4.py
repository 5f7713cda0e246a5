"""Images of ext4 file systems from directories: read-only, without a journal, the same bytes for
the same files. Written by ``mke2fs`` (e2fsprogs), which needs no rights.

``mke2fs -d`` takes owners and times from the files as they are here. What must not depend on who
builds, and when, is set afterwards in the inodes: everything is root's; regular files keep the time
of their last change, in whole seconds, since bytecode is told by it whether it is up to date; all
other times are ``EPOCH``. Without checksums of metadata an inode is plain fields at known places.

Devices, pipes and sockets do not belong in here. Blocks: call it in a thread.
Source: Documentation/filesystems/ext4 (super block, group descriptors, inode table); mke2fs(8).
"""

from __future__ import annotations

import os
import stat
import struct
import uuid
from pathlib import Path
from typing import BinaryIO

from firelet.sandbox.microvm.host_tools import ImageBuildError, run_tool

EPOCH = 315_532_800  # 1980-01-01, the oldest moment that a zip can hold

_BLOCK = 4_096
_INODE = 256
_BLOCKS_OF_GROUP = 8 * _BLOCK  # a block of bits says which are in use
_INODES_OF_GROUP = 8 * _BLOCK
_FIRST_INODE = 11
_FAST_LINK_MAX = 59  # bytes of a link's target that fit into its inode
# No configuration file of the host has a say. No journal: nobody writes. No checksums: see above.
_FEATURES = (
    "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,"
    "extra_isize"
)
_ATTEMPTS = 4
_NO_SPACE = "allocate"

_SUPER_BLOCK = 1_024
_GROUP_DESCRIPTORS = _BLOCK  # in the block after the one of the super block
_DESCRIPTOR = 32
_ROOT = 2
_ROOT_MODE = stat.S_IFDIR | 0o755


def build(source: Path, target: Path, name: str) -> int:
    """Makes the file ``target`` with the content of the directory ``source``; its size in bytes.
    ``name`` has 32 hexadecimal characters or more, of which the file system's id is made.
    ImageBuildError."""
    blocks, inodes = _measure(source)
    target.unlink(missing_ok=True)  # an older one would keep its length
    for attempt in range(_ATTEMPTS):
        try:
            _make(source, target, name, blocks, inodes)
            break
        except ImageBuildError as error:
            # The measure is an estimate: what it was short of is added.
            target.unlink(missing_ok=True)
            if attempt + 1 == _ATTEMPTS or _NO_SPACE not in str(error):
                raise
            blocks += blocks // 8 + 256
    with target.open("r+b") as file:
        _normalise(file)
    return target.stat().st_size


def _measure(source: Path) -> tuple[int, int]:
    """Blocks and inodes that the content needs, with some to spare."""
    blocks, inodes = 0, _FIRST_INODE
    try:
        for directory, directories, names in os.walk(source, onerror=_raise):
            entries = 24
            for name in (*directories, *names):
                found = os.lstat(os.path.join(directory, name))
                inodes += 1
                entries += 8 + (len(os.fsencode(name)) + 3) // 4 * 4
                if stat.S_ISREG(found.st_mode) or (
                    stat.S_ISLNK(found.st_mode) and found.st_size > _FAST_LINK_MAX
                ):
                    blocks += -(-found.st_size // _BLOCK)
            # An entry never crosses the end of a block.
            blocks += 1 + entries * 9 // 8 // _BLOCK
    except OSError as error:
        raise ImageBuildError(f"The files for a disk cannot be read: {error}.") from error
    return _add_overhead(blocks, inodes + 16)


def _add_overhead(blocks: int, inodes: int) -> tuple[int, int]:
    """Blocks of content with those of the file system itself; inodes as they are."""
    blocks += -(-inodes * _INODE // _BLOCK) + 64 + blocks // 64
    # Each group has so many inodes at most, and only the last one may be smaller than the others.
    blocks = max(blocks, inodes // _INODES_OF_GROUP * _BLOCKS_OF_GROUP)
    blocks += 4 * (blocks // _BLOCKS_OF_GROUP + 1)
    return blocks, inodes


def _raise(error: OSError) -> None:
    raise error


def _make(source: Path, target: Path, name: str, blocks: int, inodes: int) -> None:
    identity = str(uuid.UUID(name[:32]))
    environment = {"E2FSPROGS_FAKE_TIME": str(EPOCH), "MKE2FS_SYNC": "0"}
    options = f"root_owner=0:0,hash_seed={identity},lazy_itable_init=1,nodiscard"
    run_tool(
        "mke2fs",
        *("-q", "-F", "-O", _FEATURES, "-b", str(_BLOCK), "-I", str(_INODE), "-m", "0"),
        *("-N", str(inodes), "-U", identity, "-E", options, "-d", source, target, str(blocks)),
        environment=environment,
    )
    # Else functions would find it in their packages.
    run_tool("debugfs", "-w", "-R", "rmdir lost+found", target, environment=environment)


def _normalise(file: BinaryIO) -> None:
    """Owners and times."""
    file.seek(_SUPER_BLOCK)
    block = bytearray(file.read(1_024))
    (count,) = struct.unpack_from("<I", block, 0)
    (of_group,) = struct.unpack_from("<I", block, 40)
    (size,) = struct.unpack_from("<H", block, 88)
    assert size == _INODE, "it was asked for"
    for place in (48, 64, 264):  # last write, last check, creation
        struct.pack_into("<I", block, place, EPOCH)
    struct.pack_into("<Q", block, 376, 0)  # kilobytes written
    file.seek(_SUPER_BLOCK)
    file.write(block)
    for group in range(count // of_group):
        file.seek(_GROUP_DESCRIPTORS + group * _DESCRIPTOR + 8)
        (start,) = struct.unpack("<I", file.read(4))
        _normalise_group(file, start * _BLOCK, of_group, group * of_group + 1)


def _normalise_group(file: BinaryIO, start: int, count: int, first: int) -> None:
    file.seek(start)
    table = bytearray(file.read(count * _INODE))
    used = 0
    for number in range(count):
        place = number * _INODE
        (mode,) = struct.unpack_from("<H", table, place)
        if mode == 0:
            continue
        used = number + 1
        (links,) = struct.unpack_from("<H", table, place + 26)
        if links == 0:
            table[place : place + _INODE] = bytes(_INODE)  # of the directory that was removed
            continue
        if first + number == _ROOT:
            struct.pack_into("<H", table, place, _ROOT_MODE)
        _normalise_inode(table, place, is_file=stat.S_ISREG(mode))
    file.seek(start)
    file.write(table[: used * _INODE])


def _normalise_inode(table: bytearray, place: int, *, is_file: bool) -> None:
    (modified,) = struct.unpack_from("<I", table, place + 16)
    if not is_file:
        modified = EPOCH
    struct.pack_into("<H", table, place + 2, 0)  # user, the lower half
    struct.pack_into("<III", table, place + 8, EPOCH, EPOCH, modified)  # access, change, content
    struct.pack_into("<H", table, place + 24, 0)  # group, the lower half
    struct.pack_into("<I", table, place + 100, 0)  # generation
    struct.pack_into("<HH", table, place + 120, 0, 0)  # the upper halves
    struct.pack_into("<III", table, place + 132, 0, 0, 0)  # fractions of the times
    struct.pack_into("<II", table, place + 144, EPOCH, 0)  # creation
