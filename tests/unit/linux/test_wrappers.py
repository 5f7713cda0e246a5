"""The kernel wrappers' own rules: what an error says, and calls that need no rights."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firelet.linux import libc, mount, process, seccomp

ABSENT = "/no/such/place"


def run_python(program: str) -> str:
    """Runs a program in a process of its own and returns what it prints."""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20
    )
    return answer.stdout.strip()


def test_a_failed_call_names_its_step_its_path_and_errno() -> None:
    with pytest.raises(OSError, match="mount tmpfs") as caught:
        mount.mount("x", ABSENT, "tmpfs", 0)
    assert caught.value.errno in (errno.ENOENT, errno.EPERM)
    assert caught.value.filename == ABSENT


def test_a_bind_is_named_as_one() -> None:
    with pytest.raises(OSError, match="mount bind"):
        mount.bind("/", ABSENT)


def test_a_result_that_is_no_failure_passes_whatever_errno_says() -> None:
    with pytest.raises(OSError, match="umount"):
        mount.detach(ABSENT)
    assert libc.check(7, "step") == 7


def test_a_machine_without_numbers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    with pytest.raises(OSError, match="vax"):
        libc.pivot_root_number()


def test_a_pidfd_stands_for_its_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pidfd = process.pidfd_open(child.pid)
    try:
        assert not os.get_inheritable(pidfd)
        process.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            process.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def test_a_pidfd_of_no_process_is_an_error() -> None:
    with pytest.raises(OSError, match="pidfd_open"):
        process.pidfd_open(2**22 + 1)


def test_closing_from_a_descriptor_on_leaves_the_ones_below() -> None:
    program = (
        "import os; from firelet.linux import process; os.dup2(1, 5); os.dup2(1, 9);"
        "process.close_from(6); print(os.fstat(5) is not None, os.path.exists('/proc/self/fd/9'))"
    )
    assert run_python(program) == "True False"


def test_a_process_may_be_named() -> None:
    program = (
        "from firelet.linux import process; process.set_name('a-name-that-is-long');"
        "print(open('/proc/self/comm').read())"
    )
    assert run_python(program) == "a-name-that-is-"


def test_no_new_privileges_and_dumpable_are_what_they_say() -> None:
    program = (
        "from firelet.linux import process; process.set_no_new_privileges();"
        "process.set_dumpable(False);"
        "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),"
        "[l.split()[1] for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0])"
    )
    assert run_python(program) == "0 1"


def test_a_bare_fork_is_a_child_that_goes_on_and_ends() -> None:
    program = (
        "import os; from firelet.linux import process;"
        "parent = os.getpid(); pid = process.fork()\n"
        "if pid == 0: os._exit(7 if os.getppid() == parent != os.getpid() else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert run_python(program) == "7"


def test_a_bare_fork_runs_none_of_the_handlers_of_modules() -> None:
    program = (
        "import os; from firelet.linux import process;"
        "os.register_at_fork(after_in_child=lambda: os._exit(3)); pid = process.fork()\n"
        "if pid == 0: os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    assert run_python(program) == "7"


def test_a_filter_refuses_with_its_errno_and_lets_the_rest_pass() -> None:
    try:
        seccomp.load_library()
    except OSError as error:
        pytest.skip(f"libseccomp is missing: {error}")
    program = (
        "import errno, os; from firelet.linux import process, seccomp;"
        "filter = seccomp.compile_filter(seccomp.ACT_ALLOW,"
        " [(seccomp.errno_action(errno.ENOTTY), 'mkdir', []),"
        " (seccomp.errno_action(errno.ENOTTY), 'mkdirat', [])]);"
        "process.set_no_new_privileges(); seccomp.install_filter(filter)\n"
        "try: os.mkdir('/tmp/never')\n"
        "except OSError as error: print(error.errno == errno.ENOTTY, os.getpid() > 0)"
    )
    assert run_python(program) == "True True"


def test_a_condition_of_a_filter_looks_at_its_argument_only() -> None:
    try:
        seccomp.load_library()
    except OSError as error:
        pytest.skip(f"libseccomp is missing: {error}")
    program = (
        "import errno, socket; from firelet.linux import process, seccomp;"
        "refuse = seccomp.errno_action(errno.ENOTTY);"
        "filter = seccomp.compile_filter(seccomp.ACT_ALLOW,"
        " [(refuse, 'socket', [seccomp.masked_equal(0, 0xFFFFFFFF, int(socket.AF_INET6))])]);"
        "process.set_no_new_privileges(); seccomp.install_filter(filter);"
        "socket.socket(socket.AF_INET).close()\n"
        "try: socket.socket(socket.AF_INET6)\n"
        "except OSError as error: print(error.errno == errno.ENOTTY)"
    )
    assert run_python(program) == "True"


@pytest.mark.parametrize("name", ["libc", "messages", "mount", "namespaces", "network", "seccomp"])
def test_the_package_imports_the_standard_library_alone(name: str) -> None:
    source = Path(libc.__file__).with_name(f"{name}.py").read_text()
    roots = {
        line.split()[1].partition(".")[0]
        for line in source.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert roots <= set(sys.stdlib_module_names) | {"firelet", "__future__"}
