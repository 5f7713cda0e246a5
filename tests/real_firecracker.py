"""A real Firecracker for tests, from the variable ``FIRELET_FIRECRACKER``; none is fetched."""

from __future__ import annotations

import os
import platform
import shutil
from functools import cache
from pathlib import Path

import guest_images
from firelet.linux.kvm import probe_kvm
from firelet.sandbox.microvm import choice

VARIABLE = "FIRELET_FIRECRACKER"


def missing() -> str | None:
    """Why none can be asked anything here; None where one can."""
    if platform.machine() != "x86_64":
        return f"Firecracker is tested on x86_64, not on {platform.machine()}"
    if VARIABLE not in os.environ:
        return f"{VARIABLE} does not name a Firecracker"
    if shutil.which(os.environ[VARIABLE]) is None:
        return f"{os.environ[VARIABLE]}, which {VARIABLE} names, cannot be executed"
    return None


@cache
def missing_for_machines() -> str | None:
    """Why none can run a machine."""
    found = missing()
    if found is not None:
        return found
    if guest_images.PACKAGE_VARIABLE not in os.environ or shutil.which("dpkg-deb") is None:
        return f"{guest_images.PACKAGE_VARIABLE} or dpkg-deb is missing: there is no kernel"
    verdict = probe_kvm()
    return None if verdict.is_usable else f"no KVM that runs guests: {verdict.detail}"


def program() -> Path:
    return Path(shutil.which(os.environ[VARIABLE]) or os.environ[VARIABLE]).absolute()


def jailer() -> Path | None:
    found = choice.find(str(program())).jailer
    return Path(found) if found else None
