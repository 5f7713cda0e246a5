"""Processes of a platform that are killed at random under load: only what ran in them is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from running_platform import PATIENCE_S, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

CALLERS = 8
KILLS = 30
SLEEPER = (
    "import time\ndef handler(event, context):\n    time.sleep(event['s'])\n    return event['n']\n"
)
ECHO = "def handler(event, context):\n    return event\n"
ZYGOTE, PID_1 = "firelet-zygote", "firelet-init"
RUNTIME = "a runtime"
# A killed process takes CPU time to end, of which it has no more than its function's share: that is
# waited for. Its end is told by another one, for which this much is plenty on a busy machine.
NOTICED_S = 1.0
WHOLE_CPU_MIB = 1_769


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when it was on its way, and the error it ended with."""

    began: float
    ended: float
    failure: str | None


def status_of(platform: Platform) -> dict[str, Any]:
    """What ``firelet top`` reads."""
    with urllib.request.urlopen(f"{platform.url}/_firelet/status") as page:
        return dict(json.load(page))


def is_at_rest(platform: Platform) -> bool:
    return all(
        function["busy"] == function["starting"] == function["waiting"] == 0
        for function in status_of(platform)["functions"]
    )


def kind_of(pid: int) -> str:
    """A zygote, the first process of a sandbox (or of an embryo), or what runs below that."""
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        if name in (ZYGOTE, PID_1):
            return name
        parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        if Path(f"/proc/{parent}/comm").read_text().strip() == PID_1:
            return RUNTIME
    return ""


@dataclass(frozen=True, slots=True)
class Kill:
    """When a process was killed, and when it had ended."""

    at: float
    ended: float


class Killer:
    """Kills processes of one platform, and of no other."""

    def __init__(self, platform: Platform, seed: int) -> None:
        self._platform = platform
        self._source = random.Random(seed)
        self.kills: list[Kill] = []
        self.sandboxes = 0

    def kill_one(self, kind: str) -> None:
        """Returns when it has ended, its connections with it."""
        victims = [pid for pid in sorted(self._platform.processes()) if kind_of(pid) == kind]
        if not victims:
            return
        pid = self._source.choice(victims)
        with contextlib.suppress(ProcessLookupError):
            # The descriptor first, then another look: the number may be another's by now.
            descriptor = os.pidfd_open(pid)
            try:
                if pid in self._platform.processes() and kind_of(pid) == kind:
                    self.sandboxes += self._count(PID_1) if kind == ZYGOTE else 1
                    at = time.monotonic()
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    assert select.select([descriptor], [], [], PATIENCE_S)[0], "it does not end"
                    self.kills.append(Kill(at, time.monotonic()))
            finally:
                os.close(descriptor)

    def run(self, count: int) -> None:
        for _ in range(count):
            time.sleep(self._source.uniform(0.02, 0.2))
            self.kill_one(self._source.choices((ZYGOTE, PID_1, RUNTIME), (1, 4, 6))[0])

    def _count(self, kind: str) -> int:
        return sum(kind_of(pid) == kind for pid in self._platform.processes())


class Load:
    """Callers that call until they are told to stop."""

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self._is_over = threading.Event()
        self.calls: list[Call] = []

    def run(self) -> None:
        number = 0
        while not self._is_over.is_set():
            number += 1
            began = time.monotonic()
            failure = None
            try:
                self._call(number)
            except (AssertionError, ClientError) as error:
                failure = str(error)
            self.calls.append(Call(began, time.monotonic(), failure))

    def stop(self) -> None:
        self._is_over.set()


@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("seed", [1, 2])
def test_only_what_ran_in_a_killed_sandbox_is_lost(
    make_platform: Callable[..., Platform], seed: int
) -> None:
    platform = make_platform(FIRELET_FREEZE_AFTER_S="60")
    deploy = Deployer(platform)
    names = [deploy(SLEEPER, Timeout=20, MemorySize=WHOLE_CPU_MIB + extra) for extra in (0, 1)]

    def call(number: int) -> None:
        answer = platform.invoke(names[number % 2], {"n": number, "s": 0.03 * (number % 5)})
        assert answer.error is None, answer.json["errorType"]
        assert answer.json == number, "an answer for somebody else"

    load, killer = Load(call), Killer(platform, seed)
    with ThreadPoolExecutor(CALLERS) as callers:
        running = [callers.submit(load.run) for _ in range(CALLERS)]
        killer.run(KILLS)
        load.stop()
        for each in running:
            each.result(60)

    assert len(killer.kills) > KILLS / 2
    failed = [one for one in load.calls if one.failure is not None]
    what = Counter(one.failure for one in failed)
    assert len(failed) <= killer.sandboxes, what
    for one in failed:
        assert any(
            one.began - NOTICED_S <= kill.ended and kill.at <= one.ended for kill in killer.kills
        ), one
        assert "Runtime.ExitError" in str(one.failure) or "sandbox" in str(one.failure), what
    assert len(load.calls) > 5 * len(failed)

    wait_until(lambda: is_at_rest(platform), "counts come back to nothing")
    for number in range(10):
        call(number)
    deploy.close()
    wait_until(lambda: not status_of(platform)["functions"], "nothing of them is left")


@pytest.mark.usefixtures("needs_cgroups")
@pytest.mark.parametrize("kind", [ZYGOTE, PID_1, RUNTIME])
def test_what_is_killed_while_idle_is_nobody_s_loss(
    make_platform: Callable[..., Platform], kind: str
) -> None:
    platform = make_platform(FIRELET_FREEZE_AFTER_S="60")
    name = Deployer(platform)(ECHO)
    platform.invoke(name, 1)
    killer = Killer(platform, 1)
    for number in range(4):
        killer.kill_one(kind)
        answer = platform.invoke(name, number)
        assert (answer.error, answer.json) == (None, number)
    assert len(killer.kills) == 4


@pytest.mark.parametrize(
    "mischief",
    [
        "threading.Thread(target=burn, daemon=True).start()",
        "kept.append(bytearray(40 << 20))",
        "os.fork() or burn()",
        "os.fork() or os.setsid() or time.sleep(1000)",
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)",
    ],
    ids=["burns CPU", "leaks memory", "forks and burns", "forks a daemon", "starts a program"],
)
def test_what_goes_on_after_an_answer_harms_nobody(
    deploy: Deployer, platform: Platform, mischief: str
) -> None:
    name = deploy(
        "import os, subprocess, threading, time\nkept = []\n"
        "def burn():\n    while True:\n        pass\n"
        f"def handler(event, context):\n    {mischief}\n    return event\n",
        Timeout=20,
        MemorySize=128,
    )
    other = deploy(ECHO)

    answers = [platform.invoke(name, number) for number in range(6)]

    for number, answer in enumerate(answers):
        # Memory that was leaked runs out at some time: that is the function's own failure.
        assert answer.json == number or answer.error == "Unhandled"
    assert answers[0].json == 0
    assert answers[-1].error is None or "leak" in mischief or "kept" in mischief
    assert platform.invoke(other, "well").json == "well"
    wait_until(lambda: is_at_rest(platform), "counts come back to nothing")
    client = platform.client("lambda")
    sandboxes = {pid for pid in platform.processes() if kind_of(pid) == PID_1}
    client.delete_function(FunctionName=name)
    wait_until(
        lambda: (
            len({pid for pid in platform.processes() if kind_of(pid) == PID_1} & sandboxes)
            < len(sandboxes)
        ),
        "its sandbox ends with everything in it",
    )
