"""Where images are: the port, and a directory in the OCI image layout, its simplest adapter.

Everything here blocks. Nothing that a source gives is trusted: ``images.store`` checks it all.
Source: OCI image layout specification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from firelet.model import limits
from firelet.worker.images.errors import BadImage, ImageNotFound
from firelet.worker.images.manifest import Blob, digest_of, objects_of, parse_document
from firelet.worker.images.stream import CHUNK

_TAG = "org.opencontainers.image.ref.name"


# The bytes of one layer after the other; to be closed, also before its end.
Layers = Generator[Iterator[bytes], None, None]


class ImageSource(Protocol):
    """One repository. All methods raise ``ImageFault``."""

    def manifest(self, wanted: str) -> bytes:
        """The manifest or index of a tag or of ``sha256:…``; at most
        ``limits.IMAGE_MANIFEST_MAX_BYTES``."""

    def config(self, manifest: str, blob: Blob) -> bytes:
        """The configuration that the manifest of that digest (hex) names."""

    def layers(self, manifest: str, blobs: Sequence[Blob], scratch: Path) -> Layers:
        """The bytes of each of these layers of that manifest, in this order. ``scratch`` is a
        directory for what must lie on disk meanwhile."""


def read_limited(chunks: Iterator[bytes], most: int) -> bytes:
    """All of it; BadImage when there is more than ``most``."""
    parts, left = [], most
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise BadImage("a document of the image is too large")
        parts.append(chunk)
    return b"".join(parts)


class LayoutSource:
    """A directory with ``index.json`` and ``blobs/sha256``, as ``skopeo copy … oci:DIRECTORY:TAG``
    and ``docker buildx build --output type=oci,tar=false`` make."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def manifest(self, wanted: str) -> bytes:
        is_digest = wanted.startswith("sha256:")
        digest = wanted.removeprefix("sha256:") if is_digest else self._find_tag(wanted)
        path = self._blob_path(digest)
        data = read_limited(self._read(path), limits.IMAGE_MANIFEST_MAX_BYTES)
        check_digest(data, digest)
        return data

    def config(self, manifest: str, blob: Blob) -> bytes:
        return read_limited(self._read(self._blob_path(blob.digest)), blob.size)

    def layers(self, manifest: str, blobs: Sequence[Blob], scratch: Path) -> Layers:
        for blob in blobs:
            yield self._read(self._blob_path(blob.digest))

    def _blob_path(self, digest: str) -> Path:
        return self._directory / "blobs" / "sha256" / digest

    def _find_tag(self, tag: str) -> str:
        index = read_limited(
            self._read(self._directory / "index.json"), limits.IMAGE_MANIFEST_MAX_BYTES
        )
        for entry in objects_of(parse_document(index), "manifests"):
            annotations = entry.get("annotations")
            name = str(annotations.get(_TAG)) if isinstance(annotations, dict) else ""
            # Docker and Podman write the whole name, others the tag alone.
            if name == tag or name.endswith(f":{tag}"):
                return digest_of(entry)
        raise ImageNotFound(f"the layout {self._directory} has no image with the tag {tag}")

    def _read(self, path: Path) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise ImageNotFound(f"{path} cannot be read: {error.strerror}") from error


def check_digest(data: bytes, digest: str) -> None:
    """BadImage when ``data`` is not what the digest (hex) names."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise BadImage(f"what was sent as sha256:{digest} has another digest")
