"""Runs the tests of this directory with a real Firecracker: where KVM runs guests directly, else in
an emulated machine whose KVM does (``nested``). ``make test-firecracker`` calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import guest_images
import real_firecracker
from firelet.linux.kvm import probe_kvm

_HERE = Path(__file__).resolve().parent


def main() -> int:
    missing = real_firecracker.missing()
    if missing is not None:
        print(f"{missing}: see docs/firecracker.md", file=sys.stderr)
        return 2
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(_HERE)]
    verdict = probe_kvm()
    if verdict.is_usable:
        return subprocess.run(tests, check=False).returncode
    print(f"no KVM that runs guests ({verdict.detail}): in an emulated machine", flush=True)
    package = os.environ.get(guest_images.PACKAGE_VARIABLE)
    if package is None:
        print(f"{guest_images.PACKAGE_VARIABLE} must name a kernel's package", file=sys.stderr)
        return 2
    return subprocess.run(
        [sys.executable, str(_HERE / "nested.py"), package, *tests], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
