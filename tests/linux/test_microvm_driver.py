"""Sandboxes of the microVM driver: real machines, emulated, held to what namespaces are held to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boxes import DIGEST, SHELL
from firelet.sandbox.driver import ExtensionStart, RuntimeStart, Sandbox, SandboxSpec
from firelet.sandbox.microvm.driver import MicrovmDriver
from sandbox_contract import SandboxContract


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
        spec = SandboxSpec(runtime=SHELL, code=DIGEST, memory_mib=128, tmp_mib=16)
        sandbox = await microvm_driver.create(spec)
        yield sandbox
        await sandbox.stop()
