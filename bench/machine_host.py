"""One process with both sandbox drivers and a node, to measure machines beside namespaces.

What it is: the same parts as the platform's, without its HTTP API, registry and logs. What it is
not: a measurement; ``machines`` and ``machine_memory`` have those.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from firelet.app.driver import DriverParts, open_microvm_driver, open_namespaces_driver
from firelet.app.microvm import open_disks
from firelet.linux.kvm import KvmVerdict
from firelet.model.function import Code, FunctionVersion, LoggingConfig, State
from firelet.model.isolation import Isolation
from firelet.runtime.credentials import SessionCredentials
from firelet.sandbox.driver import Sandbox, SandboxDriver, SandboxSpec
from firelet.sandbox.drivers import Drivers
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.host import HostFacts
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.driver import MicrovmDriver
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from firelet.sandbox.microvm.offer import MicrovmOffer, MicrovmProbe
from firelet.worker.node import Node, NodeParts

PIECE_BYTES = 64 * 1024
MEMORY_MIB = 1_769  # one processor's worth, as AWS counts
ACCESS_POINT = "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-0"

_PYTHON = f"""\
import json, os, time

PIECE = b"x" * {PIECE_BYTES}


def handler(event, context):
    return event


def work(event, context):
    for number in range(300_000):
        event += number * number % 7
    for _ in range(200):
        json.loads(json.dumps({{"numbers": list(range(300)), "text": "x" * 500}}))


def use(event, context):
    return len(b"1" * event)


def bulk(event, context):
    for _ in range(event):
        yield PIECE


def files(event, context):
    place, pieces, count = event
    marks = [time.perf_counter()]

    def mark():
        marks.append(time.perf_counter())

    with open(place + "/large", "wb") as file:
        for _ in range(pieces):
            file.write(PIECE)
    mark()
    with open(place + "/large", "rb") as file:
        while file.read(len(PIECE)):
            continue
    mark()
    for _ in range(count):
        os.stat(place + "/large")
    mark()
    for number in range(count):
        os.close(os.open(f"{{place}}/{{number}}", os.O_WRONLY | os.O_CREAT))
    mark()
    for number in range(count):
        os.close(os.open(f"{{place}}/{{number}}", os.O_RDONLY))
    mark()
    for number in range(count):
        os.unlink(f"{{place}}/{{number}}")
    mark()
    return [end - begin for begin, end in zip(marks, marks[1:])]
"""
_NODE = "export const handler = async (event) => event;\n"
# The base system of guests has a Python; no client of firelet's is in it.
_BOOTSTRAP = """\
#!/usr/bin/python3 -ISs
import os, socket

host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
connection = socket.create_connection((host, int(port)))
read = connection.makefile("rb")


def ask(method, path, body):
    head = f"{method} /2018-06-01/runtime/invocation/{path} HTTP/1.1\\r\\nHost: {host}\\r\\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
    fields = {}
    while line := read.readline().strip():
        name, _, value = line.decode().partition(":")
        fields[name.lower()] = value.strip()
    return fields, read.read(int(fields.get("content-length", 0)))


while True:
    fields, event = ask("GET", "next", b"")
    ask("POST", fields["lambda-runtime-aws-request-id"] + "/response", event)
"""
_PACKAGES = {"app.py": _PYTHON, "app.mjs": _NODE, "bootstrap": _BOOTSTRAP}
_DIGEST = "0" * 64


class _Code:
    """The code store with one package, which has the functions of all runtimes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def fill(self) -> None:
        package = self.root / _DIGEST
        package.mkdir(parents=True)
        for name, text in _PACKAGES.items():
            (package / name).write_text(text)
            (package / name).chmod(0o755)
        for path in (self.root, package):
            path.chmod(0o755)

    async def ensure(self, digest: str) -> Path:
        return self.root / digest

    async def discard(self, digest: str) -> None:
        raise AssertionError(f"nothing is unwanted here: {digest}")


class _NoLog:
    def write(self, timestamp_ms: int, message: str) -> None:
        """Lines are made, and not kept."""


class Booting:
    """A ``SandboxDriver`` whose machines are booted for their function: what a start costs where
    nothing was made ahead. ``began_at`` and ``embryo_at`` are of the last one, by ``perf_counter``.

    This is the one place that takes the driver apart, since the driver never does this: it boots
    to make embryos only.
    """

    def __init__(self, driver: MicrovmDriver) -> None:
        self._driver = driver
        self.began_at = self.embryo_at = 0.0

    async def open(self) -> None:
        """The driver has an owner."""

    def expect(self, runtime: str) -> None:
        self._driver.expect(runtime)

    async def make(self, spec: SandboxSpec) -> tuple[MachineSandbox, Interpreter]:
        """A machine with the function's files that has not been started; the caller stops it."""
        driver = self._driver
        interpreter, slots = await driver._prepare(spec)
        runtime = await asyncio.to_thread(driver._runtime_disk, interpreter)
        drives = (driver._base, runtime.disk, *slots)
        return await driver._make_first(driver._size(spec), drives), interpreter

    async def create(self, spec: SandboxSpec) -> Sandbox:
        machine, interpreter = await self.make(spec)
        try:
            self.began_at = time.perf_counter()
            await self._driver._templates.boot(machine, interpreter)
            self.embryo_at = time.perf_counter()
            await machine.assign(spec)
        except BaseException:
            await machine.stop()
            raise
        return machine

    async def create_snapshot(self, spec: SandboxSpec) -> Sandbox:
        raise AssertionError("nothing is put to rest here")

    async def seal(self, snapshot: Sandbox) -> None:
        raise AssertionError("nothing is put to rest here")

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> Sandbox:
        raise AssertionError("nothing is put to rest here")

    async def close(self) -> None:
        """The driver has an owner."""


class Noting:
    """A ``SandboxDriver`` that notes when the last sandbox was ready."""

    def __init__(self, driver: SandboxDriver) -> None:
        self._driver = driver
        self.ready_at = 0.0

    async def open(self) -> None:
        """The driver has an owner."""

    def expect(self, runtime: str) -> None:
        self._driver.expect(runtime)

    async def create(self, spec: SandboxSpec) -> Sandbox:
        return self._note(await self._driver.create(spec))

    async def create_snapshot(self, spec: SandboxSpec) -> Sandbox:
        return await self._driver.create_snapshot(spec)

    async def seal(self, snapshot: Sandbox) -> None:
        await self._driver.seal(snapshot)

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> Sandbox:
        return self._note(await self._driver.clone(snapshot, spec))

    async def close(self) -> None:
        """The driver has an owner."""

    def _note(self, sandbox: Sandbox) -> Sandbox:
        self.ready_at = time.perf_counter()
        return sandbox


@dataclass(frozen=True, slots=True)
class Found:
    """What the host has for machines."""

    offer: MicrovmOffer
    verdict: KvmVerdict
    config: MicrovmConfig
    facts: HostFacts


@dataclass(frozen=True, slots=True)
class Host:
    """Nodes over the same driver: ``node`` as the platform has it, ``booting_node`` whose machines
    are booted, and ``namespaces`` for the comparison."""

    found: Found
    driver: MicrovmDriver
    noting: Noting
    booting: Booting
    node: Node
    booting_node: Node
    namespaces: Node


@contextlib.asynccontextmanager
async def open_host(found: Found, scratch: Path, shared: Path | None = None) -> AsyncIterator[Host]:
    """Everything open, with ``scratch`` as the data directory, into which the images are linked,
    and ``shared`` behind ``ACCESS_POINT``. All of it is ended again."""
    scratch.chmod(0o755)  # machines have users of their own
    code = _Code(scratch / "code")
    code.fill()
    assert found.offer.image is not None
    images = scratch / "guest-images"
    _link(found.config.images / found.offer.image.digest, images / found.offer.image.digest)
    facts = found.facts
    parts = DriverParts(
        code_store=code.root,
        disks=open_disks(scratch),
        is_rootless=facts.is_rootless,
        cgroup_version=facts.cgroup_version,
        interpreters=facts.interpreters,
        embryos=Bounds(least=1, most=2),
        microvms=MicrovmProbe(replace(found.config, images=images), found.verdict),
        file_systems={} if shared is None else {ACCESS_POINT: shared},
    )
    driver = await open_microvm_driver(parts)
    assert isinstance(driver, MicrovmDriver)
    noting, booting = Noting(driver), Booting(driver)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(driver.close)
        processes = await open_namespaces_driver(parts)
        stack.push_async_callback(processes.close)
        nodes = []
        for each in (noting, booting, processes):
            node = await _make_node(each, code, facts.interpreters)
            stack.push_async_callback(node.close)
            nodes.append(node)
        yield Host(found, driver, noting, booting, *nodes)


def make_version(
    runtime: str,
    *,
    handler: str = "app.handler",
    has_snap_start: bool = False,
    mount_path: str | None = None,
) -> FunctionVersion:
    """Of a function that answers with its event, streams (``app.bulk``), has the processor to do
    something (``app.work``), uses memory (``app.use``), or tells the seconds of each kind of work
    on files (``app.files``)."""
    version = FunctionVersion(
        account="000000000000",
        region="us-east-1",
        name="bench",
        role="arn:aws:iam::000000000000:role/bench",
        runtime=runtime,
        handler=handler,
        code=Code(digest=_DIGEST, sha256="", size=0),
        logging=LoggingConfig(log_group="/aws/lambda/bench"),
        memory_mib=MEMORY_MIB,
        timeout_s=60,
        last_modified="",
        revision_id="",
        state=State.ACTIVE,
        extras={}
        if mount_path is None
        else {"FileSystemConfigs": [{"Arn": ACCESS_POINT, "LocalMountPath": mount_path}]},
    )
    if has_snap_start:
        return replace(version, version="1", snap_start="PublishedVersions")
    return version


def make_spec(version: FunctionVersion) -> SandboxSpec:
    """What the node asks its driver for."""
    return SandboxSpec(
        runtime=version.runtime or "",
        code=_DIGEST,
        memory_mib=version.memory_mib,
        tmp_mib=version.ephemeral_mib,
    )


def vmm_pid(sandbox: Sandbox) -> int:
    """The process that runs a machine."""
    assert isinstance(sandbox, MachineSandbox)
    text = Path(f"/proc/self/fdinfo/{sandbox.pidfd}").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Pid:")]
    return int(line.split()[1])


async def _make_node(
    driver: SandboxDriver, code: _Code, interpreters: Mapping[str, Interpreter]
) -> Node:
    async def give() -> SandboxDriver:
        return driver

    # Closed by nobody: the driver has an owner.
    drivers = Drivers({Isolation.MICROVM: give}, Isolation.MICROVM)
    await drivers.open()
    return Node(
        NodeParts(
            driver=drivers,
            code=code,
            runtimes=interpreters.keys(),
            open_log=lambda _version, _stream: _NoLog(),
            credentials=lambda _version: SessionCredentials("", "", "", math.inf),
            revoke=lambda _key: None,
        )
    )


def _link(source: Path, target: Path) -> None:
    """The same files once more, if the file system lets them be shared."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            (target / file.name).symlink_to(file.absolute())
