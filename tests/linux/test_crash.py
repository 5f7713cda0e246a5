"""A platform that is killed: whatever state its sandboxes were in, nothing of it survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import leaks
from boxes import DIGEST, Packages
from firelet.sandbox import cgroups

PROGRAM = Path(__file__).with_name("doomed_platform.py")
ROOT = Path("/sys/fs/cgroup")

pytestmark = pytest.mark.usefixtures("needs_cgroups")

Doom = Callable[[str], str]


@pytest.fixture
def doomed(packages: Packages) -> Iterator[Doom]:
    """Starts a platform, kills it with SIGKILL and returns the name of its control groups."""
    made: list[subprocess.Popen[str]] = []

    def start_and_kill(kind: str) -> str:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(packages.root), DIGEST, kind],
            stdout=subprocess.PIPE,
            text=True,
        )
        made.append(process)
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        process.stdout.close()
        assert groups_of(owner), "it did not start"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        return owner

    yield start_and_kill
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
def others() -> set[int]:
    """Processes of other tests that are there before: a platform that serves a whole session."""
    return set(leaks.descendants())


def groups_of(owner: str) -> list[Path]:
    return [
        home / owner
        for home in (ROOT / "firelet", *ROOT.glob("*/firelet"))
        if (home / owner).is_dir()
    ]


def wait_until_gone(find: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while find():
        assert time.monotonic() < end, f"still there: {find()}"
        leaks.reap_adopted()
        time.sleep(0.02)


def test_a_later_start_sweeps_what_it_left_even_what_was_frozen(
    doomed: Doom, others: set[int]
) -> None:
    owner = doomed("alone")
    assert owner in cgroups.sweep()
    assert groups_of(owner) == []
    wait_until_gone(lambda: set(leaks.descendants()) - others)


def test_what_was_not_frozen_ends_by_itself(doomed: Doom) -> None:
    owner = doomed("alone")
    frozen = set(_frozen_processes(owner))
    wait_until_gone(lambda: _processes(owner) - frozen)
    cgroups.sweep()


def test_the_janitor_cleans_up_without_any_later_start(doomed: Doom, others: set[int]) -> None:
    owner = doomed("janitor")
    wait_until_gone(lambda: groups_of(owner))
    wait_until_gone(lambda: set(leaks.descendants()) - others)


def _processes(owner: str) -> set[int]:
    return {
        int(line)
        for group in groups_of(owner)
        for procs in group.rglob("cgroup.procs")
        for line in procs.read_text().split()
    }


def _frozen_processes(owner: str) -> list[int]:
    found = []
    for group in groups_of(owner):
        for state in (*group.rglob("freezer.state"), *group.rglob("cgroup.freeze")):
            if state.read_text().strip() in ("FROZEN", "FREEZING", "1"):
                found += map(int, (state.parent / "cgroup.procs").read_text().split())
    return found
