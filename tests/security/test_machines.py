"""What only machines have: devices, a console, a link to the platform, a program that runs them.

A function is within the same walls inside its machine as it would be on a host; these are the walls
behind those. What the guest's root is tried as is what a function would be that had broken the
guest's kernel.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxes import DIGEST, PYTHON, SHELL, Box, BoxMaker, pid_of
from firelet.sandbox.driver import RuntimeStart, SandboxSpec
from firelet.sandbox.microvm.console import KEPT_BYTES
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from guest_images import PATIENCE_S, MachineRoom

SPEC = SandboxSpec(runtime=PYTHON, code=DIGEST, memory_mib=256, tmp_mib=64)
# Of the virtio specification: block device, console, source of entropy.
BLOCK, CONSOLE, ENTROPY, BALLOON = 2, 3, 4, 5


@pytest.fixture
def make_box(make_microvm_box: BoxMaker) -> BoxMaker:
    return make_microvm_box


@pytest.fixture
async def box(make_box: BoxMaker) -> Box:
    return await make_box(PYTHON)


class Root:
    """Runs programs as the guest's root, outside of the sandbox in it."""

    def __init__(self, machine: MachineSandbox, python: str) -> None:
        self.machine = machine
        self.python = python

    async def run(self, code: str) -> Any:
        """What Python code prints as JSON."""
        assert self.machine._channel is not None
        arguments = [self.python, "-I", "-S", "-c", textwrap.dedent(code)]
        async with asyncio.timeout(PATIENCE_S):
            ended = await self.machine._channel.run(arguments)
        assert ended.code == 0, ended
        return json.loads(ended.output)


@pytest.fixture
def root(box: Box, machine_room: MachineRoom) -> Root:
    return Root(machine_of(box), machine_room.image.manifest.python)


def machine_of(box: Box) -> MachineSandbox:
    assert isinstance(box.sandbox, MachineSandbox)
    return box.sandbox


class TestFunction:
    async def test_it_has_no_device_of_its_machine(self, box: Box) -> None:
        ran = await box.run_python(
            """
            import ctypes, json, os, socket
            libc = ctypes.CDLL(None, use_errno=True)
            def call(number, *arguments):
                return ctypes.get_errno() if libc.syscall(number, *arguments) < 0 else "done"
            def attempt(path):
                try:
                    os.close(os.open(path, os.O_RDWR))
                    return "opened"
                except OSError as error:
                    return error.errno
            names = ["vport0p1", "vport1p1", "hvc0", "ttyS0", "console", "kmsg", "mem", "port",
                     "vda", "vdc", "tty", "hpet", "cpu_dma_latency", "hwrng", "vsock"]
            print(json.dumps([
                sorted(os.listdir("/dev")),
                {attempt(root + "/dev/" + name) for name in names for root in ("", "/proc/1/root")}
                == {2, 13},
                [call(172, 3), call(173, 0x60, 1, 1), call(169, 0xfee1dead, 672274793, 0x1234567)],
                attempt("/proc/sysrq-trigger"), os.path.exists("/sys"),
            ]))
            """
        )
        names, are_closed, calls, sysrq, has_sys = ran.json()
        assert set(names) <= {
            *("null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr"),
            *("shm", "pts", "ptmx"),
        }
        assert are_closed
        # Ports of the processor and a restart are refused: EPERM or ENOSYS.
        assert set(calls) <= {1, 38}
        assert sysrq in (2, 13, 30)
        assert not has_sys
        assert not box.sandbox.is_dead

    async def test_it_cannot_write_to_the_console(self, make_box: BoxMaker) -> None:
        box = await make_box(SHELL)
        console = machine_of(box).vmm.console
        before = console.text()
        await box.run_shell(
            "for place in /dev/console /dev/kmsg /dev/ttyS0 /dev/tty /proc/1/fd/1 /proc/1/fd/2;"
            " do echo flood > $place; done 2>/dev/null; head -c 300000 /dev/zero >&2;"
            " kill -SEGV $$"
        )
        assert console.text() == before

    async def test_its_kernel_is_not_the_host_s(self, box: Box, machine_room: MachineRoom) -> None:
        ran = await box.run_python(
            "import json, os; print(json.dumps([os.uname().release, open('/proc/cmdline').read(),"
            " open('/proc/cpuinfo').read()]))"
        )
        release, options, processors = ran.json()
        assert release == machine_room.image.manifest.release
        host = Path("/proc/cmdline").read_text().strip()
        assert not host or host not in options
        assert "hypervisor" in processors


class TestRoot:
    async def test_the_machine_has_few_devices(self, root: Root) -> None:
        found = await root.run(
            """
            import json, os
            at = "/sys/bus/virtio/devices/"
            print(json.dumps([
                sorted(int(open(at + name + "/device").read(), 16) for name in os.listdir(at)),
                os.listdir("/sys/bus/pci/devices") if os.path.isdir("/sys/bus/pci/devices") else [],
                [name for name in os.listdir("/sys/class/net") if name != "lo"],
            ]))
            """
        )
        virtio, pci, networks = found
        assert set(virtio) <= {BLOCK, CONSOLE, ENTROPY, BALLOON}
        assert (virtio.count(BLOCK), virtio.count(CONSOLE)) == (4, 1)
        assert (pci, networks) == ([], [])

    async def test_disks_cannot_be_written(self, root: Root) -> None:
        """They are shared with other machines."""
        disks = [disk.path for disk in root.machine.drives]
        before = [_start_of(path) for path in disks]
        refused = await root.run(
            """
            import fcntl, json, os
            refused = []
            for name in "abcd":
                fd = os.open("/dev/vd" + name, os.O_RDONLY)
                try:
                    fcntl.ioctl(fd, 0x125d, (0).to_bytes(4, "little"))  # BLKROSET: not read-only
                except OSError:
                    pass
                try:
                    fd = os.open("/dev/vd" + name, os.O_WRONLY | os.O_DSYNC)
                    os.pwrite(fd, b"x" * 4096, 0)
                    os.fsync(fd)
                except OSError as error:
                    refused.append(error.errno)
            print(json.dumps(refused))
            """
        )
        assert len(refused) == 4
        assert [_start_of(path) for path in disks] == before

    async def test_its_end_and_what_it_writes_to_the_console_are_its_own_affair(
        self, root: Root, make_box: BoxMaker
    ) -> None:
        other = await make_box(SHELL)
        machine = root.machine
        assert machine._channel is not None
        flood = "import os\nfd = os.open('/dev/ttyS0', 1)\nwhile True: os.write(fd, b'flood ' * 99)"
        machine._channel.tell(
            do="run",
            id="flood",
            arguments=[root.python, "-I", "-S", "-c", flood],
            environment={},
            directory="/",
        )
        async with asyncio.timeout(PATIENCE_S):
            while "flood flood" not in machine.vmm.console.text():
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        assert len(machine.vmm.console.text()) <= KEPT_BYTES
        machine._channel.power_off()
        async with asyncio.timeout(PATIENCE_S):
            while not machine.is_dead:
                await asyncio.sleep(0.05)
        assert (await other.run_shell("echo serves")).output == "serves\n"


class TestHost:
    async def test_what_runs_a_machine_may_do_little(self, make_box: BoxMaker) -> None:
        box, other = await make_box(SHELL), await make_box(SHELL)
        pid = pid_of(box)
        status, status_of_other = _status(pid), _status(pid_of(other))
        assert status["Seccomp"] == "2"
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        if os.geteuid() == 0:
            users = {*status["Uid"].split(), *status_of_other["Uid"].split()}
            assert len(users) == 2, "each has a user of its own"
            assert "0" not in users
        drives = {os.path.realpath(disk.path) for disk in machine_of(box).drives}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if not target.startswith("/") or target.startswith(("/dev/", "/memfd:")):
                continue
            assert target in drives, "a file of the host is open"
            flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
            assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY, target


class TestClones:
    CODE = """
    import socket, time
    secret = bytearray(b"of the snapshot " * 1_000)
    client = socket.create_connection(("127.0.0.1", 9001))
    client.sendall(b"next")
    told = client.recv(100)
    if told == b"write":
        secret[:] = b"of this clone   " * 1_000
        open("/tmp/file", "w").write("of this clone")
    print(secret.count(b"of the snapshot "), open("/tmp/file").read() if told == b"write" else
          __import__("os").listdir("/tmp"), flush=True)
    time.sleep(1_000)
    """

    @pytest.fixture
    async def snapshot(self, microvm_driver: MicrovmDriver) -> AsyncIterator[MachineSandbox]:
        box = Box(await microvm_driver.create_snapshot(SPEC), PYTHON)
        box.start_python(self.CODE)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_S):
            connection, _ = await loop.sock_accept(box.sandbox.listener)
            connection.setblocking(False)
            with connection:
                assert await loop.sock_recv(connection, 100) == b"next"
                await microvm_driver.seal(box.sandbox)
        yield machine_of(box)
        await box.close()

    async def test_a_clone_s_memory_is_its_own(
        self, microvm_driver: MicrovmDriver, snapshot: MachineSandbox
    ) -> None:
        boxes = []
        for word, said in (
            (b"write", b"0 of this clone\n"),
            (b"read", b"1000 []\n"),
            (b"read", b"1000 []\n"),
        ):
            box = Box(await microvm_driver.clone(snapshot, SPEC), PYTHON)
            boxes.append(box)
            box.sandbox.start_runtime(RuntimeStart(environment={}, arguments=None, name="clone"))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(PATIENCE_S):
                connection, _ = await loop.sock_accept(box.sandbox.listener)
                connection.setblocking(False)
                with connection:
                    await loop.sock_recv(connection, 100)
                    await loop.sock_sendall(connection, word)
                    await box.until(lambda box=box: b"\n" in box.output)
            assert box.output == said
        for box in boxes:
            await box.close()


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _start_of(path: Path) -> str:
    """A digest of where the tests try to write; all of a disk has 16 GiB."""
    with path.open("rb") as file:
        return hashlib.sha256(file.read(1_000_000)).hexdigest()
