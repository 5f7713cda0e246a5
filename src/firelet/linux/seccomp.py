"""seccomp: compiling a filter with libseccomp, and installing a compiled one.

Compiling needs the host's library and happens once, in the platform. Installing needs nothing
but the system call, so that no library has to exist inside the sandbox.
Source: libseccomp's manual pages, seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from typing import Iterable, List, Tuple

from firelet.linux.libc import seccomp_number, syscall

ACT_ALLOW = 0x7FFF0000
_ACT_ERRNO = 0x00050000
_CMP_MASKED_EQ = 7
_FLTATR_CTL_OPTIMIZE = 8
_SET_MODE_FILTER = 1
_NAME_UNKNOWN = -1


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp: a comparison of one argument of a system call."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    ]


def masked_equal(argument: int, mask: int, value: int) -> Argument:
    """Holds when ``argument & mask == value``."""
    return Argument(argument, _CMP_MASKED_EQ, mask, value)


def errno_action(number: int) -> int:
    """The action "fail with this errno"."""
    return _ACT_ERRNO | (number & 0xFFFF)


Rule = Tuple[int, str, List[Argument]]


def load_library() -> ctypes.CDLL:
    """Loads libseccomp of the host; OSError when there is none."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Argument),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def compile_filter(default_action: int, rules: Iterable[Rule]) -> bytes:
    """The BPF program of a filter. Names that this architecture does not have are left out.

    The search for the matching rule is a binary tree, not a list: a filter runs at each system
    call of a function.
    """
    library = load_library()
    context = library.seccomp_init(default_action)
    if not context:
        raise OSError("seccomp_init failed")
    try:
        # Level 2, the tree, came with libseccomp 2.5; older ones refuse it and keep the list.
        library.seccomp_attr_set(context, _FLTATR_CTL_OPTIMIZE, 2)
        for action, name, arguments in rules:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == _NAME_UNKNOWN:
                continue
            array = (Argument * max(1, len(arguments)))(*arguments)
            result = library.seccomp_rule_add_array(context, action, number, len(arguments), array)
            if result < 0:
                raise OSError(-result, f"seccomp rule for {name}: {os.strerror(-result)}")
        with tempfile.TemporaryFile() as sink:
            result = library.seccomp_export_bpf(context, sink.fileno())
            if result < 0:
                raise OSError(-result, f"seccomp_export_bpf: {os.strerror(-result)}")
            sink.seek(0)
            return sink.read()
    finally:
        library.seccomp_release(context)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install_filter(program: bytes) -> None:
    """Applies a compiled filter to this process and its children, for good."""
    buffer = ctypes.create_string_buffer(program, len(program))
    described = _Program(length=len(program) // 8, filter=ctypes.addressof(buffer))
    syscall("seccomp", seccomp_number(), _SET_MODE_FILTER, 0, ctypes.byref(described))
