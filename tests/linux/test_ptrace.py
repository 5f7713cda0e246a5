"""System calls in the name of another process, on a real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from firelet.linux.libc import PIDFD_OPEN, close_number
from firelet.linux.ptrace import Borrowed

# Says "go on" only if the read that was interrupted has gone on undisturbed.
WAITS = "import os; os.write(1, b'ready'); data = os.read(0, 9); os.write(1, b'read ' + data)"
SPINS = "import os, time\nos.write(1, b'ready')\nend = time.monotonic() + 0.3\n"
SPINS += "while time.monotonic() < end: pass\nos.write(1, os.read(0, 9))"


@pytest.fixture(autouse=True)
def _leaves_nothing(nothing_leaks: None, needs_root: None) -> None:
    """Only root may borrow a process whatever the host's policy about tracing."""


def start(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.read(5) == b"ready"
    return process


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    process = start(WAITS)
    yield process
    process.kill()
    process.communicate()


def test_it_makes_the_calls_and_goes_on(waiting: subprocess.Popen[bytes]) -> None:
    with Borrowed(waiting.pid, without_filter=False) as borrowed:
        fd = borrowed.syscall("pidfd_open", PIDFD_OPEN, waiting.pid, 0)
        assert os.readlink(f"/proc/{waiting.pid}/fd/{fd}") == "anon_inode:[pidfd]"
        assert borrowed.syscall("close", close_number(), fd) == 0
        assert not os.path.lexists(f"/proc/{waiting.pid}/fd/{fd}")

    assert waiting.communicate(b"on")[0] == b"read on"
    assert waiting.returncode == 0


def test_a_call_that_fails_tells_its_errno(waiting: subprocess.Popen[bytes]) -> None:
    with (
        Borrowed(waiting.pid, without_filter=False) as borrowed,
        pytest.raises(OSError, match="close: Bad file descriptor"),
    ):
        borrowed.syscall("close", close_number(), 999)

    assert waiting.communicate(b"on")[0] == b"read on"


def test_memory_for_arguments_is_not_the_processs_own(waiting: subprocess.Popen[bytes]) -> None:
    with Borrowed(waiting.pid, without_filter=False) as borrowed:
        address = borrowed.scratch(b"text")
        with open(f"/proc/{waiting.pid}/mem", "rb") as memory:
            memory.seek(address)
            assert memory.read(4) == b"text"

    assert waiting.communicate(b"on")[0] == b"read on"


def test_one_that_is_busy_is_borrowed_when_it_waits() -> None:
    process = start(SPINS)

    with (
        Borrowed(process.pid, without_filter=False) as borrowed,
        pytest.raises(OSError, match="close"),
    ):
        borrowed.syscall("close", close_number(), 999)

    assert process.communicate(b"on")[0] == b"on"


def test_one_that_has_ended_is_an_error(waiting: subprocess.Popen[bytes]) -> None:
    waiting.kill()
    waiting.wait()

    with pytest.raises(OSError, match="ptrace seize"):
        Borrowed(waiting.pid, without_filter=False).__enter__()


def test_one_that_dies_meanwhile_is_an_error(waiting: subprocess.Popen[bytes]) -> None:
    def borrow_and_kill() -> None:
        with Borrowed(waiting.pid, without_filter=False) as borrowed:
            os.kill(waiting.pid, signal.SIGKILL)
            borrowed.syscall("close", close_number(), 999)

    with pytest.raises(OSError, match=r"ended while it was borrowed|No such process"):
        borrow_and_kill()
