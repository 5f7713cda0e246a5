"""Processes and privileges: fork(2), prctl(2), capset(2), pidfds, close_range(2).

Source: fork(2), prctl(2), capabilities(7), pidfd_open(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import os
import signal

from firelet.linux.libc import (
    CLOSE_RANGE,
    LIBC,
    PIDFD_OPEN,
    PIDFD_SEND_SIGNAL,
    capset_number,
    check,
    rt_sigaction_number,
    syscall,
)

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_THP_DISABLE = 41
_PR_GET_THP_DISABLE = 42
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522
_EINVAL = 22
_SIGNALS = 64
_SIGSET_BYTES = 8

LIBC.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

# The same library, for a call that keeps the interpreter's lock.
_LOCKED_LIBC = ctypes.PyDLL(None, use_errno=True)


def fork() -> int:
    """fork(2) without what ``os.fork`` has the interpreter and its modules do in the child: that
    touches some 200 pages, each of which the kernel then has to copy.

    Only for a process with one thread, in which no lock can be held by another. The child lacks a
    new seed of ``random`` and keeps the number of its parent's thread. The interpreter's lock is
    held across the call: let go of, it could not be taken back without the interpreter's help.
    """
    return check(_LOCKED_LIBC.fork(), "fork")


def _prctl(step: str, option: int, first: int = 0, second: int = 0) -> int:
    return check(LIBC.prctl(option, first, second, 0, 0), step)


def set_dumpable(is_dumpable: bool) -> None:
    """A process that is not dumpable cannot be traced or read through /proc by its own uid."""
    _prctl("prctl dumpable", _PR_SET_DUMPABLE, 1 if is_dumpable else 0)


def set_name(name: str) -> None:
    """The name in /proc/PID/comm: at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl("prctl name", _PR_SET_NAME, ctypes.addressof(buffer))


def forbid_huge_pages(are_forbidden: bool) -> bool:
    """Transparent huge pages, in this process and whatever is executed by those that it starts from
    now on, though a program asks for them. Whether they were forbidden before."""
    before = _prctl("prctl get_thp_disable", _PR_GET_THP_DISABLE)
    _prctl("prctl thp_disable", _PR_SET_THP_DISABLE, 1 if are_forbidden else 0)
    return bool(before)


def set_no_new_privileges() -> None:
    """No execve may ever grant more privileges; also the precondition for seccomp without root."""
    _prctl("prctl no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding_set() -> None:
    """Removes every capability from the bounding set; the kernel's last one ends the loop."""
    for capability in range(64):
        if LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) < 0:
            number = ctypes.get_errno()
            if number == _EINVAL:
                return
            raise OSError(number, f"prctl capbset_drop: {os.strerror(number)}")


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


CAPABILITY_HEADER_BYTES = ctypes.sizeof(_CapHeader)
# The header and the data of a capset(2) that empties all sets, for a process that is borrowed.
EMPTY_CAPABILITIES = bytes(_CapHeader(version=_CAPABILITY_VERSION_3, pid=0)) + bytes(
    (_CapData * 2)()
)


def drop_capabilities() -> None:
    """Empties the effective, permitted, inheritable and ambient sets."""
    _prctl("prctl ambient", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = _CapHeader(version=_CAPABILITY_VERSION_3, pid=0)
    data = (_CapData * 2)()
    syscall("capset", capset_number(), ctypes.byref(header), ctypes.byref(data))


def reset_signals() -> None:
    """Default dispositions for all signals, the C library's own two included, which Python cannot
    set: what the starter of the platform ignored would be ignored in every sandbox."""
    default = (ctypes.c_ulong * 4)()  # struct sigaction of the kernel: handler SIG_DFL is 0
    for number in range(1, _SIGNALS + 1):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            syscall(
                "rt_sigaction",
                rt_sigaction_number(),
                number,
                ctypes.byref(default),
                ctypes.c_void_p(None),
                _SIGSET_BYTES,
            )


def pidfd_open(pid: int) -> int:
    """A descriptor for a process, safe from reuse of its number; closed on exec."""
    return syscall("pidfd_open", PIDFD_OPEN, pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signals exactly the process that ``pidfd`` stands for; ESRCH when it has ended."""
    syscall("pidfd_send_signal", PIDFD_SEND_SIGNAL, pidfd, number, ctypes.c_void_p(None), 0)


def pid_of(pidfd: int) -> int:
    """The number of the process that ``pidfd`` stands for, as this process sees it; -1 once it has
    been reaped. Source: proc_pid_fdinfo(5)."""
    with open(f"/proc/self/fdinfo/{pidfd}") as info:
        for line in info:
            name, _, value = line.partition(":")
            if name == "Pid":
                return int(value)
    raise ValueError(f"descriptor {pidfd} is no pidfd")


def close_from(first: int) -> None:
    """Closes every descriptor from ``first`` on."""
    syscall("close_range", CLOSE_RANGE, first, 0xFFFFFFFF, 0)
