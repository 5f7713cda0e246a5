"""Sandboxes of the namespaces driver on a real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxes import (
    DIGEST,
    OTHER_DIGEST,
    PYTHON,
    SHELL,
    Box,
    BoxMaker,
    MakeDriver,
    Packages,
    processes_in,
    until_frozen,
)
from firelet.model.errors import InvalidRuntime, PlatformError
from firelet.sandbox import cgroups
from firelet.sandbox.driver import ExtensionStart, RuntimeExit, RuntimeStart, Sandbox, SandboxSpec
from firelet.sandbox.interpreters import Interpreter, discover
from firelet.sandbox.namespaces import NamespacesDriver
from sandbox_contract import SandboxContract, Watched

FOUND = discover()

BUSY = "while true; do :; done"


def group_of(box: Box, controller: str) -> Path:
    """The directory of a sandbox's control group."""
    root = Path("/sys/fs/cgroup")
    if cgroups.find_version() == 1:
        root /= controller
    return root / "firelet" / cgroups.owner_name() / box.sandbox.id


class TestContract(SandboxContract):
    """The real sandbox does what the fake of the unit tests does."""

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
    async def sandbox(self, driver: NamespacesDriver) -> AsyncIterator[Sandbox]:
        spec = SandboxSpec(runtime=SHELL, code=DIGEST, memory_mib=128, tmp_mib=16)
        sandbox = await driver.create(spec)
        yield sandbox
        await sandbox.stop()


class TestRuntimes:
    @pytest.mark.parametrize("runtime", sorted(FOUND))
    async def test_each_interpreter_of_this_host_runs(
        self, make_box: BoxMaker, runtime: str
    ) -> None:
        interpreter: Interpreter = FOUND[runtime]
        box = await make_box(runtime)
        if interpreter.family == "python":
            ran = await box.run_python("import sys; print('python%d.%d' % sys.version_info[:2])")
        elif interpreter.family == "nodejs":
            box.start(
                "/var/lang/bin/node",
                "-e",
                "console.log('nodejs' + process.versions.node.split('.')[0] + '.x')",
            )
            ran = await box.finish()
        else:
            ran = await box.run_shell(f"echo {runtime}")
        assert (ran.output, ran.ending) == (runtime + "\n", RuntimeExit(0, None))

    async def test_a_runtime_that_this_host_does_not_have_is_told(
        self, driver: NamespacesDriver
    ) -> None:
        spec = SandboxSpec(runtime="java21", code=DIGEST, memory_mib=128, tmp_mib=16)
        with pytest.raises(InvalidRuntime):
            await driver.create(spec)

    async def test_code_that_is_not_there_is_told_with_its_step(
        self, driver: NamespacesDriver
    ) -> None:
        spec = SandboxSpec(runtime=SHELL, code=OTHER_DIGEST, memory_mib=128, tmp_mib=16)
        with pytest.raises(PlatformError, match="mount_code"):
            await driver.create(spec)

    async def test_a_program_that_is_not_there_exits_like_in_a_shell(self, box: Box) -> None:
        box.start("/opt/no-such-wrapper", "/var/lang/bin/python")
        assert (await box.finish()).ending == RuntimeExit(127, None)

    async def test_a_program_that_may_not_be_executed_exits_like_in_a_shell(self, box: Box) -> None:
        box.start("/etc/passwd")
        assert (await box.finish()).ending == RuntimeExit(126, None)

    async def test_a_program_starts_with_signals_as_the_kernel_has_them(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(SHELL)
        ran = await box.run_shell("grep -E 'Sig(Ign|Blk)' /proc/self/status | tr -d '\\t\\n'")
        assert ran.output == "SigBlk:" + "0" * 16 + "SigIgn:" + "0" * 16


class TestInside:
    async def test_code_is_at_var_task_and_the_program_starts_there(
        self, make_box: BoxMaker, packages: Packages
    ) -> None:
        packages.add(OTHER_DIGEST, {"other.txt": "of another function\n"})
        box = await make_box(SHELL, code=OTHER_DIGEST)
        assert (await box.run_shell("pwd; ls; cat other.txt")).output == (
            "/var/task\nother.txt\nof another function\n"
        )

    async def test_a_custom_runtime_is_the_package_s_bootstrap(
        self, make_box: BoxMaker, packages: Packages
    ) -> None:
        packages.add(OTHER_DIGEST, {"bootstrap": '#!/bin/sh\necho "boots in $PWD as $0"\n'})
        box = await make_box(SHELL, code=OTHER_DIGEST)
        box.start("/var/task/bootstrap")
        assert (await box.finish()).output == "boots in /var/task as /var/task/bootstrap\n"

    async def test_the_environment_is_exactly_what_was_given(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start("/usr/bin/env", A="1", LANG="é")
        assert sorted((await box.finish()).output.splitlines()) == ["A=1", "LANG=é"]

    async def test_the_user_has_a_name_and_the_home_of_aws(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        ran = await box.run_shell("id -un; id -gn; id -u; getent passwd $(id -u) | cut -d: -f6")
        name, group, uid, home = ran.output.split()
        assert (name, group, home) == ("sbx_user1051", "sbx_user1051", "/tmp")
        assert int(uid) > 0

    async def test_tmp_can_be_written_and_has_its_size(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL, tmp_mib=8)
        ran = await box.run_shell(
            "stat -c %a /tmp; ls -A /tmp; dd if=/dev/zero of=/tmp/big bs=1M count=20 2>/dev/null;"
            " stat -c %s /tmp/big"
        )
        mode, size = ran.output.split()
        assert mode == "1777"
        assert 7 * 2**20 <= int(size) <= 8 * 2**20

    async def test_its_loopback_is_up_and_only_there(self, box: Box) -> None:
        names, answer = (
            await box.run_python(
                """
                import json, socket
                server = socket.create_server(("127.0.0.1", 0))
                client = socket.create_connection(server.getsockname())
                server.accept()[0].sendall(b"x")
                names = sorted(name for _, name in socket.if_nameindex())
                print(json.dumps([names, client.recv(1).decode()]))
                """
            )
        ).json()
        assert answer == "x"
        # Kernels make some tunnel interfaces in every namespace; they are down.
        assert "lo" in names
        assert not [name for name in names if name.startswith(("eth", "en", "wl", "docker"))]

    async def test_the_runtime_api_s_address_leads_to_the_platform(self, box: Box) -> None:
        box.start_python(
            """
            import socket
            client = socket.create_connection(("127.0.0.1", 9001))
            client.sendall(b"hello")
            print(client.recv(10).decode())
            """
        )
        listener = box.sandbox.listener
        await box.until(lambda: True)
        listener.setblocking(True)
        listener.settimeout(10)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(10) == b"hello"
            connection.sendall(b"back")
            assert (await box.finish()).output == "back\n"

    async def test_processes_are_numbered_from_one(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        ran = await box.run_shell("echo $PPID $$; ls /proc | grep -c '^[0-9]'")
        parent, own, count = ran.output.split()
        assert (parent, own) == ("1", "2")
        assert int(count) <= 6


class TestReset:
    async def test_a_reset_ends_every_process_and_keeps_tmp(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell(
            "echo kept > /tmp/kept; (setsid sleep 1000 &); (trap '' TERM INT HUP; sleep 1000) &"
            " echo ready; sleep 1000"
        )
        await box.says("ready")
        assert len(processes_in(box)) >= 4
        await box.sandbox.kill_processes()
        assert len(processes_in(box)) == 1
        assert (await box.run_shell("cat /tmp/kept")).output == "kept\n"

    async def test_a_fork_bomb_can_be_reset(self, make_box: BoxMaker, needs_cgroups: None) -> None:
        box = await make_box(PYTHON)
        box.start_python(
            """
            import os
            print("ready", flush=True)
            while True:
                try:
                    os.fork()
                except OSError:
                    pass
            """
        )
        await box.says("ready")
        async with asyncio.timeout(30):
            while len(processes_in(box)) < 500:
                await asyncio.sleep(0.05)
        await box.sandbox.kill_processes()
        assert len(processes_in(box)) == 1
        assert (await box.run_python("print('serves')")).output == "serves\n"


class TestFreeze:
    def cpu_ticks(self, box: Box) -> int:
        """CPU time of all processes of a sandbox."""
        total = 0
        for pid in processes_in(box):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total

    async def test_a_frozen_sandbox_uses_no_cpu_and_goes_on_when_thawed(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(SHELL)
        box.start_shell(f"echo ready; {BUSY}")
        await box.says("ready")
        box.sandbox.freeze()
        await until_frozen(box)
        frozen = self.cpu_ticks(box)
        time.sleep(0.3)
        assert self.cpu_ticks(box) == frozen
        box.sandbox.thaw()
        end = time.monotonic() + 30
        while self.cpu_ticks(box) <= frozen:
            assert time.monotonic() < end, "it does not go on"
            time.sleep(0.01)

    async def test_a_frozen_sandbox_can_be_reset(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell(f"echo ready; {BUSY}")
        await box.says("ready")
        box.sandbox.freeze()
        await box.sandbox.kill_processes()
        assert (await box.run_shell("echo again")).output == "again\n"


@pytest.mark.usefixtures("needs_cgroups")
class TestLimits:
    async def test_memory_over_the_limit_ends_the_runtime_and_is_told(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(PYTHON, memory_mib=128)
        ran = await box.run_python("data = b'x' * (300 * 2**20)")
        assert ran.ending == RuntimeExit(None, signal.SIGKILL, is_out_of_memory=True)
        assert (await box.run_python("print('serves')")).output == "serves\n"

    async def test_files_in_tmp_count_as_memory(self, make_box: BoxMaker) -> None:
        box = await make_box(PYTHON, memory_mib=128, tmp_mib=512)
        ran = await box.run_python("open('/tmp/big', 'wb').write(bytes(300 * 2**20))")
        assert ran.ending.is_out_of_memory

    async def test_the_peak_of_memory_is_measured(self, make_box: BoxMaker) -> None:
        box = await make_box(PYTHON, memory_mib=256)
        await box.run_python("data = b'x' * (60 * 2**20)")
        assert 60 * 2**20 < box.sandbox.memory_peak_bytes() < 100 * 2**20
        assert 0 < box.sandbox.memory_bytes() < 60 * 2**20

    async def test_the_number_of_processes_is_limited(self, make_box: BoxMaker) -> None:
        box = await make_box(PYTHON, memory_mib=2048)
        ran = await box.run_python(
            """
            import os, signal, time
            children = []
            try:
                while len(children) < 3000:
                    child = os.fork()
                    if child == 0:
                        time.sleep(1000)
                        os._exit(0)
                    children.append(child)
            except OSError:
                pass
            for child in children:
                os.kill(child, signal.SIGKILL)
            print(len(children))
            """
        )
        assert 900 < int(ran.output) < 1024

    async def test_a_share_of_the_cpu_is_kept_to(self, make_box: BoxMaker) -> None:
        box = await make_box(PYTHON)
        box.sandbox.set_vcpus(0.2)
        used = await box.run_python(
            """
            import time
            end = time.monotonic() + 1
            while time.monotonic() < end:
                pass
            print(time.process_time())
            """
        )
        assert float(used.output) < 0.35

    async def test_the_control_group_is_gone_after_a_stop(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell("sleep 1000")
        group = group_of(box, "memory")
        assert group.is_dir()
        await box.close()
        assert not group.exists()

    async def test_every_process_of_a_sandbox_is_in_its_group(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell("sleep 1000 & echo ready; sleep 1000")
        await box.says("ready")
        procs = (group_of(box, "pids") / "cgroup.procs").read_text().split()
        assert sorted(map(int, procs)) == sorted(processes_in(box))


class TestDeath:
    async def test_the_end_of_pid_1_is_the_end_of_the_sandbox(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        box.start_shell("echo ready; sleep 1000")
        await box.says("ready")
        pids = processes_in(box)
        os.kill(pids[0], signal.SIGKILL)
        assert await box.ending() == RuntimeExit(None, None)
        assert box.sandbox.is_dead
        with pytest.raises(PlatformError):
            await box.sandbox.kill_processes()

    async def test_the_end_of_a_zygote_ends_its_sandboxes_and_the_next_one_gets_a_new_one(
        self, make_box: BoxMaker
    ) -> None:
        boxes = [await make_box(SHELL) for _ in range(2)]
        other = await make_box(PYTHON)
        for box in boxes:
            box.start_shell("echo ready; sleep 1000")
            await box.says("ready")
        zygote = _parent_of(processes_in(boxes[0])[0])
        assert Path(f"/proc/{zygote}/comm").read_text() == "firelet-zygote\n"
        os.kill(zygote, signal.SIGKILL)
        for box in boxes:
            assert await box.ending() == RuntimeExit(None, None)
            assert box.sandbox.is_dead
            await box.close()
        assert not other.sandbox.is_dead
        fresh = await make_box(SHELL)
        assert (await fresh.run_shell("echo serves")).output == "serves\n"

    async def test_a_descendant_that_left_its_session_dies_with_the_sandbox(
        self, make_box: BoxMaker
    ) -> None:
        box = await make_box(SHELL)
        box.start_shell("(setsid sleep 1000 &); echo ready")
        await box.says("ready")
        await box.ending()
        pids = processes_in(box)
        assert len(pids) == 2
        await box.close()
        end = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < end, "something outlived its sandbox"
            time.sleep(0.01)


class TestDriver:
    SPEC = SandboxSpec(runtime=SHELL, code=DIGEST, memory_mib=128, tmp_mib=16)

    @pytest.fixture
    async def ahead(self, make_driver: MakeDriver) -> AsyncIterator[NamespacesDriver]:
        """A driver that has made two embryos ahead."""
        driver = make_driver(embryos=2)
        await driver.open()
        driver.expect(SHELL)
        await self.refilled(driver)
        yield driver
        await driver.close()

    async def refilled(self, driver: NamespacesDriver) -> None:
        await driver._pools[SHELL].settle()

    async def test_embryos_are_made_ahead_and_replaced(self, ahead: NamespacesDriver) -> None:
        embryos = list(ahead._pools[SHELL].waiting)
        assert len(embryos) == 2
        taken = [await ahead.create(self.SPEC) for _ in range(2)]
        assert taken == embryos
        await self.refilled(ahead)
        assert len(ahead._pools[SHELL].waiting) == 2

    async def test_an_embryo_that_died_does_not_serve_and_is_given_back(
        self, ahead: NamespacesDriver
    ) -> None:
        first, second = ahead._pools[SHELL].waiting
        watched = Watched(first)
        signal.pidfd_send_signal(first.pidfd, signal.SIGKILL)
        await watched.ending()
        assert await ahead.create(self.SPEC) is second
        await self.refilled(ahead)
        assert first not in ahead._cells, "its descriptors and control group stay for ever"

    async def test_it_closes_with_sandboxes_in_every_state(self, ahead: NamespacesDriver) -> None:
        boxes = [Box(await ahead.create(self.SPEC), SHELL) for _ in range(3)]
        for box in boxes[:2]:
            box.start_shell("echo ready; sleep 1000 & sleep 1000")
            await box.says("ready")
        boxes[0].sandbox.freeze()
        for box in boxes:
            box.forget_pipes()
        await ahead.close()
        assert all(box.sandbox.is_dead for box in boxes)

    async def test_it_closes_while_sandboxes_are_being_made(self, make_driver: MakeDriver) -> None:
        driver = make_driver(embryos=2)
        await driver.open()
        making = [asyncio.create_task(driver.create(self.SPEC)) for _ in range(3)]
        await asyncio.sleep(0)
        await driver.close()
        await asyncio.gather(*making, return_exceptions=True)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
