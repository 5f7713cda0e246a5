"""Small container images, made here from nothing: layers, documents, OCI layouts.

No registry, no Docker and no network: a layer is a tar of what a test says, and what programs need
of the host's libraries.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import re
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OCI = "application/vnd.oci.image."
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
ARCHITECTURE = {"amd64": "x86_64", "arm64": "arm64"}[MACHINE]


def entry(
    name: str,
    content: bytes | str = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    link: str = "",
    size: int | None = None,
) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of a layer."""
    data = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    info.size = len(data) if size is None else size
    return info, data


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind=tarfile.LNKTYPE, link=target)


def make_tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tree(*names: str | Path, place: str = "") -> list[tuple[tarfile.TarInfo, bytes]]:
    """Files and directories of the host at ``place``, or at their own path."""
    found = []
    for name in map(Path, names):
        for path in [name, *sorted(name.rglob("*"))] if name.is_dir() else [name]:
            where = f"{place}/{path.relative_to(name)}" if place else str(path)
            if path.is_symlink() and path.resolve().is_dir():
                found.append(symlink(where, str(path.readlink())))
            elif path.is_dir():
                found.append(directory(where))
            elif path.is_file():
                mode = path.stat().st_mode & 0o755
                found.append(entry(where, path.read_bytes(), mode=mode | 0o444))
    return found


def libraries(*paths: str | Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """The shared libraries that these programs and modules of the host need, each once."""
    listed = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=False).stdout
    found = sorted(set(re.findall(r"(?:=>|^)\s+(/\S+)\s+\(0x", listed, re.MULTILINE)))
    return [item for library in found for item in tree(library)]


def program(path: str | Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A program of the host with the shared libraries that it needs."""
    return [*tree(path), *libraries(path)]


@dataclass
class ImageParts:
    """An image in the making. ``layers`` are tars; ``changes`` go over the members of the manifest,
    the configuration's and its ``config``."""

    layers: Sequence[bytes]
    config: Mapping[str, Any] = field(default_factory=dict)
    machine: str = MACHINE
    is_docker: bool = False
    compress: bool = True
    manifest: Mapping[str, Any] = field(default_factory=dict)
    diffs: Sequence[str] | None = None

    def blobs(self) -> tuple[str, dict[str, bytes]]:
        """The digest of the manifest, and every blob by its digest."""
        packed = [gzip.compress(tar, mtime=0) if self.compress else tar for tar in self.layers]
        config = json.dumps(
            {
                "architecture": self.machine,
                "os": "linux",
                "config": dict(self.config),
                "rootfs": {
                    "type": "layers",
                    "diff_ids": list(self.diffs or (f"sha256:{sha256(t)}" for t in self.layers)),
                },
            }
        ).encode()
        if self.is_docker:
            docker = "application/vnd.docker."
            types = (
                f"{docker}distribution.manifest.v2+json",
                f"{docker}container.image.v1+json",
                f"{docker}image.rootfs.diff.tar.gzip",
            )
        else:
            kind = "layer.v1.tar+gzip" if self.compress else "layer.v1.tar"
            types = (f"{OCI}manifest.v1+json", f"{OCI}config.v1+json", f"{OCI}{kind}")
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": types[0],
                "config": descriptor(config, types[1]),
                "layers": [descriptor(blob, types[2]) for blob in packed],
                **self.manifest,
            }
        ).encode()
        return sha256(manifest), {sha256(b): b for b in (manifest, config, *packed)}


def descriptor(blob: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "digest": f"sha256:{sha256(blob)}",
        "size": len(blob),
        **more,
    }


def make_index(images: Mapping[str, ImageParts]) -> tuple[str, dict[str, bytes]]:
    """An index of images by machine: its digest and all blobs."""
    blobs: dict[str, bytes] = {}
    manifests = []
    for machine, image in images.items():
        digest, more = image.blobs()
        blobs |= more
        platform_of = {"architecture": machine, "os": "linux"}
        manifests.append(descriptor(more[digest], f"{OCI}manifest.v1+json", platform=platform_of))
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": manifests}
    ).encode()
    blobs[sha256(index)] = index
    return sha256(index), blobs


def write_layout(where: Path, tag: str, digest: str, blobs: Mapping[str, bytes]) -> None:
    """Adds an image to a directory in the OCI image layout, in place of the tag's former one."""
    store = where / "blobs" / "sha256"
    store.mkdir(parents=True, exist_ok=True)
    for name, data in blobs.items():
        (store / name).write_bytes(data)
    (where / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = where / "index.json"
    entries = json.loads(index.read_text())["manifests"] if index.exists() else []
    name = "org.opencontainers.image.ref.name"
    entries = [item for item in entries if item["annotations"][name] != tag]
    media_type = json.loads(blobs[digest])["mediaType"]
    entries.append(descriptor(blobs[digest], media_type, annotations={name: tag}))
    index.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
