"""The fake keeps the contract of a sandbox."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest

from firelet.sandbox.driver import ExtensionStart, RuntimeStart
from sandbox_contract import SandboxContract
from unit.worker.fake_sandbox import Exited, FakeSandbox, Runtime


async def run(runtime: Runtime) -> None:
    """Does what the environment of the start says."""
    kind = runtime.start.environment["KIND"]
    if kind == "exit 3":
        raise Exited(3)
    if kind == "killed":
        raise Exited(signal=signal.SIGKILL)
    if kind == "print":
        runtime.print("printed\n")
    elif kind == "log":
        runtime.log("logged\n")
    else:
        await runtime.hang()


async def print_own(runtime: Runtime) -> None:
    runtime.print("OWN={OWN}\n".format(**runtime.start.environment))


class TestFakeSandbox(SandboxContract):
    def start_of(self, kind: str) -> RuntimeStart:
        return RuntimeStart(environment={"KIND": kind}, arguments=None, name="python3.13")

    def runtime_api_port(self, sandbox: FakeSandbox) -> int:
        return int(sandbox.address[1])

    def extension_of(self, kind: str) -> ExtensionStart:
        return ExtensionStart(
            name=kind, path=f"/opt/extensions/{kind}", environment={"OWN": "mine"}
        )

    @pytest.fixture
    async def sandbox(self) -> AsyncIterator[FakeSandbox]:
        sandbox = FakeSandbox(run, extensions={"print": print_own, "hang": Runtime.hang})
        yield sandbox
        await sandbox.stop()
