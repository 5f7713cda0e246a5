"""Guest images for tests that boot machines, and what is missing where there can be none.

The kernel's package is a download of 27 MB, the base system one of 50 MB: they are not fetched
here. ``.ci/run`` fetches them and says where they are. What is made of them is kept below the
user's cache, as are the machines at rest that tests start from: each takes 5 to 20 s to make where
machines are emulated. All of it is found by what it was made of.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import firelet
from firelet.sandbox import cgroups
from firelet.sandbox.microvm import base_system, initramfs
from firelet.sandbox.microvm.config import IMAGES
from firelet.sandbox.microvm.host_tools import find_tool
from firelet.sandbox.microvm.image import GuestImage, ImageDamaged, ImageStore

PACKAGE_VARIABLE = "FIRELET_TEST_KERNEL_PACKAGE"
# A tar that ``base_system.fetch`` has written, of this host's release.
BASE_VARIABLE = "FIRELET_TEST_BASE_SYSTEM"
QEMU = "qemu-system-x86_64"
PATIENCE_S = 60.0  # for an emulated guest on a machine with much else to do

_CACHE = Path("~/.cache/firelet/machines").expanduser()
_OTHERS_KEPT = 2  # up to 2 GB each
_USERS = "users"  # names of the processes that use it
# What is in guests, and who makes images and disks. What else machines at rest depend on, they are
# found by.
_SOURCES = ("guest", "linux", "sandbox/microvm")


def missing() -> str | None:
    """Why no guest can be booted here; None where it can."""
    if platform.machine() != "x86_64":
        return f"guests are tested on x86_64, not on {platform.machine()}"
    for program in (QEMU, "dpkg-deb", "ldd", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    return _missing_file(PACKAGE_VARIABLE, "a package of a Debian cloud kernel")


def kernel_package() -> Path:
    return Path(os.environ[PACKAGE_VARIABLE])


def missing_base() -> str | None:
    """Why no base system can be built here; None where it can."""
    for program in ("mke2fs", "debugfs", "ldd"):
        if find_tool(program) is None:
            return f"{program} is missing"
    return _missing_file(BASE_VARIABLE, "a tar of a base system")


def base_archive() -> Path:
    return Path(os.environ[BASE_VARIABLE])


def missing_for_functions() -> str | None:
    """Why no function can run in a machine here; None where it can."""
    return missing() or missing_base()


@dataclass(frozen=True, slots=True)
class MachineRoom:
    """What all tests with machines share. ``images`` is the directory of guest images; ``home`` is
    for the driver: disks of runtimes, machines at rest, running machines."""

    image: GuestImage
    images: Path
    home: Path

    def furnish(self, data_dir: Path) -> None:
        """Gives a platform that has not been started what is in here."""
        (data_dir / IMAGES).symlink_to(self.images)
        self.home.mkdir(exist_ok=True)
        (data_dir / "microvm").symlink_to(self.home)


def open_room() -> MachineRoom:
    """Made now, or by an earlier run with the same sources. Takes 15 s if nothing is there."""
    place = _CACHE / _key()
    place.mkdir(parents=True, exist_ok=True)
    os.utime(place)
    _use(place)
    _forget_others(place)
    images, name = place / IMAGES, place / "image"
    store = ImageStore(images)
    try:
        image = store.load(name.read_text())
    except (FileNotFoundError, ImageDamaged):
        image = _build(store)
        name.write_text(image.digest)
    return MachineRoom(image, images, place / "microvm")


def _build(store: ImageStore) -> GuestImage:
    suite = base_system.host_suite()
    busybox = initramfs.find_busybox()
    with store.base_system(suite, base_archive()) as base:
        return store.build(kernel_package(), initramfs.default_python(), busybox, base)


def _key() -> str:
    """Of all that images are made of."""
    digest = hashlib.sha256()
    package = Path(firelet.__file__).parent
    for path in (kernel_package(), base_archive(), *_sources(package)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:40]


def _sources(package: Path) -> Iterator[Path]:
    for name in _SOURCES:
        yield from sorted((package / name).rglob("*.py"))


def _use(place: Path) -> None:
    """Keeps other runs from forgetting it as long as this process lives."""
    (place / _USERS).mkdir(exist_ok=True)
    (place / _USERS / cgroups.owner_name()).touch()


def _is_used(place: Path) -> bool:
    """Whether a process that has said so is still there."""
    for user in (place / _USERS).glob("*-*"):
        with contextlib.suppress(OSError):
            if cgroups.owner_name(int(user.name.partition("-")[0])) == user.name:
                return True
    return False


def _forget_others(place: Path) -> None:
    """Those of other sources, but for the last ones and those that another run is using."""
    others = [other for other in place.parent.iterdir() if other != place]
    others.sort(key=lambda other: other.stat().st_mtime, reverse=True)
    for other in others[_OTHERS_KEPT:]:
        if not _is_used(other):
            shutil.rmtree(other, ignore_errors=True)


def _missing_file(variable: str, what: str) -> str | None:
    if variable not in os.environ:
        return f"{variable} does not name {what}"
    if not Path(os.environ[variable]).is_file():
        return f"{os.environ[variable]}, which {variable} names, is not there"
    return None
