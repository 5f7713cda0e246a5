"""Whether this host can run functions in microVMs: the program, a guest image, the host's tools.

Called for ``firelet doctor``, before a platform starts whose isolation they are, and when the first
function asks for one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from firelet.linux.kvm import KvmVerdict, probe_kvm
from firelet.model.errors import IsolationMissing
from firelet.sandbox.microvm import initramfs
from firelet.sandbox.microvm.choice import VmmChoice, choose
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.host_tools import find_tool
from firelet.sandbox.microvm.image import GuestImage, ImageStore

# What makes the block devices of a machine, and the package that has it.
_TOOLS = {"mke2fs": "e2fsprogs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmOffer:
    """What there is. ``image`` is the guest image to use, of ``images`` (the newest first), whose
    files have not been checked; ``missing`` are sentences, each about one thing that keeps machines
    from running."""

    choice: VmmChoice
    image: GuestImage | None
    images: tuple[GuestImage, ...]
    missing: tuple[str, ...]

    def check(self) -> None:
        """IsolationMissing says all that is missing, and where to look."""
        if self.missing:
            raise IsolationMissing(
                f"microVMs are not available on this host: {' '.join(self.missing)}"
                " (`firelet doctor` tells what there is.)"
            )


class MicrovmProbe:
    """Looks at this host whenever it is asked, and tries KVM but once, since that starts a process
    that runs a guest. ``kvm`` is what another process has found. Any thread may call."""

    def __init__(self, config: MicrovmConfig, kvm: KvmVerdict | None = None) -> None:
        self.config = config
        self._kvm = kvm
        self._found: MicrovmOffer | None = None
        self._lock = threading.Lock()

    @property
    def kvm(self) -> KvmVerdict | None:
        """None: it has not been tried."""
        return self._kvm

    def find(self) -> MicrovmOffer:
        """Blocks."""
        with self._lock:
            if self._kvm is None:
                self._kvm = probe_kvm()
        self._found = find_offer(self.config, self._kvm)
        return self._found

    def find_program(self) -> str | None:
        """What runs machines, in words, as it was found last; None: nothing does. Blocks if nobody
        has looked yet."""
        kind = (self._found or self.find()).choice.kind
        return None if kind is None else kind.value


def find_offer(config: MicrovmConfig, verdict: KvmVerdict) -> MicrovmOffer:
    """Looks at this host. Blocks for a moment."""
    choice = choose(verdict, config.firecracker)
    missing = [] if choice.kind is not None else [f"{choice.reason}."]
    images: list[GuestImage] = []
    image = None
    try:
        images = ImageStore(config.images).images()
    except OSError as error:
        missing.append(f"{config.images} cannot be read: {error.strerror}.")
    else:
        image = _choose_image(images, config.image)
        missing += _lacking(image, config)
    missing += [
        f"{tool} is not installed: it comes with the package {package}."
        for tool, package in _TOOLS.items()
        if find_tool(tool) is None
    ]
    return MicrovmOffer(choice=choice, image=image, images=tuple(images), missing=tuple(missing))


def _choose_image(images: Sequence[GuestImage], wanted: str | None) -> GuestImage | None:
    """The one that is wanted, or else the newest that functions can run in, or any."""
    if wanted is not None:
        return next((image for image in images if image.digest == wanted), None)
    for image in images:
        if fault_of(image) is None:
            return image
    return next(iter(images), None)


def fault_of(image: GuestImage) -> str | None:
    """Why functions cannot run in an image, as what is said of it; None: they can."""
    if image.base is None:
        return "has no base system for functions"
    if image.manifest.code != initramfs.code_digest():
        return "is of another version of firelet"
    return None


def _lacking(image: GuestImage | None, config: MicrovmConfig) -> list[str]:
    if image is None and config.image is not None:
        return [f"The guest image {config.image} is not in {config.images}."]
    if image is None:
        return [f"There is no guest image in {config.images}: make one with `firelet image build`."]
    fault = fault_of(image)
    if fault is None:
        return []
    return [f"The guest image {image.digest} {fault}: make another with `firelet image build`."]
