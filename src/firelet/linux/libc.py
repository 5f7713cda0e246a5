"""The C library, loaded once, and the rule for calling it.

Every wrapper in this package goes through ``check``: errno is read only after a failing return
(it keeps its last value after a success), and the error names the step and the path.
Not here: any policy about what to mount or to drop. Called by the other modules of ``linux``.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)

LIBC.syscall.restype = ctypes.c_long

# Numbers that differ between architectures; the ones from 424 on are the same everywhere.
# Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_SETNS = {"x86_64": 308, "aarch64": 268}
_CLOSE = {"x86_64": 3, "aarch64": 57}
PIDFD_SEND_SIGNAL = 424
OPEN_TREE = 428
MOVE_MOUNT = 429
PIDFD_OPEN = 434
CLOSE_RANGE = 436
OPENAT2 = 437
MOUNT_SETATTR = 442


def machine_syscall(table: dict[str, int]) -> int:
    """Looks up a number of the running machine; raises OSError where firelet knows none."""
    try:
        return table[platform.machine()]
    except KeyError:
        raise OSError(f"no system call numbers for {platform.machine()}") from None


def pivot_root_number() -> int:
    return machine_syscall(_PIVOT_ROOT)


def seccomp_number() -> int:
    return machine_syscall(_SECCOMP)


def rt_sigaction_number() -> int:
    return machine_syscall(_RT_SIGACTION)


def capset_number() -> int:
    return machine_syscall(_CAPSET)


def setns_number() -> int:
    return machine_syscall(_SETNS)


def close_number() -> int:
    return machine_syscall(_CLOSE)


def check(result: int, step: str, path: str | None = None) -> int:
    """Returns ``result``, or raises OSError with errno, step and path when it is negative."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{step}: {os.strerror(number)}", path)
    return result


def syscall(step: str, number: int, *arguments: Any, path: str | None = None) -> int:
    """A raw system call. Integers are passed as longs: ``syscall`` is variadic, and ctypes would
    otherwise hand over 32 bits."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(LIBC.syscall(ctypes.c_long(number), *wide), step, path)
