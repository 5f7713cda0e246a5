"""The block devices of a microVM's guest, as directories.

``vda`` is the base system and ``vdb`` what the runtime needs: both are mounted at the start.
``vdc`` and ``vdd`` are slots: what they hold is known when the machine is told its function, which
for a clone of a snapshot is something else than it was before.
Called by ``vm_init`` and ``vm_sandbox``. Source: mount(2); ``BLKFLSBUF`` of linux/fs.h.
"""

from __future__ import annotations

import fcntl
import os

from firelet.linux import mount, namespaces

BASE, RUNTIME, STORE = "/drives/base", "/drives/runtime", "/drives/store"
SLOTS = {"code": "/dev/vdc", "layers": "/dev/vdd"}

_FIXED = (("/dev/vda", BASE), ("/dev/vdb", RUNTIME))
STAGE = "/drives/stage"  # where something is mounted for a moment
_READ_ONLY = mount.MS_RDONLY | mount.MS_NOSUID | mount.MS_NODEV
_BLKFLSBUF = 0x1261


def mount_fixed() -> None:
    """Those that stay. In the store there is a place for each slot."""
    for path in (STAGE, *(f"{STORE}/{name}" for name in SLOTS)):
        os.makedirs(path)
    for device, path in _FIXED:
        os.makedirs(path)
        mount.mount(device, path, "ext4", _READ_ONLY)


def mount_slot(name: str, mount_namespace: int, place: str) -> None:
    """Shows what the slot holds now at ``place`` of another mount namespace. What the kernel knows
    of the device may be from before a snapshot, when something else was in it."""
    device = SLOTS[name]
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _BLKFLSBUF, 0)
    finally:
        os.close(fd)
    mount.mount(device, STAGE, "ext4", _READ_ONLY)
    show_stage(mount_namespace, place)


def show_stage(mount_namespace: int, place: str) -> None:
    """Moves what is mounted at ``STAGE`` to ``place`` of another mount namespace."""
    tree = mount.open_copy(STAGE)
    mount.detach(STAGE)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(mount_namespace, namespaces.CLONE_NEWNS)
        try:
            mount.attach(tree, place)
        finally:
            namespaces.setns(own, namespaces.CLONE_NEWNS)
    finally:
        os.close(own)
        os.close(tree)
