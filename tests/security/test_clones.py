"""Clones of a snapshot: what the forked runtime is moved into, and what it cannot reach."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from boxes import DIGEST, PYTHON, Box, processes_in
from firelet.model.errors import PlatformError
from firelet.sandbox.driver import RuntimeExit, RuntimeStart, SandboxSpec
from firelet.sandbox.namespaces import NamespacesDriver

# Clones of machines share no process and no kernel: see ``test_machines``.
pytestmark = pytest.mark.only_namespaces("a fork of the runtime is moved")

SPEC = SandboxSpec(runtime=PYTHON, code=DIGEST, memory_mib=256, tmp_mib=64)
KINDS = ("pid", "mnt", "net", "ipc", "uts", "user")

INITIALISE = """
import json, os, socket, sys, time
sys.path.insert(0, "/var/runtime/client")
from firelet.guest import clone_state, restore_point
open("/tmp/kept", "w").write("from the snapshot")
made = time.monotonic_ns()
print("initialised", flush=True)
told = restore_point.wait()
os.environ.update(told["environment"])
clone_state.make_own()
"""
SAYS = """
def say(**what):
    print(json.dumps(what), flush=True)
"""

MakeClone = Callable[[], Coroutine[Any, Any, Box]]


class Snapshots:
    """Makes snapshots and clones, and stops them."""

    def __init__(self, driver: NamespacesDriver) -> None:
        self.driver = driver
        self._boxes: list[Box] = []

    async def of(self, after: str) -> Box:
        """A snapshot whose clones continue with the code ``after``."""
        box = Box(await self.driver.create_snapshot(SPEC), PYTHON)
        self._boxes.append(box)
        box.start_python(INITIALISE + SAYS + after)
        await box.says("initialised")
        return box

    async def clone(self, snapshot: Box, **environment: str) -> Box:
        """One more, on its way from the restore point."""
        box = Box(await self.driver.clone(snapshot.sandbox, SPEC), PYTHON)
        self._boxes.append(box)
        box.sandbox.start_runtime(
            RuntimeStart(environment=environment, arguments=None, name="clone")
        )
        return box

    async def close(self) -> None:
        for box in reversed(self._boxes):
            await box.close()


@pytest.fixture
async def snapshots(driver: NamespacesDriver) -> AsyncIterator[Snapshots]:
    made = Snapshots(driver)
    yield made
    await made.close()


async def test_clones_continue_from_the_restore_point(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of(
        "say(made=made, mark=os.environ['MARK'], kept=open('/tmp/kept').read(), pid=os.getpid())"
    )

    said = [
        (await (await snapshots.clone(snapshot, MARK=mark)).finish()).json() for mark in ("a", "b")
    ]

    assert [each["mark"] for each in said] == ["a", "b"]
    assert said[0]["made"] == said[1]["made"]
    assert {each["kept"] for each in said} == {"from the snapshot"}
    assert all(each["pid"] < 5 for each in said)


async def test_each_clone_has_namespaces_of_its_own_and_no_rights(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of(
        f"names = [os.readlink('/proc/self/ns/' + kind) for kind in {KINDS!r}]\n"
        "status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
        "sets = [int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]\n"
        "numbers = sorted(int(name) for name in os.listdir('/proc') if name.isdigit())\n"
        "say(names=names, sets=sets, filter=status['Seccomp'].strip(), numbers=numbers,\n"
        "    privileges=status['NoNewPrivs'].strip(), own=os.getpid())\n"
        "time.sleep(60)"
    )
    names_of_snapshot = [
        os.readlink(f"/proc/{processes_in(snapshot)[0]}/ns/{kind}") for kind in KINDS
    ]

    said = []
    for _ in range(2):
        box = await snapshots.clone(snapshot)
        await box.says("privileges")
        said.append(box_json(box))

    for each in said:
        assert each["sets"] == [0, 0, 0, 0]
        assert (each["filter"], each["privileges"]) == ("2", "1")
        assert each["numbers"] == [1, each["own"]]
    for one, other, before in zip(
        said[0]["names"], said[1]["names"], names_of_snapshot, strict=True
    ):
        assert len({one, other, before}) == 3


async def test_a_clone_cannot_touch_its_init(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of(
        "def refused(call, *arguments):\n"
        "    try:\n        call(*arguments)\n"
        "    except OSError as error:\n        return error.errno\n"
        "say(mem=refused(open, '/proc/1/mem', 'rb'), maps=refused(os.readlink, '/proc/1/cwd'),\n"
        "    store=refused(os.listdir, '/.firelet/code'))\n"
        "os.kill(1, 9)\n"
        "say(still='here')"
    )

    ran = await (await snapshots.clone(snapshot)).finish()

    assert ran.output.splitlines() == [
        '{"mem": 13, "maps": 13, "store": 13}',
        '{"still": "here"}',
    ]


async def test_the_end_of_a_clone_is_told_and_ends_it_alone(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of("say(ready=1)\nsys.exit(int(os.environ.get('CODE', 0)))")

    one = await snapshots.clone(snapshot, CODE="7")
    assert await one.ending() == RuntimeExit(7, None)
    assert one.sandbox.is_dead
    with pytest.raises(PlatformError):
        one.sandbox.start_runtime(RuntimeStart(environment={}, arguments=None, name="clone"))

    other = await snapshots.clone(snapshot, CODE="0")
    assert await other.ending() == RuntimeExit(0, None)
    assert not snapshot.sandbox.is_dead


async def test_the_end_of_a_snapshot_is_the_end_of_its_clones(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of("say(ready=1)\ntime.sleep(60)")
    box = await snapshots.clone(snapshot)
    await box.says("ready")

    os.kill(processes_in(snapshot)[0], signal.SIGKILL)

    assert (await box.ending()) in (RuntimeExit(None, signal.SIGKILL), RuntimeExit(None, None))
    async with asyncio.timeout(30):
        while not snapshot.sandbox.is_dead:
            await asyncio.sleep(0.01)
    with pytest.raises(PlatformError):
        await snapshots.driver.clone(snapshot.sandbox, SPEC)


async def test_a_snapshot_without_its_runtime_makes_no_clones(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of("say(ready=1)")
    runtime = processes_in(snapshot)[1]
    os.kill(runtime, signal.SIGKILL)
    await snapshot.ending()

    # Without root not even its namespaces can be made: they are below the runtime's.
    with contextlib.suppress(PlatformError):
        box = await snapshots.clone(snapshot)
        assert await box.ending() == RuntimeExit(None, None)
        assert box.sandbox.is_dead


async def test_a_clone_that_was_not_restored_is_given_back_whatever_its_snapshot_does(
    snapshots: Snapshots,
) -> None:
    snapshot = await snapshots.of("say(ready=1)")
    box = Box(await snapshots.driver.clone(snapshot.sandbox, SPEC), PYTHON)
    # As when its pid 1 has just ended, which is known in the next turn of the loop.
    snapshot.sandbox._channel.close()  # type: ignore[attr-defined]

    await box.close()

    assert box.sandbox.is_dead


async def test_only_a_child_of_the_runtime_is_moved(driver: NamespacesDriver) -> None:
    # A runtime that speaks the fork server's protocol and names its own parent.
    box = Box(await driver.create_snapshot(SPEC), PYTHON)
    box.start_python(
        "import socket, sys\n"
        "sys.path.insert(0, '/var/runtime/client')\n"
        "from firelet.linux import messages\n"
        "channel = socket.socket(fileno=4)\n"
        "print('initialised', flush=True)\n"
        "while True:\n"
        "    messages.receive(channel)\n"
        "    messages.send(channel, {'pid': 1})\n"
    )
    await box.says("initialised")
    clone = Box(await driver.clone(box.sandbox, SPEC), PYTHON)

    clone.sandbox.start_runtime(RuntimeStart(environment={}, arguments=None, name="clone"))

    assert await clone.ending() == RuntimeExit(None, None)
    assert not box.sandbox.is_dead
    await clone.close()
    await box.close()


async def test_clones_at_once(snapshots: Snapshots) -> None:
    snapshot = await snapshots.of("say(mark=os.environ['MARK'])")

    boxes = await asyncio.gather(
        *(snapshots.clone(snapshot, MARK=str(number)) for number in range(8))
    )

    marks = [(await box.finish()).json()["mark"] for box in boxes]
    assert marks == [str(number) for number in range(8)]


def box_json(box: Box) -> Any:
    return json.loads(box.output.decode().strip().splitlines()[-1])
