"""The kernel of a guest, from a Debian package (``linux-image-cloud-amd64`` depends on it).

The package is a file that the operator has, or it is fetched by ``apt-get download`` when that is
asked for: never by itself. It is unpacked, not installed. Blocks: call it in a thread.
"""

from __future__ import annotations

import lzma
import re
from dataclasses import dataclass
from pathlib import Path

from firelet.sandbox.microvm.host_tools import ImageBuildError as ImageBuildError
from firelet.sandbox.microvm.host_tools import run_tool

META_PACKAGE = "linux-image-cloud-amd64"
# In the order in which they need each other. ext4 is part of Debian's kernels.
MODULES = (
    *("virtio_ring", "virtio", "virtio_mmio", "virtio_console", "virtio_blk", "virtio_rng"),
    "overlay",
)
# For guests with a network, a balloon or shared directories, and for Firecracker's channel.
OPTIONAL_MODULES = (
    "fuse",
    *("failover", "net_failover", "virtio_net", "virtio_balloon"),
    *("vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"),
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """``modules``: name and content of those that every guest loads, in order;
    ``optional_modules`` the same of those that some do."""

    release: str
    image: Path
    modules: tuple[tuple[str, bytes], ...]
    optional_modules: tuple[tuple[str, bytes], ...] = ()


def unpack_package(package: Path, directory: Path) -> Kernel:
    """Unpacks ``package`` into ``directory`` and finds the kernel in it. ImageBuildError."""
    run_tool("dpkg-deb", "-x", str(package), str(directory))
    return find_kernel(directory)


def find_kernel(root: Path) -> Kernel:
    """The one kernel below ``root``, as a package lays it out. ImageBuildError."""
    images = sorted((root / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise ImageBuildError(f"There are {len(images)} kernels in {root / 'boot'} instead of one.")
    release = images[0].name.removeprefix("vmlinuz-")
    found = [root / base / release for base in ("lib/modules", "usr/lib/modules")]
    tree = next((path for path in found if path.is_dir()), None)
    if tree is None:
        raise ImageBuildError(f"The kernel {release} has come without its modules.")
    return Kernel(
        release, images[0], _load_modules(tree, MODULES), _load_modules(tree, OPTIONAL_MODULES)
    )


def download_package(directory: Path) -> Path:
    """Fetches the package by the host's own apt. ImageBuildError."""
    listing = run_tool("apt-cache", "depends", "--important", META_PACKAGE)
    names = [line.split()[-1] for line in listing.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise ImageBuildError(f"apt knows no package {META_PACKAGE}: run `apt-get update`.")
    run_tool("apt-get", "download", names[0], directory=directory)
    return next(directory.glob(f"{names[0]}_*.deb"))


def _load_modules(tree: Path, names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """Without those that are part of the kernel."""
    loaded = [(name, _load_module(tree, name)) for name in names]
    return tuple((name, data) for name, data in loaded if data is not None)


def _load_module(tree: Path, name: str) -> bytes | None:
    """None for one that is part of the kernel."""
    # A module's file may be written with hyphens where its name has underscores.
    pattern = name.replace("_", "[_-]")
    for path in sorted(tree.rglob(f"{pattern}.ko*")):
        data = path.read_bytes()
        if path.suffix == ".ko":
            return data
        if path.suffix == ".xz":
            return lzma.decompress(data)
        raise ImageBuildError(f"{path.name} is compressed in a way that is not supported.")
    built_in = tree / "modules.builtin"
    if built_in.is_file() and re.search(rf"/{pattern}\.ko$", built_in.read_text(), re.MULTILINE):
        return None
    raise ImageBuildError(f"The kernel has no module {name}.")
