"""What only the first process of a machine of its own does: modules, the end, random state.

Source: finit_module(2), reboot(2), random(4). Called by ``guest/vm_init`` inside a microVM.
"""

from __future__ import annotations

import fcntl
import os

from firelet.linux.libc import LIBC, check, machine_syscall, syscall

_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
_RB_AUTOBOOT = 0x01234567
_RNDRESEEDCRNG = 0x5207


def load_module(path: str) -> None:
    """Loads a kernel module that is not compressed."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscall("finit_module", machine_syscall(_FINIT_MODULE), fd, b"", 0, path=path)
    finally:
        os.close(fd)


def restart_machine() -> None:
    """Restarts the machine at once, without asking any process. To a VMM that does not let its
    guest restart, that is the guest's end."""
    check(LIBC.reboot(_RB_AUTOBOOT), "reboot")


def reseed_random(seed: bytes) -> None:
    """Mixes ``seed`` into the kernel's random state and has it used at once, which a mere write
    would not."""
    fd = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, seed)
        fcntl.ioctl(fd, _RNDRESEEDCRNG)
    finally:
        os.close(fd)
