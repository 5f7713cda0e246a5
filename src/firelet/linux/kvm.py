"""Tells a KVM that runs guests from one that only opens.

Some hosts offer ``/dev/kvm`` and still emulate the guest instruction by instruction, a thousand
times too slow, and give up at instructions that every kernel uses. Only running a guest tells.
So one vCPU in 64-bit mode counts to 20,000, uses two of those instructions and writes to a port.

The guest runs in a short-lived child process: this file, started as a program by itself (it must
import nothing of firelet). A guest or a device that hangs takes that child with it and no more.
Not here: choosing a machine monitor. Called when the platform looks at what its host offers.
Source: Documentation/virt/kvm/api.rst; Intel SDM volume 3, sections 4.5 and 10.8.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

DEVICE = "/dev/kvm"
MACHINE = "x86_64"
_START_ALLOWANCE_S = 5.0  # for the child's interpreter, on a busy host

# Request numbers. Source: include/uapi/linux/kvm.h.
_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01
_GET_VCPU_MMAP_SIZE = 0xAE04
_GET_SUPPORTED_CPUID = 0xC008AE05
_CREATE_VCPU = 0xAE41
_SET_USER_MEMORY_REGION = 0x4020AE46
_RUN = 0xAE80
_SET_REGS = 0x4090AE82
_GET_SREGS = 0x8138AE83
_SET_SREGS = 0x4138AE84
_SET_CPUID2 = 0x4008AE90
_API_VERSION = 12

_EXIT_REASON_OFFSET = 8
_EXIT_DETAIL_OFFSET = 32
_EXIT_IO = 2
_EXIT_INTERNAL_ERROR = 17
_EXIT_NAMES = {
    5: "KVM_EXIT_HLT",
    6: "KVM_EXIT_MMIO",
    8: "KVM_EXIT_SHUTDOWN",
    9: "KVM_EXIT_FAIL_ENTRY",
    _EXIT_INTERNAL_ERROR: "KVM_EXIT_INTERNAL_ERROR",
}

# Guest memory, all of it mapped to the same addresses by one 2 MiB page.
_MEMORY_SIZE = 0x10000
_PML4, _PDPT, _PAGE_DIRECTORY, _CODE, _DATA = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
_PRESENT_WRITABLE, _HUGE = 0x3, 0x80

_CR0 = 0x80050033  # PG, AM, WP, NE, ET, MP, PE
_CR4 = 0x620  # PAE, OSFXSR, OSXMMEXCPT
_EFER = 0x500  # LMA, LME
_RFLAGS = 0x2  # the one bit that is always set

ITERATIONS = 20_000
_PORT = 0x42
CHECK_PROGRAM = (
    b"\xb9" + struct.pack("<I", ITERATIONS) +  # mov ecx, ITERATIONS
    b"\xff\xc9"  # dec ecx
    b"\x75\xfc"  # jnz to the dec
    b"\xbf" + struct.pack("<I", _DATA) +  # mov edi, _DATA
    b"\xf3\x48\x0f\xb8\xc7"  # popcnt rax, rdi
    b"\xf0\x48\x0f\xc7\x0f"  # lock cmpxchg16b [rdi]
    b"\xe6" + bytes([_PORT]) +  # out _PORT, al
    b"\xf4"  # hlt
)  # fmt: skip


@dataclass(frozen=True)
class KvmVerdict:
    """What the probe found; ``detail`` is a sentence fragment for people."""

    is_present: bool
    is_usable: bool
    detail: str


def probe_kvm(timeout_ms: int = 50) -> KvmVerdict:
    """Runs a guest and judges: it must reach its port within ``timeout_ms``.

    Never raises. Blocks for an interpreter start and the guest's time: call it in a thread.
    """
    return _probe(DEVICE, CHECK_PROGRAM, timeout_ms)


def _probe(device: str, program: bytes, timeout_ms: int) -> KvmVerdict:
    if not os.path.exists(device):
        return KvmVerdict(False, False, f"{device} does not exist")
    if platform.machine() != MACHINE:
        return KvmVerdict(True, False, "not probed on this architecture")
    command = [sys.executable, "-I", "-S", __file__, device, program.hex(), str(timeout_ms)]
    limit_s = timeout_ms / 1000 + _START_ALLOWANCE_S
    try:
        # On a time-out `run` kills the child and reaps it.
        child = subprocess.run(command, capture_output=True, timeout=limit_s, check=False)
        is_usable, detail = json.loads(child.stdout)
    except subprocess.TimeoutExpired:
        return KvmVerdict(True, False, f"the probe hung and was ended after {limit_s:.1f} s")
    except (OSError, ValueError) as error:
        return KvmVerdict(True, False, f"the probe failed: {error}")
    return KvmVerdict(True, bool(is_usable), str(detail))


# From here on: what the child does.


class _GuestOverdueError(Exception):
    """The timer rang before the guest was through."""


def _on_timer(_signal: int, _frame: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise _GuestOverdueError


def _ioctl(step: str, fd: int, request: int, argument: Any = 0) -> int:
    try:
        result: int = fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise OSError(error.errno, f"{step}: {os.strerror(error.errno or 0)}") from None
    return result


def _judge(device: str, program: bytes, timeout_ms: int) -> tuple[bool, str]:
    try:
        kvm = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return False, f"{device} cannot be opened: {error.strerror}"
    try:
        return _run_guest(kvm, program, timeout_ms)
    except OSError as error:
        if error.errno == errno.ENOTTY:
            return False, f"{device} is not a KVM device"
        return False, f"the device opens, but {error.strerror}"


def _run_guest(kvm: int, program: bytes, timeout_ms: int) -> tuple[bool, str]:
    version = _ioctl("KVM_GET_API_VERSION", kvm, _GET_API_VERSION)
    if version != _API_VERSION:
        return False, f"KVM speaks API version {version} instead of {_API_VERSION}"
    vm = _ioctl("KVM_CREATE_VM", kvm, _CREATE_VM)
    memory = _make_memory(vm, program)
    vcpu = _ioctl("KVM_CREATE_VCPU", vm, _CREATE_VCPU)
    _pass_cpuid_through(kvm, vcpu)
    _enter_long_mode(vcpu)
    run_size = _ioctl("KVM_GET_VCPU_MMAP_SIZE", kvm, _GET_VCPU_MMAP_SIZE)
    run = mmap.mmap(vcpu, run_size)

    signal.signal(signal.SIGALRM, _on_timer)
    started = time.perf_counter()
    # It rings again and again: a first signal that comes just before KVM_RUN would be lost.
    signal.setitimer(signal.ITIMER_REAL, timeout_ms / 1000, 0.01)
    try:
        _ioctl("KVM_RUN", vcpu, _RUN)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except _GuestOverdueError:
        elapsed_ms = (time.perf_counter() - started) * 1000
        return False, f"the guest was still running when it was cut off after {elapsed_ms:.0f} ms"
    elapsed_ms = (time.perf_counter() - started) * 1000
    memory.close()
    return _judge_exit(run, elapsed_ms, timeout_ms)


def _judge_exit(run: mmap.mmap, elapsed_ms: float, timeout_ms: int) -> tuple[bool, str]:
    (reason,) = struct.unpack_from("<I", run, _EXIT_REASON_OFFSET)
    if reason == _EXIT_IO:
        (port,) = struct.unpack_from("<2xH", run, _EXIT_DETAIL_OFFSET)
        if port != _PORT:
            return False, f"the guest wrote to port {port:#x} instead of {_PORT:#x}"
        if elapsed_ms > timeout_ms:
            return False, f"a guest took {elapsed_ms:.0f} ms for {ITERATIONS:,} iterations"
        return True, f"a guest ran {ITERATIONS:,} iterations in {elapsed_ms:.1f} ms"
    name = _EXIT_NAMES.get(reason, f"exit reason {reason}")
    detail = f"{name} after {elapsed_ms:.0f} ms"
    if reason == _EXIT_INTERNAL_ERROR:
        detail += ": the device opens, but guests are emulated"
    return False, detail


def _make_memory(vm: int, program: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, _MEMORY_SIZE)
    struct.pack_into("<Q", memory, _PML4, _PDPT | _PRESENT_WRITABLE)
    struct.pack_into("<Q", memory, _PDPT, _PAGE_DIRECTORY | _PRESENT_WRITABLE)
    struct.pack_into("<Q", memory, _PAGE_DIRECTORY, _PRESENT_WRITABLE | _HUGE)
    memory[_CODE : _CODE + len(program)] = program
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    # struct kvm_userspace_memory_region: slot, flags, guest address, size, our address.
    region = struct.pack("<IIQQQ", 0, 0, 0, _MEMORY_SIZE, address)
    _ioctl("KVM_SET_USER_MEMORY_REGION", vm, _SET_USER_MEMORY_REGION, region)
    return memory


def _pass_cpuid_through(kvm: int, vcpu: int) -> None:
    """Without it the guest's CPU has neither popcnt nor cmpxchg16b nor 64-bit mode."""
    entries, entry_size = 256, 40
    table = bytearray(8 + entries * entry_size)  # struct kvm_cpuid2: count, padding, entries
    struct.pack_into("<I", table, 0, entries)
    _ioctl("KVM_GET_SUPPORTED_CPUID", kvm, _GET_SUPPORTED_CPUID, table)
    _ioctl("KVM_SET_CPUID2", vcpu, _SET_CPUID2, table)


def _segment(selector: int, kind: int, is_code: bool) -> bytes:
    """struct kvm_segment: flat, present, ring 0; a code segment is 64-bit (L=1, DB=0)."""
    fields = (kind, 1, 0, int(not is_code), 1, int(is_code), 1, 0, 0, 0)
    return struct.pack("<QIH10B", 0, 0xFFFFFFFF, selector, *fields)


def _enter_long_mode(vcpu: int) -> None:
    # struct kvm_sregs: cs ds es fs gs ss tr ldt, gdt idt, cr0 cr2 cr3 cr4 cr8 efer apic_base, …
    # The guest loads no segment, so the descriptors need not exist in its memory.
    sregs = bytearray(312)
    _ioctl("KVM_GET_SREGS", vcpu, _GET_SREGS, sregs)
    code, data = _segment(0x8, 11, True), _segment(0x10, 3, False)
    sregs[: 6 * 24] = code + data * 5
    (apic_base,) = struct.unpack_from("<Q", sregs, 272)
    registers = (_CR0, 0, _PML4, _CR4, 0, _EFER, apic_base)
    struct.pack_into("<7Q", sregs, 224, *registers)
    _ioctl("KVM_SET_SREGS", vcpu, _SET_SREGS, sregs)
    # struct kvm_regs: rax … r15 (16 registers, rsp the seventh), rip, rflags.
    general = [0] * 16
    general[6] = _MEMORY_SIZE
    _ioctl("KVM_SET_REGS", vcpu, _SET_REGS, struct.pack("<18Q", *general, _CODE, _RFLAGS))


if __name__ == "__main__":
    json.dump(_judge(sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])), sys.stdout)
