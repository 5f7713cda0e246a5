"""The directory into which code is extracted, written entry by entry.

By descriptors, following no link, so that nothing can be written outside. What it is not: a check
of names and of the targets of links (``archive_members``). Called by ``archive``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


class CodeTree:
    """Writes below ``root``, a directory's descriptor. Keeps the directories that lead to the
    last entry open, because the next entry is most often beside it."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._open: list[tuple[bytes, int]] = []
        self._made: set[tuple[bytes, ...]] = set()

    def enter(self, parts: tuple[bytes, ...]) -> int:
        """Makes the directory and what leads to it. The descriptor stays the tree's."""
        common = 0
        for (name, _), wanted in zip(self._open, parts, strict=False):
            if name != wanted:
                break
            common += 1
        self._leave(common)
        for depth in range(common, len(parts)):
            above = self._open[-1][1] if self._open else self._root
            is_new = parts[: depth + 1] not in self._made
            if is_new:
                os.mkdir(parts[depth], dir_fd=above)
            fd = os.open(
                parts[depth],
                os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=above,
            )
            self._open.append((parts[depth], fd))
            if is_new:
                os.fchmod(fd, 0o755)  # whatever the umask
                self._made.add(parts[: depth + 1])
        return self._open[-1][1] if self._open else self._root

    def write(
        self, parts: tuple[bytes, ...], chunks: Iterator[bytes], mode: int, modified: int
    ) -> None:
        """Makes a file. ``modified`` is in epoch seconds."""
        above = self.enter(parts[:-1])
        fd = os.open(
            parts[-1],
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=above,
        )
        with open(fd, "wb", buffering=0) as file:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
            os.fchmod(fd, mode)
            os.utime(fd, (modified, modified))

    def link(self, parts: tuple[bytes, ...], target: bytes) -> None:
        """Makes a link; after all files, since none of them may be written through it."""
        os.symlink(target, parts[-1], dir_fd=self.enter(parts[:-1]))

    def close(self) -> None:
        """``root`` stays open."""
        self._leave(0)

    def _leave(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])
