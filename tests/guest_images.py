"""A guest image for tests that boot machines, and what is missing where there can be none.

The kernel's package is a download of 27 MB, the base system one of 50 MB: they are not fetched
here. ``.ci/run`` fetches them and says where they are.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from firelet.sandbox.microvm.host_tools import find_tool

PACKAGE_VARIABLE = "FIRELET_TEST_KERNEL_PACKAGE"
# A tar that ``base_system.fetch`` has written, of this host's release.
BASE_VARIABLE = "FIRELET_TEST_BASE_SYSTEM"
QEMU = "qemu-system-x86_64"
PATIENCE_S = 60.0  # for an emulated guest on a machine with much else to do


def missing() -> str | None:
    """Why no guest can be booted here; None where it can."""
    if platform.machine() != "x86_64":
        return f"guests are tested on x86_64, not on {platform.machine()}"
    for program in (QEMU, "dpkg-deb", "ldd", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is missing"
    if PACKAGE_VARIABLE not in os.environ:
        return f"{PACKAGE_VARIABLE} does not name a package of a Debian cloud kernel"
    return None


def kernel_package() -> Path:
    return Path(os.environ[PACKAGE_VARIABLE])


def missing_base() -> str | None:
    """Why no base system can be built here; None where it can."""
    for program in ("mke2fs", "debugfs", "ldd"):
        if find_tool(program) is None:
            return f"{program} is missing"
    if BASE_VARIABLE not in os.environ:
        return f"{BASE_VARIABLE} does not name a tar of a base system"
    return None


def base_archive() -> Path:
    return Path(os.environ[BASE_VARIABLE])
