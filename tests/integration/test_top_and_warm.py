"""``firelet top`` and ``firelet warm`` against a running platform."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from typing import Any

import pytest

from running_platform import FIRELET, Deployer, Platform, clean_environment, wait_until

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
_WITHIN_S = 60.0


def run(platform: Platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FIRELET, *arguments, "--endpoint", platform.url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )


def read_status(platform: Platform, name: str) -> dict[str, Any]:
    said = run(platform, "top", "--json")
    assert said.returncode == 0, said.stderr
    functions = json.loads(said.stdout)["functions"]
    return next(function for function in functions if function["name"] == name)


def test_what_is_warmed_is_there_and_serves(deploy: Deployer, platform: Platform) -> None:
    name = deploy(ECHO)
    before = wait_until(lambda: platform.status_of(name)["started"], "one was made ahead")

    said = run(platform, "warm", name, "--n", "3")

    assert (said.returncode, said.stdout) == (0, f"3 environments of {name} ready\n")
    status = read_status(platform, name)
    assert status["started"] == before + 3
    assert status["idle"] + status["frozen"] == before + 3
    assert platform.invoke(name, 1).json == 1
    status = read_status(platform, name)
    assert (status["invocations"], status["cold"]) == (1, 0)
    assert status["latency"]["samples"] == 1


def test_idle_environments_are_shown_as_frozen_after_a_moment(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(ECHO)
    platform.invoke(name)

    def is_frozen() -> bool:
        status = read_status(platform, name)
        return bool(status["frozen"] and not status["idle"])

    wait_until(is_frozen, "the environment is frozen")


@pytest.mark.parametrize("arguments", [("no-such-function",), ("greet", "--n", "100000")])
def test_what_cannot_be_warmed_is_one_sentence_and_exit_code_1(
    platform: Platform, arguments: tuple[str, ...]
) -> None:
    said = run(platform, "warm", *arguments)
    assert said.returncode == 1
    assert said.stdout == ""
    assert said.stderr.startswith("firelet: ")
    assert said.stderr.count("\n") == 1


def test_one_table_is_printed_for_a_pipe(deploy: Deployer, platform: Platform) -> None:
    name = deploy(ECHO)
    platform.invoke(name)
    said = run(platform, "top", "--once")
    assert said.returncode == 0, said.stderr
    (row,) = [line.split("\t") for line in said.stdout.splitlines() if line.startswith(name)]
    assert len(row) == 13
    assert row[-1] == os.environ.get("FIRELET_TEST_ISOLATION", "namespaces")


def test_on_a_terminal_it_goes_on_until_ctrl_c_and_ends_cleanly(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(ECHO)
    screen, keyboard = pty.openpty()
    # What runs in the background of a shell script ignores SIGINT, and so would this.
    command = ["env", "--default-signal=INT", *FIRELET, "top", "--endpoint", platform.url]
    variables = {**clean_environment(), "TERM": "xterm", "COLUMNS": "160", "LINES": "50"}
    process = subprocess.Popen(
        command, env=variables, stdin=keyboard, stdout=keyboard, stderr=subprocess.PIPE
    )
    try:
        # Drawn at least twice: once is not yet a refresh.
        shown = _read_screen(screen, name.encode(), 2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=_WITHIN_S)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
        os.close(keyboard)
    assert b"calls/s" in shown
    assert (process.returncode, errors) == (0, b"")


def _read_screen(screen: int, mark: bytes, times: int) -> bytes:
    shown, deadline = b"", time.monotonic() + _WITHIN_S
    while shown.count(mark) < times:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([screen], [], [], left_s)[0]:
            pytest.fail(f"not on the screen {times} times: {mark!r}; it shows {shown!r}")
        shown += os.read(screen, 65_536)
    return shown
