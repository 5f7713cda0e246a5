"""The kernel that is packed into a ``bzImage``, as the ELF file that Firecracker wants, and that
QEMU can enter directly.

Source: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"; the magic numbers are those
of the formats that CONFIG_KERNEL_* offer.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

from firelet.sandbox.microvm.host_tools import ImageBuildError, find_tool

_ELF = b"\x7fELF"
_HEADER = b"HdrS"
_HEADER_PLACE = 0x202
_SETUP_SECTORS_PLACE = 0x1F1
_VERSION_PLACE = 0x206
_VERSION_WITH_PAYLOAD = 0x0208
_PAYLOAD_PLACE = 0x248
_SECTOR = 512
_TIMEOUT_S = 60.0


def extract(image: Path, target: Path) -> None:
    """Writes the ELF file that ``image`` holds, or is. ImageBuildError."""
    data = image.read_bytes()
    kernel = data if data.startswith(_ELF) else _unpack(_payload(data, image), image)
    if not kernel.startswith(_ELF):
        raise ImageBuildError(f"What is packed into {image.name} is no ELF file.")
    target.write_bytes(kernel)


def _payload(data: bytes, image: Path) -> bytes:
    if data[_HEADER_PLACE : _HEADER_PLACE + 4] != _HEADER or len(data) < _PAYLOAD_PLACE + 8:
        raise ImageBuildError(f"{image.name} is neither a bzImage nor an ELF file.")
    (version,) = struct.unpack_from("<H", data, _VERSION_PLACE)
    if version < _VERSION_WITH_PAYLOAD:
        raise ImageBuildError(f"{image.name} does not say where its payload is.")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_PLACE)
    # 0 stands for 4, since the oldest boot loaders.
    start = ((data[_SETUP_SECTORS_PLACE] or 4) + 1) * _SECTOR + offset
    return data[start : start + length]


def _unpack(payload: bytes, image: Path) -> bytes:
    for magic, name, unpack in _FORMATS:
        if payload.startswith(magic):
            try:
                return unpack(payload)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise ImageBuildError(
                    f"{image.name}, which is packed by {name}, cannot be unpacked: {error}."
                ) from error
    raise ImageBuildError(f"{image.name} is packed in a way that is not supported.")


# What follows the packed data is its size, which is not part of it: hence no functions that want
# to read to the end.
def _unzip(payload: bytes) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload)


def _unxz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload)


def _unbzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload)


def _by_program(name: str) -> Callable[[bytes], bytes]:
    def unpack(payload: bytes) -> bytes:
        program = find_tool(name)
        if program is None:
            raise ImageBuildError(f"The kernel is packed by {name}. Install the package {name}.")
        answer = subprocess.run(
            [program, "-dc"],
            input=payload,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        # It complains of the size at the end, after it has written all that there is.
        if not answer.stdout:
            reason = answer.stderr.decode(errors="replace").strip()
            raise ImageBuildError(f"{name} failed: {reason}")
        return answer.stdout

    return unpack


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", _unzip),
    (b"\xfd7zXZ\0", "xz", _unxz),
    (b"\x5d\0\0", "lzma", _unxz),
    (b"BZh", "bzip2", _unbzip2),
    (b"\x28\xb5\x2f\xfd", "zstd", _by_program("zstd")),
    (b"\x02\x21\x4c\x18", "lz4", _by_program("lz4")),
)
