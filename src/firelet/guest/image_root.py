"""The root of a sandbox that runs a container image: the layers of the image, stacked, in place of
the base root. Called by ``pid1`` once it knows its image.

The image is seen through an overlay without an upper directory, so that nothing of it can be
written. Above its layers lies a directory of ours with what every sandbox has: mount points, and
the few files of /etc that belong to the host name and the network, which an image must not bring.
/dev, /proc and /tmp are those that the sandbox had before.
Source: Documentation/filesystems/overlayfs.rst, "Multiple lower layers".
"""

from __future__ import annotations

import os

from firelet.guest import steps
from firelet.linux import mount

_STAGE = "/mnt"  # the layers, until the kernel has copies of its own
_ROOT = "/opt"  # the new root, until it is one
_SKELETON = (("dev", 0o755), ("etc", 0o755), ("mnt", 0o755), ("proc", 0o555), ("tmp", 0o1777))
_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_KEPT = ("/dev", "/proc", "/tmp")  # noqa: S108 - the sandbox's own


def enter(zygote: int, layers: list[str]) -> None:
    """Makes the image's root the root directory. ``layers`` are digests, the lowest first;
    ``zygote`` is a descriptor of the mount namespace that has the store."""
    # A layer that is there twice counts where it is last: an overlay takes no directory twice.
    paths = [f"{steps.HIDDEN}/code/{layer}" for layer in dict.fromkeys(reversed(layers))]
    trees = steps.copies_from_store(zygote, paths)
    mount.mount("firelet", _STAGE, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV, "mode=755,size=64k")
    lower = [_make_skeleton(_STAGE + "/own")]
    for number, tree in enumerate(trees):
        place = f"{_STAGE}/{number}"
        os.mkdir(place)
        steps.attach(tree, place)
        lower.append(place)
    mount.mount(
        "firelet",
        _ROOT,
        "overlay",
        mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV,
        f"lowerdir={':'.join(lower)},userxattr,index=off,metacopy=off",
    )
    mount.detach(_STAGE)
    for path in _KEPT:
        mount.bind(path, _ROOT + path, recursive=True)
    mount.pivot_into(_ROOT)


def _make_skeleton(place: str) -> str:
    os.mkdir(place, 0o755)
    for name, mode in _SKELETON:
        os.mkdir(f"{place}/{name}")
        os.chmod(f"{place}/{name}", mode)
    for path in _FILES:
        with open(path, "rb") as source, open(place + path, "wb") as target:
            target.write(source.read())
        os.chmod(place + path, 0o644)
    return place
