"""Images from a registry through skopeo, where it is installed: it knows credential helpers,
proxies, mirrors and the certificates of ``containers``.

What it gives is trusted as little as what our own client gets. It keeps all of an image on disk
before it can be read, in a directory that goes with the reading.
Source: skopeo(1), skopeo-copy(1), skopeo-inspect(1); containers-transports(5), "dir:".
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from firelet.model import limits
from firelet.worker.images.errors import ImageAccessDenied, ImageNotFound, RegistryFailed
from firelet.worker.images.interrupts import Interrupts
from firelet.worker.images.manifest import Blob
from firelet.worker.images.source import Layers, read_limited
from firelet.worker.images.stream import CHUNK

_COPY_TIMEOUT_S = 3_600
_ERROR_MAX = 500
_NOT_THERE = ("manifest unknown", "name unknown", "not found")
_NOT_ALLOWED = ("unauthorized", "authentication required", "denied", "invalid username")


class SkopeoSource:
    """One repository. ``credentials`` is a file as ``docker login`` writes it."""

    def __init__(
        self, program: str, url: str, credentials: Path | None, interrupts: Interrupts
    ) -> None:
        parts = urlsplit(url)
        self._program = program
        self._name = f"docker://{parts.netloc}{parts.path}"
        self._verifies = "true" if parts.scheme == "https" else "false"
        self._credentials = credentials
        self._interrupts = interrupts

    def manifest(self, wanted: str) -> bytes:
        separator = "@" if wanted.startswith("sha256:") else ":"
        return self._inspect(f"{self._name}{separator}{wanted}", "--raw")

    def config(self, manifest: str, blob: Blob) -> bytes:
        return self._inspect(f"{self._name}@sha256:{manifest}", "--config", "--raw")

    def layers(self, manifest: str, blobs: Sequence[Blob], scratch: Path) -> Layers:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            largest = max(blob.size for blob in blobs)
            self._run(
                ["copy", "--preserve-digests", f"--src-tls-verify={self._verifies}"],
                [f"{self._name}@sha256:{manifest}", f"dir:{directory}"],
                largest + limits.IMAGE_MANIFEST_MAX_BYTES,
                _COPY_TIMEOUT_S,
            )
            for blob in blobs:
                yield _read(Path(directory, blob.digest))

    def _inspect(self, name: str, *options: str) -> bytes:
        arguments = ["inspect", f"--tls-verify={self._verifies}", *options]
        # What is read is what is stored: the limit on files holds for it too.
        most = limits.IMAGE_MANIFEST_MAX_BYTES
        return self._run(arguments, [name], most, limits.IMAGE_TIMEOUT_S)

    def _run(
        self, arguments: list[str], names: list[str], largest_file: int, timeout_s: float
    ) -> bytes:
        """What it prints. ``largest_file`` bounds each file that it writes, in bytes."""
        command = [
            self._program,
            "--insecure-policy",
            *arguments,
            *([f"--authfile={self._credentials}"] if self._credentials else ["--no-creds"]),
            *names,
        ]
        if self._credentials is None and arguments[0] == "copy":
            command[command.index("--no-creds")] = "--src-no-creds"
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            ) as process,
            self._interrupts.during(process.kill),
        ):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest_file, largest_file))
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise RegistryFailed(f"skopeo took longer than {timeout_s:g} s") from None
            if status != 0:
                raise _failure(os.pread(errors.fileno(), 65_536, 0).decode(errors="replace"))
            output.seek(0)
            return read_limited(iter(lambda: output.read(CHUNK), b""), largest_file)


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise ImageNotFound(f"skopeo has not fetched {path.name}") from error


def _failure(text: str) -> ImageNotFound | ImageAccessDenied | RegistryFailed:
    """By what it says: it has no exit codes for these."""
    reason = text.strip().rpartition("\n")[2][-_ERROR_MAX:]
    if any(sign in text for sign in _NOT_THERE):
        return ImageNotFound(reason)
    if any(sign in text for sign in _NOT_ALLOWED):
        return ImageAccessDenied(reason)
    return RegistryFailed(reason)
