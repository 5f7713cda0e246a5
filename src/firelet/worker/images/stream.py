"""The tar inside a layer's blob, as a stream of bytes that can only be read forwards.

Memory is bounded whatever the blob holds: a chunk is decompressed at a time, and a reader that asks
for more at once than any header may be long is refused. What tarfile reads in one go is the
extended headers, whose length the archive itself claims.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from firelet.worker.images.errors import BadImage, UnsupportedImage

CHUNK = 128 * 1024
READ_MAX = 256 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WITH_GZIP_HEADER = 31


class Inflater:
    """Decompresses as bytes come in. Begins with what the first bytes say: gzip, in any number of
    members, or nothing. UnsupportedImage for zstd, BadImage for gzip that is not in order."""

    def __init__(self) -> None:
        self._is_plain: bool | None = None
        self._member: zlib._Decompress | None = None
        self._head = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out of ``data``, in chunks."""
        if self._is_plain is None:
            self._head += data
            if len(self._head) < len(_ZSTD):
                return
            if self._head.startswith(_ZSTD):
                raise UnsupportedImage("a layer is compressed with zstd")
            self._is_plain = not self._head.startswith(_GZIP)
            data, self._head = self._head, b""
        if self._is_plain:
            yield data
            return
        while data:
            if self._member is None:
                data = data.lstrip(b"\0")  # padding between members and after the last
                if not data:
                    return
                self._member = zlib.decompressobj(_WITH_GZIP_HEADER)
            try:
                yield self._member.decompress(data, CHUNK)
            except zlib.error as error:
                raise BadImage(f"a layer cannot be decompressed: {error}") from error
            if self._member.eof:
                data, self._member = self._member.unused_data, None
            else:
                data = self._member.unconsumed_tail

    def finish(self) -> None:
        """BadImage when the data ended in the middle."""
        if self._is_plain is None or self._member is not None:
            raise BadImage("a layer is cut short")


class TarStream(io.RawIOBase):
    """The tar of a blob, for ``tarfile``: ``read``, ``tell`` and ``seek`` forwards.

    BadImage past ``most`` bytes, or when more is asked for at once than ``READ_MAX``.
    """

    def __init__(self, blob: BinaryIO, most: int) -> None:
        self._blob = blob
        self._left = most
        self._chunks = self._inflate()
        self._buffer = b""
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise BadImage("a layer cannot be read backwards")
        while self._at < offset and self.read(min(offset - self._at, READ_MAX)):
            pass
        return self._at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= READ_MAX:
            raise BadImage("a layer has a header of unreasonable size")
        parts = []
        missing = size
        while missing:
            if not self._buffer:
                self._buffer = next(self._chunks, b"")
                if not self._buffer:
                    break
            part, self._buffer = self._buffer[:missing], self._buffer[missing:]
            parts.append(part)
            missing -= len(part)
        self._at += size - missing
        return b"".join(parts)

    def _inflate(self) -> Iterator[bytes]:
        inflater = Inflater()
        while data := self._blob.read(CHUNK):
            for chunk in inflater.feed(data):
                self._left -= len(chunk)
                if self._left < 0:
                    raise BadImage("the image is larger than 10 GB unpacked")
                if chunk:
                    yield chunk
        inflater.finish()
