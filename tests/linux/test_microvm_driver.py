"""Sandboxes of the microVM driver: real machines, emulated, held to what namespaces are held to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxes import DIGEST, OTHER_DIGEST, PYTHON, SHELL, Box, BoxMaker, Packages, pid_of, until_frozen
from firelet.guest import machine_network
from firelet.model.errors import InvalidRuntime, PlatformError
from firelet.model.layout import LIBRARY_PATH
from firelet.model.limits import MIB
from firelet.sandbox.driver import (
    ExtensionStart,
    RuntimeExit,
    RuntimeStart,
    Sandbox,
    SandboxSpec,
)
from firelet.sandbox.host import HostFacts
from firelet.sandbox.interpreters import Interpreter, discover
from firelet.sandbox.microvm import idle_memory
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from guest_images import PATIENCE_S
from machine_drivers import MakeMicrovmDriver
from sandbox_contract import SandboxContract

FOUND = discover()
# Each needs a machine at rest of its own, which takes some seconds to make: of the Pythons, the
# oldest and the newest.
PYTHONS = sorted(
    (name for name in FOUND if name.startswith("python")),
    key=lambda name: int(name.partition(".")[2]),
)
OTHERS = [
    max(names)
    for family in ("nodejs", "java", "ruby", "provided")
    if (names := [name for name in FOUND if name.startswith(family)])
]
RUNTIMES = sorted({*PYTHONS[:1], *PYTHONS[-1:], *OTHERS})

FREES = """
import time
much = bytearray(b"1") * 200_000_000
del much
print("free")
while True:
    time.sleep(0.1)
    print("tick")
"""
BUSY = "while true; do :; done"
TICKS = os.sysconf("SC_CLK_TCK")
ASKS = """
import json, os, socket, ssl, sys, time, uuid
sys.path.insert(0, "/var/runtime/client")
from firelet.guest import clone_state
ssl.RAND_bytes(16)
open("/tmp/kept", "w").write("from before")
made = time.monotonic_ns()
client = socket.create_connection(("127.0.0.1", 9001))
client.sendall(b"next")
mark = client.recv(100).decode()
said = {
    "made": made, "mark": mark, "kept": open("/tmp/kept").read(), "now": time.time(),
    "chance": [os.urandom(16).hex(), uuid.uuid4().hex, open("/proc/sys/kernel/random/uuid").read()],
}
print(json.dumps(said), flush=True)
client.sendall(b"done")
time.sleep(1000)
"""


class TestContract(SandboxContract):
    """A machine does what the fake of the unit tests does."""

    SCRIPTS = {  # noqa: RUF012 - a table
        "exit 3": "exit 3",
        "killed": "kill -9 $$",
        "hang": "sleep 1000",
        "print": "echo printed",
        "log": "echo logged >&3",
    }

    def start_of(self, kind: str) -> RuntimeStart:
        return RuntimeStart(
            environment={"PATH": "/usr/bin:/bin"},
            arguments=("/bin/sh", "-c", self.SCRIPTS[kind]),
            name="shell",
        )

    def extension_of(self, kind: str) -> ExtensionStart:
        path = {"print": "/usr/bin/env", "hang": "/usr/bin/yes", "missing": "/opt/missing"}[kind]
        return ExtensionStart(name=kind, path=path, environment={"OWN": "mine"})

    @pytest.fixture
    async def sandbox(self, microvm_driver: MicrovmDriver) -> AsyncIterator[Sandbox]:
        spec = SandboxSpec(runtime=SHELL, code=DIGEST, memory_mib=256, tmp_mib=16)
        sandbox = await microvm_driver.create(spec)
        yield sandbox
        await sandbox.stop()


@pytest.fixture
def make_box(make_microvm_box: BoxMaker) -> BoxMaker:
    return make_microvm_box


@pytest.fixture
async def box(make_box: BoxMaker) -> Box:
    return await make_box(PYTHON)


class TestRuntimes:
    @pytest.mark.parametrize("runtime", RUNTIMES)
    async def test_a_runtime_of_each_kind_runs(self, make_box: BoxMaker, runtime: str) -> None:
        interpreter: Interpreter = FOUND[runtime]
        box = await make_box(runtime)
        if interpreter.family == "python":
            ran = await box.run_python("import sys; print('python%d.%d' % sys.version_info[:2])")
        elif interpreter.family == "nodejs":
            code = "console.log('nodejs' + process.versions.node.split('.')[0] + '.x')"
            box.start("/var/lang/bin/node", "-e", code)
            ran = await box.finish()
        elif interpreter.family == "java":
            ran = await box.run_shell(f"/var/lang/bin/java --version >/tmp/v && echo {runtime}")
        elif interpreter.family == "ruby":
            box.start(
                "/var/lang/bin/ruby",
                "-e",
                "puts 'ruby' + RUBY_VERSION[/\\d+\\.\\d+/]",
                LD_LIBRARY_PATH=LIBRARY_PATH,
            )
            ran = await box.finish()
        else:
            ran = await box.run_shell(f"echo {runtime}")
        assert (ran.output, ran.ending) == (runtime + "\n", RuntimeExit(0, None))

    async def test_a_runtime_that_this_host_does_not_have_is_told(
        self, microvm_driver: MicrovmDriver
    ) -> None:
        spec = SandboxSpec(runtime="java21", code=DIGEST, memory_mib=256, tmp_mib=16)
        with pytest.raises(InvalidRuntime):
            await microvm_driver.create(spec)

    async def test_code_that_is_not_there_is_told(self, microvm_driver: MicrovmDriver) -> None:
        spec = SandboxSpec(runtime=SHELL, code=OTHER_DIGEST, memory_mib=256, tmp_mib=16)
        with pytest.raises(PlatformError, match="cannot be read"):
            await microvm_driver.create(spec)


class TestInside:
    async def test_a_program_finds_what_is_promised(
        self, make_box: BoxMaker, packages: Packages
    ) -> None:
        """In one machine, since each takes its time: code and directory, user, environment,
        processes, signals."""
        packages.add(OTHER_DIGEST, {"bootstrap": '#!/bin/sh\necho "boots in $PWD as $0"\n'})
        box = await make_box(SHELL, code=OTHER_DIGEST)
        box.start("/var/task/bootstrap")
        assert (await box.finish()).output == "boots in /var/task as /var/task/bootstrap\n"

        box.output = b""
        box.start("/usr/bin/env", A="1", LANG="\u00e9")
        assert sorted((await box.finish()).output.splitlines()) == ["A=1", "LANG=\u00e9"]

        ran = await box.run_shell("id -un; id -gn; id -u; getent passwd $(id -u) | cut -d: -f6")
        name, group, uid, home = ran.output.split()
        assert (name, group, home) == ("sbx_user1051", "sbx_user1051", "/tmp")
        assert int(uid) > 0

        ran = await box.run_shell("echo $PPID $$; ls /proc | grep -c '^[0-9]'")
        parent, own, count = map(int, ran.output.split())
        assert parent == 1
        assert own > 1
        assert count <= 6

        ran = await box.run_shell("grep -E 'Sig(Ign|Blk)' /proc/self/status | tr -d '\\t\\n'")
        assert ran.output == "SigBlk:" + "0" * 16 + "SigIgn:" + "0" * 16

        box.start("/opt/no-such-wrapper")
        assert (await box.finish()).ending == RuntimeExit(127, None)
        box.start("/etc/passwd")
        assert (await box.finish()).ending == RuntimeExit(126, None)

    async def test_the_runtime_api_s_address_leads_to_the_platform(self, box: Box) -> None:
        box.start_python(
            """
            import socket
            client = socket.create_connection(("127.0.0.1", 9001))
            client.sendall(b"hello")
            print(client.recv(10).decode())
            """
        )
        assert await answer(box, b"back") == b"hello"
        assert (await box.finish()).output == "back\n"

    async def test_all_that_was_written_is_there_when_the_end_is_told(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(SHELL)
        for _ in range(5):
            box.log = b""
            ran = await box.run_shell(
                "head -c 30000 /dev/zero >&3; head -c 30000 /dev/zero; exit 4"
            )
            assert (len(ran.output), len(box.log)) == (30_000, 30_000)

    async def test_its_clock_is_the_host_s(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        before = time.time()
        said = float((await box.run_shell("date +%s.%N")).output)
        # It is told the time, which takes a moment: the machine had rested for much longer.
        assert before - 5 < said < time.time() + 0.5


class TestLimits:
    async def test_memory_over_the_limit_ends_the_runtime_and_is_told(
        self, make_box: BoxMaker, host: HostFacts
    ) -> None:
        box = await make_box(PYTHON, memory_mib=256)
        ran = await box.run_python("data = b'x' * (400 * 2**20)")
        assert ran.ending == RuntimeExit(None, signal.SIGKILL, is_out_of_memory=True)
        ran = await box.run_python("data = b'x' * (120 * 2**20); print('serves')")
        assert ran.output == "serves\n"
        # The limit, and not what the machine has.
        assert 120 * 2**20 < box.sandbox.memory_peak_bytes() <= 256 * 2**20
        has_groups = host.cgroup_version is not None and not host.is_rootless
        assert (box.sandbox.memory_bytes() > 0) is has_groups

    async def test_nearly_all_of_the_memory_can_be_used(self, make_box: BoxMaker) -> None:
        """By the first clone of a machine at rest too, which adds all of it to what is shared."""
        box = await make_box(PYTHON, memory_mib=400)
        ran = await box.run_python("data = b'x' * (370 * 2**20); print('full')")
        assert ran.output == "full\n"

    async def test_tmp_has_its_size_and_counts_as_memory(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL, memory_mib=256, tmp_mib=8)
        ran = await box.run_shell(
            "stat -c %a /tmp; ls -A /tmp; dd if=/dev/zero of=/tmp/big bs=1M count=20 2>/dev/null;"
            " stat -c %s /tmp/big"
        )
        mode, size = ran.output.split()
        assert mode == "1777"
        assert 7 * 2**20 <= int(size) <= 8 * 2**20

        box = await make_box(SHELL, memory_mib=256, tmp_mib=512)
        ran = await box.run_shell("dd if=/dev/zero of=/tmp/big bs=1M count=400 2>/dev/null")
        assert ran.ending.is_out_of_memory

    async def test_a_fork_bomb_is_contained_and_can_be_reset(self, make_box: BoxMaker) -> None:
        box = await make_box(PYTHON)
        box.start_python(
            """
            import os
            print("ready", flush=True)
            while True:
                try:
                    os.fork()
                except OSError as error:
                    os.write(1, b"errno %d\\n" % error.errno)
            """
        )
        async with asyncio.timeout(PATIENCE_S):
            await box.until(lambda: b"errno 11\n" in box.output)
        await box.sandbox.kill_processes()
        ran = await box.run_python(
            "import os; print('serves', len([n for n in os.listdir('/proc') if n.isdigit()]))"
        )
        assert ran.output.endswith("serves 2\n")

    async def test_descriptors_are_limited(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        assert (await box.run_shell("ulimit -n; ulimit -Hn")).output == "1024\n1024\n"


class TestFreeze:
    def cpu_ticks(self, box: Box) -> int:
        """CPU time of what runs the machine."""
        fields = Path(f"/proc/{pid_of(box)}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    async def test_a_frozen_machine_uses_no_cpu_and_goes_on_when_thawed(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(SHELL)
        box.start_shell("echo ready; while true; do date +%s.%N; done")
        await box.says("ready")
        box.sandbox.freeze()
        await until_frozen(box)
        box.output = b""
        frozen = self.cpu_ticks(box)
        time.sleep(0.7)
        assert self.cpu_ticks(box) == frozen
        assert frozen > 0
        thawed = time.time()
        box.sandbox.thaw()
        await box.until(lambda: box.output.count(b"\n") > 20)
        # The clock has gone on as if nothing had been: at most one line is from before.
        early = [float(line) < thawed - 0.2 for line in box.output.splitlines()[:20]]
        assert sum(early[3:]) == 0, box.output

    async def test_an_idle_machine_gives_back_what_its_guest_has_freed(
        self, make_box: BoxMaker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(idle_memory, "IDLE_S", 0.1)
        box = await make_box(PYTHON, memory_mib=512)
        machine = box.sandbox
        box.start_python(FREES)
        await box.says("free")
        held = machine.memory_bytes()
        machine.freeze()
        async with asyncio.timeout(PATIENCE_S):
            while machine.memory_bytes() > held - 100 * MIB:
                await asyncio.sleep(0.1)
        # The guest goes on, its function does not.
        said = box.output
        await asyncio.sleep(1)
        assert box.output == said
        machine.thaw()
        await box.until(lambda: box.output.count(b"tick") > said.count(b"tick") + 5)

    async def test_a_frozen_machine_can_be_reset(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell(f"echo ready; {BUSY}")
        await box.says("ready")
        box.sandbox.freeze()
        await box.sandbox.kill_processes()
        assert (await box.run_shell("echo again")).output == "ready\nagain\n"[6:]


class TestClones:
    SPEC = SandboxSpec(runtime=PYTHON, code=DIGEST, memory_mib=256, tmp_mib=64)

    @pytest.fixture
    async def snapshot(self, microvm_driver: MicrovmDriver) -> AsyncIterator[Box]:
        """Rests where it waits for the answer to what it has asked the platform. It knows nothing
        of snapshots, as Node.js and custom runtimes do."""
        box = Box(await microvm_driver.create_snapshot(self.SPEC), PYTHON)
        box.start_python(ASKS)
        connection = await accept(box)
        assert await asyncio.get_running_loop().sock_recv(connection, 100) == b"next"
        await microvm_driver.seal(box.sandbox)
        connection.close()
        yield box
        await box.close()

    async def test_clones_go_on_from_where_the_snapshot_rests_and_differ(
        self, microvm_driver: MicrovmDriver, snapshot: Box
    ) -> None:
        assert not snapshot.sandbox.is_dead
        sandboxes = await asyncio.gather(
            *(microvm_driver.clone(snapshot.sandbox, self.SPEC) for _ in range(4))
        )
        boxes = [Box(sandbox, PYTHON) for sandbox in sandboxes]
        try:
            said = await asyncio.gather(
                *(self.go_on(box, f"mark {number}") for number, box in enumerate(boxes))
            )
        finally:
            for box in boxes:
                await box.close()
        assert [each["mark"] for each in said] == [f"mark {number}" for number in range(4)]
        assert len({each["made"] for each in said}) == 1
        assert {each["kept"] for each in said} == {"from before"}
        chance = [text for each in said for text in each["chance"]]
        assert len(set(chance)) == len(chance)
        assert all(abs(each["now"] - time.time()) < PATIENCE_S for each in said)

    async def test_a_clone_ends_alone_and_is_not_reset(
        self, microvm_driver: MicrovmDriver, snapshot: Box
    ) -> None:
        box = Box(await microvm_driver.clone(snapshot.sandbox, self.SPEC), PYTHON)
        await self.go_on(box, "x")
        box.sandbox.signal_runtime(signal.SIGTERM)
        assert await box.ending() == RuntimeExit(None, signal.SIGTERM)
        assert box.sandbox.is_dead
        await box.close()
        other = Box(await microvm_driver.clone(snapshot.sandbox, self.SPEC), PYTHON)
        with pytest.raises(PlatformError):
            await other.sandbox.kill_processes()
        assert (await self.go_on(other, "y"))["mark"] == "y"
        await other.close()

    async def go_on(self, box: Box, mark: str) -> Any:
        """What a clone says when its question has been answered."""
        start = RuntimeStart(environment={}, arguments=None, name="clone")
        box.sandbox.start_runtime(start)
        assert await answer(box, mark.encode()) == b"next"
        await box.until(lambda: b"}\n" in box.output)
        return json.loads(box.output)


class TestDeath:
    async def test_the_end_of_qemu_is_the_end_of_the_sandbox(self, make_box: BoxMaker) -> None:
        one, other = await make_box(SHELL), await make_box(SHELL)
        one.start_shell("echo ready; sleep 1000")
        await one.says("ready")
        os.kill(pid_of(one), signal.SIGKILL)
        assert await one.ending() == RuntimeExit(None, None)
        assert one.sandbox.is_dead
        with pytest.raises(PlatformError):
            await one.sandbox.kill_processes()
        assert (await other.run_shell("echo serves")).output == "serves\n"


class TestDriver:
    SPEC = SandboxSpec(runtime=SHELL, code=DIGEST, memory_mib=256, tmp_mib=16)

    async def test_it_closes_with_machines_in_every_state(
        self, make_microvm_driver: MakeMicrovmDriver
    ) -> None:
        driver = make_microvm_driver()
        await driver.open()
        boxes = [Box(await driver.create(self.SPEC), SHELL) for _ in range(3)]
        for box in boxes[:2]:
            box.start_shell("echo ready; sleep 1000 & sleep 1000")
            await box.says("ready")
        boxes[0].sandbox.freeze()
        for box in boxes:
            box.forget_pipes()
        await driver.close()
        assert all(box.sandbox.is_dead for box in boxes)

    async def test_it_closes_while_machines_are_being_made(
        self, make_microvm_driver: MakeMicrovmDriver
    ) -> None:
        driver = make_microvm_driver()
        await driver.open()
        making = [asyncio.create_task(driver.create(self.SPEC)) for _ in range(3)]
        await asyncio.sleep(0.3)
        await driver.close()
        await asyncio.gather(*making, return_exceptions=True)


async def accept(box: Box) -> socket.socket:
    """A connection that the sandbox has made to the Runtime API."""
    async with asyncio.timeout(PATIENCE_S):
        connection, _ = await asyncio.get_running_loop().sock_accept(box.sandbox.listener)
    connection.setblocking(False)
    return connection


async def answer(box: Box, data: bytes) -> bytes:
    """What the sandbox has asked the Runtime API, which answers with ``data``."""
    loop = asyncio.get_running_loop()
    with await accept(box) as connection:
        async with asyncio.timeout(PATIENCE_S):
            asked = await loop.sock_recv(connection, 100)
            await loop.sock_sendall(connection, data)
            await loop.sock_recv(connection, 100)  # or its end
    return asked


class NoWayOut(NatGateway):
    """Machines have a network with it, which ends at their host's side."""

    def connect(self, namespace: int) -> int:
        return namespace

    def disconnect(self, slot: int) -> None:
        """There was nothing."""


@pytest.mark.skipif(not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="no /dev/net/tun")
async def test_with_a_way_out_each_function_has_a_device_and_a_host_of_its_own(
    make_microvm_driver: MakeMicrovmDriver,
) -> None:
    """Two machines of one template: the same addresses, in networks that do not touch."""
    driver = make_microvm_driver(NoWayOut())
    await driver.open()
    maker = BoxMaker(driver)
    try:
        for answer in (b"one", b"other"):
            box = await maker(SHELL)
            assert isinstance(box.sandbox, MachineSandbox)
            assert box.sandbox.network is not None
            server = box.sandbox.network.run_inside(lambda: socket.create_server(("", 7_777)))
            with server:
                server.setblocking(False)
                box.start("/usr/bin/python3", "-c", CALLS_HOST)
                async with asyncio.timeout(PATIENCE_S):
                    caller, (address, _) = await asyncio.get_running_loop().sock_accept(server)
                with caller:
                    await asyncio.get_running_loop().sock_sendall(caller, answer)
            assert (await box.finish()).output == f"{answer.decode()} unreachable\n"
            assert address == machine_network.GUEST_ADDRESS
    finally:
        await maker.close()
        await driver.close()


CALLS_HOST = f"""
import errno, socket
with socket.create_connection(("{machine_network.HOST_ADDRESS}", 7777)) as host:
    said = host.recv(10).decode()
try:
    socket.create_connection(("192.0.2.1", 80))
except OSError as error:
    print(said, {{errno.ENETUNREACH: "unreachable"}}.get(error.errno, error))
"""
