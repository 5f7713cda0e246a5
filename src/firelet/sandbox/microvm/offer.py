"""Whether this host can run functions in microVMs: the program, a guest image, the host's tools.

Called for ``firelet doctor``, before a platform starts whose isolation they are, and when the first
function asks for one. It starts nothing but KVM's probe, which the caller has made.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from firelet.linux.kvm import KvmVerdict
from firelet.model.errors import IsolationMissing
from firelet.sandbox.microvm.choice import VmmChoice, choose

IMAGES = "guest-images"  # below the data directory
_MANIFEST = "manifest.json"
_DIGEST_LENGTH = 64
# Where administrators' programs are, which users do not have on their path.
_MORE_PLACES = ("/usr/sbin", "/sbin")
# What makes the block devices of a machine, and the package that has it.
_TOOLS = {"mke2fs": "e2fsprogs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmSettings:
    """What can be set. ``images`` is the directory of guest images, ``image`` the digest of the one
    to use (None: the newest), ``firecracker`` its program (None: whatever is in PATH)."""

    images: Path
    image: str | None = None
    firecracker: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmOffer:
    """What there is. ``image`` is the digest of the guest image to use, of ``images`` (the newest
    first); ``missing`` are sentences, each about one thing that keeps machines from running."""

    choice: VmmChoice
    image: str | None
    images: tuple[str, ...]
    missing: tuple[str, ...]

    def check(self) -> None:
        """IsolationMissing says all that is missing, and where to look."""
        if self.missing:
            raise IsolationMissing(
                f"microVMs are not available on this host: {' '.join(self.missing)}"
                " (`firelet doctor` tells what there is.)"
            )


def find_offer(settings: MicrovmSettings, verdict: KvmVerdict) -> MicrovmOffer:
    """Looks at this host. Blocks for a moment."""
    choice = choose(verdict, settings.firecracker)
    images = find_images(settings.images)
    image = settings.image or next(iter(images), None)
    missing = []
    if choice.kind is None:
        missing.append(f"{choice.reason}.")
    if image is None:
        missing.append("There is no guest image: make one with `firelet image build`.")
    elif image not in images:
        missing.append(f"The guest image {image} is not in {settings.images}.")
    missing += [
        f"{tool} is not installed: it comes with the package {package}."
        for tool, package in _TOOLS.items()
        if not _is_installed(tool)
    ]
    return MicrovmOffer(choice=choice, image=image, images=images, missing=tuple(missing))


def find_images(directory: Path) -> tuple[str, ...]:
    """Digests of the guest images in a directory, the newest first. They are not checked."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return ()
    dated = []
    for entry in entries:
        manifest = Path(entry.path, _MANIFEST)
        if len(entry.name) == _DIGEST_LENGTH and manifest.is_file():
            dated.append((manifest.stat().st_mtime_ns, entry.name))
    return tuple(name for _, name in sorted(dated, reverse=True))


def _is_installed(tool: str) -> bool:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PLACES))
    return shutil.which(tool, path=path) is not None
