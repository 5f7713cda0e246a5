"""A platform of two worker processes: what callers see is the same, and a worker may die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from firelet.sandbox import uids
from running_platform import Deployer, Platform, cgroup_homes, has_ended, wait_until

pytest_plugins = ("platform_fixtures",)

MakePlatform = Callable[..., Platform]

ECHO = "def handler(event, context):\n    print('echoes', event)\n    return event\n"
# The name of the log stream ends with the id of the environment.
WHERE = """
import time
COUNT = 0
def handler(event, context):
    global COUNT
    COUNT += 1
    time.sleep(event or 0)
    return [context.log_stream_name[-32:], COUNT]
"""


class Workers:
    """A platform with two worker processes."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.deploy = Deployer(platform)

    def pids(self) -> set[int]:
        return {pid for pid in self.platform.processes() if _is_worker(pid)}

    def settled(self, *, without: int) -> bool:
        """Whether there are two again, and one of them is new."""
        pids = self.pids()
        return len(pids) == 2 and without not in pids

    def of(self, environment: str) -> int:
        """The worker that an environment's control group belongs to."""
        found = {
            path.relative_to(home).parts[0]
            for home in cgroup_homes()
            for path in home.glob(f"*/**/{environment}")
        }
        assert len(found) == 1, f"one owner of {environment}: {found}"
        return int(found.pop().partition("-")[0])

    def environments(self, name: str, count: int, wait_s: float = 1.0) -> list[str]:
        """As many environments of a function, all at work at the same time."""
        with ThreadPoolExecutor(count) as threads:
            answers = threads.map(lambda _: self.platform.invoke(name, wait_s).json, range(count))
            return [environment for environment, _ in answers]


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"firelet.app.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@pytest.fixture
def workers(make_platform: MakePlatform) -> Iterator[Workers]:
    workers = Workers(make_platform(FIRELET_WORKERS="2"))
    yield workers
    if workers.platform.is_running:
        workers.deploy.close()


def test_two_processes_run_functions(workers: Workers, needs_cgroups: None) -> None:
    name = workers.deploy(WHERE)
    owners = {workers.of(each) for each in workers.environments(name, 8)}
    assert owners == workers.pids()
    assert len(owners) == 2


def test_users_of_two_workers_are_never_the_same(
    workers: Workers, needs_root: None, needs_cgroups: None
) -> None:
    name = workers.deploy(
        WHERE.replace("COUNT]", "os.getuid()]").replace("time\n", "os, time\n", 1)
    )
    ranges: dict[int, set[int]] = {}

    def both_were_seen() -> bool:
        with ThreadPoolExecutor(8) as threads:
            answers = threads.map(lambda _: workers.platform.invoke(name, 0.4).json, range(8))
            for environment, uid in answers:
                number = (uid - uids._FIRST) // uids._RANGE
                ranges.setdefault(workers.of(environment), set()).add(number)
        return len(ranges) == 2

    wait_until(both_were_seen, "both worker processes have run it")
    one, other = ranges.values()
    assert not one & other


def test_an_invocation_is_what_it_is_with_one_process(workers: Workers) -> None:
    name = workers.deploy(ECHO)
    answer = workers.platform.invoke(name, {"a": 1}, LogType="Tail")
    assert (answer.json, answer.error, answer.version) == ({"a": 1}, None, "$LATEST")
    assert "echoes {'a': 1}" in answer.log
    assert f"REPORT RequestId: {answer.request_id}" in answer.log


def test_lines_can_be_read_as_soon_as_there_is_an_answer(workers: Workers) -> None:
    name = workers.deploy(ECHO)
    for number in range(5):
        workers.platform.invoke(name, number)
        assert f"echoes {number}\n" in workers.platform.log_lines(f"/aws/lambda/{name}")


def test_large_payloads_cross_both_ways(workers: Workers) -> None:
    name = workers.deploy("def handler(event, context):\n    return event\n")
    event = json.dumps("x" * 6_000_000).encode()
    assert workers.platform.invoke(name, event).body == event


def test_warm_and_cold(workers: Workers) -> None:
    name = workers.deploy(WHERE)
    environments = [workers.platform.invoke(name).json for _ in range(4)]
    assert environments == [[environments[0][0], count] for count in (1, 2, 3, 4)]
    workers.deploy.update(name, WHERE + "\n# changed\n")
    environment, count = workers.platform.invoke(name).json
    assert environment != environments[0][0]
    assert count == 1


def test_errors_of_functions_and_of_their_init(workers: Workers) -> None:
    failing = workers.deploy("def handler(event, context):\n    raise ValueError(event)\n")
    answer = workers.platform.invoke(failing, "why")
    assert (answer.error, answer.json["errorType"]) == ("Unhandled", "ValueError")
    broken = workers.deploy("raise RuntimeError('at import')\n")
    assert workers.platform.invoke(broken).json["errorType"] == "RuntimeError"
    ending = workers.deploy("import os\ndef handler(event, context):\n    os._exit(3)\n")
    assert workers.platform.invoke(ending).json["errorType"] == "Runtime.ExitError"
    slow = workers.deploy(WHERE, Timeout=2, MemorySize=1769)
    assert workers.platform.invoke(slow, 30).json["errorType"] == "Sandbox.Timedout"
    assert workers.platform.invoke(slow).json[1] == 1, "it is served after another INIT"


def test_a_missing_runtime_is_found_out(workers: Workers) -> None:
    name = workers.deploy.name()
    workers.deploy.create(name, ECHO, Runtime="ruby3.4")
    assert workers.deploy.settle(name)["StateReasonCode"] == "InvalidRuntime"


def test_a_worker_that_is_killed_takes_only_its_own_with_it(
    workers: Workers, needs_cgroups: None
) -> None:
    platform = workers.platform
    name = workers.deploy(WHERE)
    environments = workers.environments(name, 8)
    doomed = workers.of(environments[0])
    owned = {each for each in environments if workers.of(each) == doomed}
    spared = set(environments) - owned
    assert spared
    stop = threading.Event()
    failures: list[ClientError] = []
    answers: list[str] = []

    def call() -> None:
        while not stop.is_set():
            try:
                answers.append(platform.invoke(name, 0.05).json[0])
            except ClientError as error:
                failures.append(error)

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call) for _ in range(8)]
        wait_until(lambda: len(answers) > 16, "calls are served")
        os.kill(doomed, signal.SIGKILL)
        served = len(answers)
        wait_until(lambda: workers.settled(without=doomed), "another worker has come")
        wait_until(lambda: len(answers) > served + 64, "calls are served again")
        stop.set()
        for each in calls:
            each.result()
    assert len(failures) <= 8, "no more than one for each call that was running"
    assert all(error.response["ResponseMetadata"]["HTTPStatusCode"] == 500 for error in failures)
    after = set(workers.environments(name, 8))
    assert not after & owned
    assert after & spared, "the others' environments are still there"
    wait_until(
        lambda: not any(list(home.glob(f"{doomed}-*")) for home in cgroup_homes()),
        "the control groups of the killed worker are removed",
    )


def test_all_workers_killed_at_once_come_back(workers: Workers) -> None:
    name = workers.deploy(ECHO)
    workers.platform.invoke(name, 1)
    before = workers.pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(map(has_ended, before)), "both have ended")
    assert workers.platform.invoke(name, 2).json == 2
    wait_until(lambda: len(workers.pids() - before) == 2, "both have come back")


def test_concurrency_is_given_back_when_a_worker_dies(
    workers: Workers, needs_cgroups: None
) -> None:
    platform = workers.platform
    name = workers.deploy(WHERE, Timeout=60)
    platform.client("lambda").put_function_concurrency(
        FunctionName=name, ReservedConcurrentExecutions=1
    )
    environment, _ = platform.invoke(name).json
    doomed = workers.of(environment)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(platform.invoke, name, 30)
        wait_until(lambda: _count_starts(platform, name) == 2, "it runs")
        with pytest.raises(platform.client("lambda").exceptions.TooManyRequestsException):
            platform.invoke(name)
        os.kill(doomed, signal.SIGKILL)
        with pytest.raises(ClientError):
            running.result()
    assert platform.invoke(name).json[1] == 1


def test_a_hangup_replaces_the_workers_and_fails_nothing(workers: Workers) -> None:
    platform = workers.platform
    name = workers.deploy(WHERE, Timeout=60)
    before = workers.pids()
    with ThreadPoolExecutor(1) as threads:
        platform.invoke(name)
        running = threads.submit(platform.invoke, name, 2)
        wait_until(lambda: _count_starts(platform, name) == 2, "it runs")
        os.kill(platform.pid, signal.SIGHUP)
        while not running.done():
            assert platform.invoke(name).error is None
        assert running.result().error is None
    wait_until(lambda: len(workers.pids() - before) == 2, "both were replaced")
    assert platform.invoke(name).json[1] >= 1


def test_the_end_of_the_platform_ends_its_workers(workers: Workers) -> None:
    name = workers.deploy(ECHO)
    workers.platform.invoke(name, 1)
    pids = workers.pids()
    workers.deploy.close()
    assert workers.platform.stop() == 0
    assert workers.platform.leftovers() == []
    assert all(map(has_ended, pids))


def test_workers_end_themselves_when_the_platform_is_killed(workers: Workers) -> None:
    workers.platform.invoke(workers.deploy(ECHO), 1)
    pids = workers.pids()
    workers.platform.kill()
    wait_until(lambda: all(map(has_ended, pids)), "the workers have ended")
    wait_until(lambda: not workers.platform.leftovers(), "nothing is left")


def test_a_signal_to_all_processes_lets_what_runs_finish(workers: Workers) -> None:
    """As service managers send it."""
    platform = workers.platform
    name = workers.deploy(WHERE)
    with ThreadPoolExecutor(1) as threads:
        platform.invoke(name)
        running = threads.submit(platform.invoke, name, 1)
        wait_until(lambda: _count_starts(platform, name) == 2, "it runs")
        for pid in workers.pids():
            os.kill(pid, signal.SIGTERM)
        assert platform.stop() == 0
        assert running.result().error is None


def test_functions_are_there_after_a_restart(workers: Workers) -> None:
    name = workers.deploy(ECHO)
    workers.platform.stop()
    workers.platform.start()
    assert workers.platform.invoke(name, 3).json == 3
    assert len(workers.pids()) == 2


def test_code_is_extracted_once_and_goes_with_its_function(workers: Workers) -> None:
    name = workers.deploy(WHERE)
    workers.environments(name, 4)
    store = workers.platform.data_dir / "code"
    assert len(list(store.iterdir())) == 1
    workers.platform.client("lambda").delete_function(FunctionName=name)
    wait_until(lambda: not list(store.iterdir()), "the package is removed")


def _count_starts(platform: Platform, name: str) -> int:
    lines = platform.log_lines(f"/aws/lambda/{name}")
    return sum(line.startswith("START ") for line in lines)
