"""Real sandboxes in the hands of a test: run a program inside and hear what it says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firelet.model.layout import LIBRARY_PATH
from firelet.sandbox.driver import RuntimeExit, RuntimeStart, Sandbox, SandboxDriver, SandboxSpec

PYTHON = f"python3.{sys.version_info.minor}"
SHELL = "provided.al2023"
DIGEST = "c0de" * 16
OTHER_DIGEST = "07ce" * 16

MakeDriver = Callable[..., SandboxDriver]

_PATIENCE_S = 30.0


class Packages:
    """A code store: extracted packages by digest. Implements ``worker.node.CodeStore``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(mode=0o755, exist_ok=True)

    def add(self, digest: str, files: Mapping[str, str]) -> Path:
        directory = self.root / digest
        directory.mkdir(mode=0o755)
        for name, text in files.items():
            path = directory / name
            path.write_text(textwrap.dedent(text))
            path.chmod(0o755)
        return directory

    async def ensure(self, digest: str) -> Path:
        return self.root / digest

    async def discard(self, digest: str) -> None:
        raise AssertionError(f"nothing here is unwanted: {digest}")


@dataclass(frozen=True)
class Ran:
    """What a program inside a sandbox did."""

    output: str
    ending: RuntimeExit

    def json(self) -> Any:
        """The last line, which the program printed as JSON."""
        assert self.ending == RuntimeExit(0, None), self
        return json.loads(self.output.strip().splitlines()[-1])


class Box:
    """One sandbox: what it writes is collected, how its runtime ends is kept."""

    def __init__(self, sandbox: Sandbox, runtime: str) -> None:
        self.sandbox = sandbox
        self.runtime = runtime
        self.output = b""
        self.log = b""
        self.endings: list[RuntimeExit] = []
        self._changed = asyncio.Event()
        sandbox.watch(self._on_exit)
        loop = asyncio.get_running_loop()
        self._fds = (sandbox.output_fd, sandbox.log_fd)
        for fd in self._fds:
            loop.add_reader(fd, self._read, fd)

    def start(
        self,
        *arguments: str,
        directory: str = "/var/task",
        is_image: bool = False,
        **environment: str,
    ) -> None:
        """Starts a program by its path inside the sandbox."""
        self.sandbox.start_runtime(
            RuntimeStart(
                environment=environment,
                arguments=arguments,
                name="program",
                directory=directory,
                is_image=is_image,
            )
        )

    def start_python(self, code: str, *arguments: str) -> None:
        """Starts Python code on the sandbox's own interpreter."""
        program = f"/var/lang/bin/{self.runtime}"
        self.start(
            program, "-u", "-c", textwrap.dedent(code), *arguments, LD_LIBRARY_PATH=LIBRARY_PATH
        )

    def start_shell(self, script: str) -> None:
        self.start("/bin/sh", "-c", script, PATH="/usr/bin:/bin:/usr/sbin:/sbin")

    async def run_image(self, script: str, *arguments: str, directory: str = "/") -> Ran:
        """Runs a script of bash in a sandbox whose root is an image that has it."""
        self.output = b""
        program = ("/bin/bash", "-c", textwrap.dedent(script), "bash", *arguments)
        self.start(*program, directory=directory, is_image=True, PATH="/bin")
        return await self.finish()

    async def run_python(self, code: str, *arguments: str) -> Ran:
        """Runs Python code to its end."""
        self.output = b""
        self.start_python(code, *arguments)
        return await self.finish()

    async def run_shell(self, script: str) -> Ran:
        self.output = b""
        self.start_shell(script)
        return await self.finish()

    async def finish(self) -> Ran:
        ending = await self.ending()
        self._read(self._fds[0])
        self._read(self._fds[1])
        return Ran(self.output.decode(errors="replace"), ending)

    async def ending(self) -> RuntimeExit:
        """How the runtime ended."""
        await self.until(lambda: bool(self.endings))
        return self.endings.pop(0)

    async def says(self, text: str) -> None:
        """Until the program has printed ``text``."""
        await self.until(lambda: text.encode() in self.output)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def forget_pipes(self) -> None:
        """Stops collecting: the sandbox is about to close its pipes."""
        loop = asyncio.get_running_loop()
        for fd in self._fds:
            loop.remove_reader(fd)

    async def close(self) -> None:
        self.forget_pipes()
        await self.sandbox.stop()

    def _on_exit(self, ending: RuntimeExit) -> None:
        self.endings.append(ending)
        self._changed.set()

    def _read(self, fd: int) -> None:
        try:
            while data := os.read(fd, 65536):
                if fd == self._fds[0]:
                    self.output += data
                else:
                    self.log += data
        except BlockingIOError:
            self._changed.set()
            return
        asyncio.get_running_loop().remove_reader(fd)
        self._changed.set()


class BoxMaker:
    """Makes boxes with one driver and closes them."""

    def __init__(self, driver: SandboxDriver) -> None:
        self.driver = driver
        self._made: list[Box] = []

    async def __call__(
        self,
        runtime: str = PYTHON,
        *,
        code: str = DIGEST,
        memory_mib: int = 256,
        tmp_mib: int = 64,
        **more: Any,
    ) -> Box:
        spec = SandboxSpec(
            runtime=runtime, code=code, memory_mib=memory_mib, tmp_mib=tmp_mib, **more
        )
        box = Box(await self.driver.create(spec), runtime)
        self._made.append(box)
        return box

    async def close(self) -> None:
        for box in self._made:
            await box.close()


def processes_in(box: Box) -> list[int]:
    """The host's numbers of every process of a sandbox, by its pid namespace."""
    init = pid_of(box)
    namespace = _namespace_of(init)
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [init, *(n for n in numbers if n != init and _namespace_of(n) == namespace)]


def pid_of(box: Box) -> int:
    """The host's number of the sandbox's pid 1; of a machine, that of what runs it."""
    pidfd: int = box.sandbox.pidfd  # type: ignore[attr-defined]
    (line,) = [
        line
        for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
        if line.startswith("Pid:")
    ]
    return int(line.split()[1])


async def until_frozen(box: Box) -> None:
    """Returns when nothing of it runs any more: a process that runs is frozen at its next
    interruption, and one that waits for the CPU when it gets it."""
    async with asyncio.timeout(_PATIENCE_S):
        while not _is_frozen(box):
            await asyncio.sleep(0.01)


def _is_frozen(box: Box) -> bool:
    """By its control group. Where there is none its processes are stopped; but not its pid 1, which
    has stopped the others."""
    pid = pid_of(box)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "firelet" not in path:
            continue
        if controllers == "freezer":
            state = Path(f"/sys/fs/cgroup/freezer{path}/freezer.state").read_text()
            return state.strip() == "FROZEN"
        if not controllers:
            return "frozen 1" in Path(f"/sys/fs/cgroup{path}/cgroup.events").read_text()
    is_machine = _namespace_of(pid) == _namespace_of(os.getpid())
    return all(map(_is_stopped, [pid] if is_machine else processes_in(box)[1:]))


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def make_owned_directory(path: Path, owner: int) -> Path:
    """A new one that is not root's."""
    path.mkdir(mode=0o750)
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
    return path
