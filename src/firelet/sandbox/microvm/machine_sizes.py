"""How large the machine of a function is. Pure.

A machine has the memory of its function and what its kernel, its pid 1 and the zygote take. Few
sizes, because an embryo is made for each; what a machine has and its function may not use costs
nothing, since memory that was never touched is not there.
"""

from __future__ import annotations

import math

from firelet.model import limits
from firelet.sandbox.cgroups import Limits

# Measured with Debian's kernel 6.1 and Python 3.11: a booted guest with an embryo has used 83 MiB.
GUEST_OVERHEAD_MIB = 112
# What runs the machine, next to the machine's memory: code, buffers, translated instructions.
VMM_OVERHEAD_MIB = 192
VMM_THREADS_MAX = 64

# What a machine may read from its disks, for each processor that its function is entitled to, and
# at least. AWS does not say what it allows; these are a fast disk's, shared by ten functions.
_BYTES_PER_VCPU_S = 256 * limits.MIB
_OPERATIONS_PER_VCPU_S = 10_000
_LEAST_SHARE = 0.25

_SIZES_MIB = (256, 512, 1_024, 2_048, 4_096, 8_192, 12_288)
# What Python does in a machine that QEMU 7.2 emulates takes so many times the processor's time: see
# "work of the processor" of ``bench.microvm``. The share of a processor that a function is entitled
# to is the function's, not the emulator's.
EMULATION_FACTOR = 17.0


def machine_memory_mib(function_mib: int) -> int:
    """The least size with room for a function of so much memory."""
    return next(size for size in _SIZES_MIB if size >= function_mib + GUEST_OVERHEAD_MIB)


def limits_of(memory_mib: int) -> Limits:
    """Of what runs a machine of that size, with all of the host's processors to begin with.

    Its memory counts twice. A page that the machine at rest had not is added to the file that all
    its clones share, charged to the first that touches it, before that one gets its own copy
    (Linux, mm/memory.c, do_cow_fault).
    """
    most = 2 * memory_mib + VMM_OVERHEAD_MIB
    return Limits(memory_mib=most, vcpus=None, pids=VMM_THREADS_MAX)


def drive_limits(function_mib: int) -> tuple[int, int]:
    """Bytes and operations per second of each disk."""
    share = max(_LEAST_SHARE, function_mib / limits.MEMORY_PER_VCPU_MIB)
    return round(share * _BYTES_PER_VCPU_S), round(share * _OPERATIONS_PER_VCPU_S)


def machine_vcpus(memory_mib: int, host_cpus: int, *, is_emulated: bool) -> int:
    """As many as the largest function of this size is entitled to, and not more than there are. An
    emulator turns them all in one thread, so that it gets one."""
    if is_emulated:
        return 1
    return max(1, min(host_cpus, math.ceil(memory_mib / limits.MEMORY_PER_VCPU_MIB)))
