"""ptrace(2): system calls made in the name of another process, which must be blocked in one.

A *borrowed* process is stopped, made to execute system calls that the caller chooses, and goes on
as if it had been interrupted by a signal that nobody handles. Its own code does not run meanwhile,
so that whatever rights it has between two of those calls are never its own to use.
Source: ptrace(2), seccomp(2), the user_regs_struct of each architecture's sys/user.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time

from firelet.linux.libc import LIBC, check

_GETREGSET = 0x4204
_SETREGSET = 0x4205
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_CONT = 7
_DETACH = 17
_SETOPTIONS = 0x4200
_SYSCALL = 24
_NT_PRSTATUS = 1

_O_SUSPEND_SECCOMP = 0x00200000
_O_EXITKILL = 0x00100000

_WALL = 0x40000000
_ATTEMPTS = 4_000  # two seconds, for a process that has to wait for its turn
_ATTEMPT_PAUSE_S = 0.0005
_EINTR = 4
_MAX_ERRNO = 4095
# ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: only a tracer sees them, in
# the place of the result of a call that was interrupted. Source: include/linux/errno.h.
_RESTARTS = (512, 513, 514, 516)
_WORD = 1 << 64
# Below what a function of the ABI may use without moving the stack pointer (128 bytes on x86-64).
_SCRATCH_OFFSET = 1024

LIBC.ptrace.restype = ctypes.c_long
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class _Layout:
    """Where an architecture keeps what a system call needs, as indices of 64-bit registers."""

    def __init__(
        self, count: int, number: int, result: int, arguments: list[int], pointer: int, stack: int
    ) -> None:
        self.count = count
        self.number = number
        self.result = result
        self.arguments = arguments
        self.pointer = pointer
        self.stack = stack


# x86-64: rax, rax, (rdi rsi rdx r10 r8 r9), rip, rsp. aarch64: x8, x0, (x0 … x5), pc, sp.
_LAYOUTS = {
    "x86_64": _Layout(27, 10, 10, [14, 13, 12, 7, 9, 8], 16, 19),
    "aarch64": _Layout(34, 8, 0, [0, 1, 2, 3, 4, 5], 32, 31),
}
# The instruction that enters the kernel: ``syscall``, and ``svc #0``.
_INSTRUCTIONS = {"x86_64": b"\x0f\x05", "aarch64": b"\x01\x00\x00\xd4"}
_X86_ORIG_RAX = 15


class _IoVec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def _ptrace(step: str, request: int, pid: int, address: int = 0, data: int = 0) -> None:
    check(LIBC.ptrace(request, pid, address, data), f"ptrace {step}")


class Borrowed:
    """A process that is blocked in a system call, for the time of a ``with`` block.

    ``without_filter`` suspends its seccomp filter for as long (needs CAP_SYS_ADMIN in the initial
    user namespace, and a caller without a filter). If the caller dies, so does the process.
    The system call that it was blocked in ends with EINTR.
    """

    def __init__(self, pid: int, *, without_filter: bool) -> None:
        self._pid = pid
        self._options = _O_EXITKILL | (_O_SUSPEND_SECCOMP if without_filter else 0)
        self._machine = platform.machine()
        self._layout = _LAYOUTS[self._machine]
        self._instruction = _INSTRUCTIONS[self._machine]
        self._memory = -1

    def __enter__(self) -> Borrowed:
        _ptrace("seize", _SEIZE, self._pid, 0, _O_EXITKILL)
        try:
            self._memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
            self._stop_in_a_call()
            # Only now: its own code must not run for a moment without its filter.
            _ptrace("options", _SETOPTIONS, self._pid, 0, self._options)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            registers = list(self._saved)
            registers[self._layout.result] = -_EINTR % _WORD
            self._write_registers(registers)
        finally:
            self._release()

    def syscall(self, step: str, number: int, *arguments: int) -> int:
        """Makes the process execute one system call; its result, or OSError with its errno."""
        layout = self._layout
        registers = list(self._saved)
        # It was interrupted right behind the instruction that enters the kernel.
        registers[layout.pointer] -= len(self._instruction)
        registers[layout.number] = number
        if self._machine == "x86_64":
            registers[_X86_ORIG_RAX] = _WORD - 1  # else the kernel would restart the old call
        for index, argument in zip(layout.arguments, arguments):
            registers[index] = argument % _WORD
        self._write_registers(registers)
        for _ in ("entered", "left"):
            _ptrace(step, _SYSCALL, self._pid)
            self._wait()
        result = self._registers()[layout.result]
        if result >= _WORD - _MAX_ERRNO:
            error = _WORD - result
            raise OSError(error, f"{step}: {os.strerror(error)}")
        return result

    def scratch(self, data: bytes) -> int:
        """Puts ``data`` (at most 512 bytes) where the process has nothing of its own; its address
        there, good until the next call."""
        address = (self._saved[self._layout.stack] - _SCRATCH_OFFSET) & ~0xF
        os.pwrite(self._memory, data, address)
        return address

    def _stop_in_a_call(self) -> None:
        """Interrupts it until it is found where it waits in the kernel, and not on its way there:
        elsewhere there is no instruction to enter the kernel by, and no call to end with EINTR."""
        for _ in range(_ATTEMPTS):
            _ptrace("interrupt", _INTERRUPT, self._pid)
            self._wait()
            self._saved = self._registers()
            behind = self._saved[self._layout.pointer]
            at = behind - len(self._instruction)
            is_waiting = _WORD - self._saved[self._layout.result] in _RESTARTS
            if is_waiting and os.pread(self._memory, len(self._instruction), at) == (
                self._instruction
            ):
                return
            _ptrace("cont", _CONT, self._pid)
            time.sleep(_ATTEMPT_PAUSE_S)
        raise OSError("the process did not wait in a system call")

    def _wait(self) -> None:
        _, status = os.waitpid(self._pid, _WALL)
        if not os.WIFSTOPPED(status):
            raise OSError(f"the process ended while it was borrowed (status {status})")

    def _registers(self) -> list[int]:
        buffer = (ctypes.c_uint64 * self._layout.count)()
        vector = _IoVec(ctypes.addressof(buffer), ctypes.sizeof(buffer))
        _ptrace("getregset", _GETREGSET, self._pid, _NT_PRSTATUS, ctypes.addressof(vector))
        return list(buffer)

    def _write_registers(self, registers: list[int]) -> None:
        buffer = (ctypes.c_uint64 * self._layout.count)(*registers)
        vector = _IoVec(ctypes.addressof(buffer), ctypes.sizeof(buffer))
        _ptrace("setregset", _SETREGSET, self._pid, _NT_PRSTATUS, ctypes.addressof(vector))

    def _release(self) -> None:
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        # Unchecked: it fails only when the process has ended, which is told where it mattered.
        LIBC.ptrace(_DETACH, self._pid, 0, 0)
