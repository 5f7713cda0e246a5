"""Extensions are within the same walls as the function; telemetry does not open them."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from boxes import PYTHON, Box, BoxMaker, Packages
from firelet.sandbox.driver import ExtensionStart, RuntimeExit

CODE = "ex7e" * 16
PATH = {"PATH": "/usr/bin:/bin"}
LOOK = """\
#!/bin/sh
grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'
echo uid $(id -u) $(id -g)
ls /proc/self/fd | tr '\\n' ' '; echo
mount -t tmpfs none /tmp 2>/dev/null && echo mounted
unshare -n true 2>/dev/null && echo unshared
ls /.firelet 2>/dev/null | head -1
for fd in /proc/1/fd/*; do readlink $fd; done 2>/dev/null
kill -9 1 2>/dev/null
echo end
"""


class Watching:
    """Hears of one extension, and reads what it writes."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.failed: str | None = None

    def on_launch_failed(self, name: str, reason: str) -> None:
        self.failed = reason
        self.ended.set()

    def on_exited(self, name: str, ending: RuntimeExit) -> None:
        self.ended.set()

    async def run(self, box: Box, path: str) -> str:
        start = ExtensionStart(name="ext", path=path, environment=PATH)
        fd = box.sandbox.start_extension(start, self)
        try:
            async with asyncio.timeout(20):
                await self.ended.wait()
            assert self.failed is None
            return os.read(fd, 65_536).decode()
        finally:
            os.close(fd)


@pytest.fixture
async def looking(make_box: BoxMaker, packages: Packages) -> Box:
    packages.add(CODE, {"look": LOOK})
    return await make_box(PYTHON, code=CODE)


async def test_an_extension_has_what_the_function_has_and_no_more(looking: Box) -> None:
    lines = (await Watching().run(looking, "/var/task/look")).splitlines()
    ran = await looking.run_shell("echo uid $(id -u) $(id -g)")
    assert lines[:4] == [f"Cap{kind}:{'0' * 16}" for kind in ("Inh", "Prm", "Eff")] + [
        f"CapAmb:{'0' * 16}"
    ]
    assert lines[4] == "NoNewPrivs:1"
    assert lines[5] == "Seccomp:2"
    assert lines[6] == ran.output.strip()
    assert lines[7].split() == ["0", "1", "2", "3"]  # 3 is the listing's own
    # Nothing could be mounted, unshared, seen of the store or of pid 1, or done to it.
    assert lines[8:] == ["end"]
    assert (await looking.run_shell("exit 3")).ending == RuntimeExit(3, None)


async def test_a_connection_for_telemetry_reaches_the_sandbox_and_nothing_else(box: Box) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as outside, pytest.raises(ConnectionRefusedError):
        await box.sandbox.connect(outside.getsockname()[1])
    box.start_python(
        """
        import socket
        server = socket.create_server(("127.0.0.1", 8080))
        print("listening", flush=True)
        print(server.accept()[0].recv(100), flush=True)
        """
    )
    await box.says("listening")
    with await box.sandbox.connect(8080) as made:
        await loop.sock_sendall(made, b"told")
        await box.says("told")
