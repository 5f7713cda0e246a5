"""The bodies of failed invocations, as the real service words them."""

from __future__ import annotations

import signal

import pytest

from firelet.runtime.failures import (
    EXIT_ERROR,
    INVALID_ENTRYPOINT,
    TIMED_OUT,
    describe_exit,
    describe_timeout,
    format_platform_error,
)


def test_a_timeout_is_told_with_two_decimals_and_the_type_first() -> None:
    assert format_platform_error("id-1", TIMED_OUT, describe_timeout(1)) == (
        b'{"errorType":"Sandbox.Timedout",'
        b'"errorMessage":"RequestId: id-1 Error: Task timed out after 1.00 seconds"}'
    )


@pytest.mark.parametrize("code", [0, None])
def test_an_exit_without_a_status_has_no_reason(code: int | None) -> None:
    assert format_platform_error("id-1", EXIT_ERROR, describe_exit(code, None)) == (
        b'{"errorType":"Runtime.ExitError",'
        b'"errorMessage":"RequestId: id-1 Error: Runtime exited without providing a reason"}'
    )


@pytest.mark.parametrize("code", [1, 127, 255])
def test_an_exit_tells_its_status(code: int) -> None:
    assert describe_exit(code, None) == f"Runtime exited with error: exit status {code}"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "killed"),
        (signal.SIGSEGV, "segmentation fault"),
        (signal.SIGABRT, "aborted"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGSYS, "bad system call"),
        (signal.SIGUSR1, f"signal {signal.SIGUSR1.value}"),
    ],
)
def test_a_signal_has_the_name_that_go_gives_it(number: int, name: str) -> None:
    assert describe_exit(None, number) == f"Runtime exited with error: signal: {name}"


def test_every_signal_of_the_kernel_has_some_name() -> None:
    for number in range(1, 65):
        assert describe_exit(None, number).startswith("Runtime exited with error: signal: ")


def test_a_missing_bootstrap_is_an_invalid_entry_point() -> None:
    message = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    assert format_platform_error("id-1", INVALID_ENTRYPOINT, message) == (
        b'{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: id-1 Error:'
        b" Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]\"}"
    )
