"""A worker node on the real driver: from a package on disk to answers, in every kind of runtime."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from boxes import PYTHON, SHELL, Packages
from firelet.model.function import Code, FunctionVersion
from firelet.model.invocation import Outcome
from firelet.model.isolation import Isolation
from firelet.runtime.environment import SessionCredentials
from firelet.sandbox.driver import SandboxDriver
from firelet.sandbox.drivers import Drivers
from firelet.sandbox.host import HostFacts
from firelet.sandbox.interpreters import discover
from firelet.sandbox.namespaces import NamespacesDriver
from firelet.worker.node import Node, NodeParts
from firelet.worker.slots import Slot
from unit.versions import make_invocation, make_version

FORKED = sorted(name for name in discover() if name.startswith("python"))
NODE = next((name for name in discover() if name.startswith("nodejs")), None)


class Function:
    """One environment of one function, and its log."""

    def __init__(self, slot: Slot, log: list[str]) -> None:
        self.slot = slot
        self.log = log

    async def invoke(self, event: object = None) -> Outcome:
        free = asyncio.get_running_loop().create_future()
        self.slot.when_free(free.set_result)
        await free
        payload = json.dumps(event).encode()
        return await self.slot.invoke(make_invocation(self.slot.version, payload=payload))

    async def answer(self, event: object = None) -> Any:
        outcome = await self.invoke(event)
        assert outcome.function_error is None, outcome
        return json.loads(outcome.payload)


Deploy = Callable[..., Awaitable[Function]]


@pytest.fixture
async def deployed(
    driver: NamespacesDriver, packages: Packages, host: HostFacts
) -> AsyncIterator[Deploy]:
    """Makes functions whose environment has been through INIT."""
    made: list[Function] = []
    logs: dict[str, list[str]] = {}

    class Writer:
        def __init__(self, messages: list[str]) -> None:
            self.messages = messages

        def write(self, timestamp_ms: int, message: str) -> None:
            self.messages.append(message)

    def open_log(version: FunctionVersion, name: str) -> Writer:
        return Writer(logs.setdefault(version.code.digest, []))

    async def opened() -> SandboxDriver:
        return driver

    node = Node(
        NodeParts(
            driver=Drivers({Isolation.NAMESPACES: opened}, Isolation.NAMESPACES),
            code=packages,
            runtimes=host.interpreters,
            open_log=open_log,
            credentials=lambda _version: SessionCredentials("key", "secret", "token", 4e9),
            revoke=lambda _key: None,
        )
    )

    async def deploy(runtime: str, files: dict[str, str], **changes: Any) -> Function:
        digest = f"{len(made) + 1:064x}"
        packages.add(digest, files)
        code = Code(digest=digest, sha256="", size=1)
        version = make_version(runtime=runtime, code=code, **{"memory_mib": 256, **changes})
        slot = await node.start(version)
        made.append(Function(slot, logs[digest]))
        return made[-1]

    yield deploy
    for function in made:
        await function.slot.close()
    await node.close()


@pytest.mark.parametrize("runtime", FORKED)
async def test_a_python_function_answers_in_each_version(deployed: Deploy, runtime: str) -> None:
    source = """
    import os, sys
    def handler(event, context):
        print("heard", event)
        return [event, "python%d.%d" % sys.version_info[:2], sorted(os.listdir("/proc/self/fd"))]
    """
    function = await deployed(runtime, {"app.py": source})
    event, version, fds = await function.answer({"a": 1})
    assert (event, version) == ({"a": 1}, runtime)
    assert len(fds) <= 6  # 0 to 3, the Runtime API's connection, and the listing itself
    text = "".join(function.log)
    assert text.index("START ") < text.index("heard {'a': 1}") < text.index("END ")


async def test_a_node_function_answers_and_has_no_descriptor_of_the_platform(
    deployed: Deploy,
) -> None:
    if NODE is None:
        pytest.skip("Node.js is missing on PATH")
    source = """
    const fs = require("fs");
    exports.handler = async (event) => {
      const targets = [];
      for (const fd of fs.readdirSync("/proc/self/fd")) {
        try { targets.push(fs.readlinkSync("/proc/self/fd/" + fd)); } catch (error) {}
      }
      return [event, process.cwd(), targets.filter((target) => target.startsWith("/"))];
    };
    """
    function = await deployed(NODE, {"app.js": source}, handler="app.handler")
    event, directory, paths = await function.answer({"a": 1})
    assert (event, directory) == ({"a": 1}, "/var/task")
    assert set(paths) <= {"/dev/null", "/dev/urandom"}


async def test_a_custom_runtime_answers(deployed: Deploy) -> None:
    source = """\
    #!/usr/bin/python3
    import urllib.request
    base = "http://127.0.0.1:9001/2018-06-01/runtime/"
    while True:
        event = urllib.request.urlopen(base + "invocation/next")
        path = "invocation/%s/response" % event.headers["Lambda-Runtime-Aws-Request-Id"]
        urllib.request.urlopen(base + path, event.read()).read()
    """
    function = await deployed(SHELL, {"bootstrap": source}, memory_mib=512)
    assert await function.answer([1, 2]) == [1, 2]
    assert await function.answer("again") == "again"


async def test_tmp_outlives_a_timeout_and_globals_do_not(deployed: Deploy) -> None:
    source = """
    import os, time
    count = 0
    def handler(event, context):
        global count
        count += 1
        if event == "hang":
            open("/tmp/kept", "w").write("kept")
            time.sleep(1000)
        return [count, os.listdir("/tmp")]
    """
    function = await deployed(PYTHON, {"app.py": source}, timeout_s=1)
    assert await function.answer() == [1, []]
    outcome = await function.invoke("hang")
    assert outcome.error_type == "Sandbox.Timedout"
    assert await function.answer() == [1, ["kept"]]


async def test_memory_over_the_limit_is_an_exit_error_and_told_in_the_log(
    deployed: Deploy, needs_cgroups: None
) -> None:
    source = """
    def handler(event, context):
        return len(bytearray(event * 2**20))
    """
    function = await deployed(PYTHON, {"app.py": source}, memory_mib=128, timeout_s=20)
    outcome = await function.invoke(400)
    assert outcome.error_type == "Runtime.ExitError"
    assert json.loads(outcome.payload)["errorMessage"].endswith("signal: killed")
    assert "out of memory" in "".join(function.log)
    assert await function.answer(1) == 2**20
