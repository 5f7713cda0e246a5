"""One node: from a function version to a slot that has been through INIT."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.model.errors import FunctionError, InvalidRuntime, IsolationMissing, PlatformError
from firelet.model.function import FunctionVersion, InitializationType, LoggingConfig
from firelet.model.isolation import Isolation
from firelet.runtime.environment import SessionCredentials
from firelet.worker.node import (
    Node,
    NodeParts,
    format_stream_name,
    init_timeout_s,
)
from firelet.worker.runtime_starts import missing_runtime
from unit.versions import DIGEST, make_invocation, make_layer, make_version
from unit.worker.fake_sandbox import Exited, FakeDriver, Runtime

RUNTIMES = ("python3.13", "nodejs22.x", "provided.al2023")
INSTANCE = "0123456789abcdef" * 2
LAYERS = ("1a" * 32, "2b" * 32)
LAYERED = make_version(layers=tuple(map(make_layer, LAYERS)))


class Packages:
    """A code store whose only package is an empty directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ensured: list[str] = []
        self.discarded: list[str] = []

    async def ensure(self, digest: str) -> Path:
        self.ensured.append(digest)
        path = self.root / digest
        path.mkdir(exist_ok=True)
        return path

    async def discard(self, digest: str) -> None:
        self.discarded.append(digest)


class Stream:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def write(self, timestamp_ms: int, message: str) -> None:
        assert timestamp_ms > 0
        self.messages.append(message)


class Host:
    """A node on fakes; ``starts`` are the environments that its runtimes were started with."""

    def __init__(self, root: Path) -> None:
        self.starts: list[Any] = []
        self.driver = FakeDriver(self.run)
        self.packages = Packages(root)
        self.streams: dict[str, Stream] = {}
        self.credentials_error: Exception | None = None
        self.revoked: list[str] = []
        self.node = Node(
            NodeParts(
                driver=self.driver,  # type: ignore[arg-type]
                code=self.packages,
                runtimes=RUNTIMES,
                open_log=self.open_log,
                credentials=self.credentials,
                revoke=self.revoked.append,
            )
        )

    async def run(self, runtime: Runtime) -> None:
        self.starts.append(runtime.start)
        while True:
            event = await runtime.next()
            await runtime.respond(event, event.body)

    def open_log(self, version: FunctionVersion, name: str) -> Stream:
        assert version.name == "hello"
        return self.streams.setdefault(name, Stream())

    def credentials(self, version: FunctionVersion) -> SessionCredentials:
        if self.credentials_error is not None:
            raise self.credentials_error
        return SessionCredentials("ASIAEXAMPLE", "secret", version.role, 4e9)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    yield host
    await host.driver.close()


class TestActivate:
    async def test_a_version_is_ready_when_its_code_is_on_disk(self, host: Host) -> None:
        await host.node.activate(make_version())
        assert host.packages.ensured == [DIGEST]
        assert host.driver.prepared == [("python3.13", None)]

    async def test_what_isolates_it_is_made_ready_and_asked_for(self, host: Host) -> None:
        version = make_version(isolation=Isolation.MICROVM)
        await host.node.activate(version)
        slot = await host.node.start(version)
        assert host.driver.prepared == [("python3.13", Isolation.MICROVM)]
        assert [spec.isolation for spec in host.driver.specs] == [Isolation.MICROVM]
        await slot.close()

    async def test_a_version_whose_isolation_this_host_lacks_is_not_activated(
        self, host: Host
    ) -> None:
        host.driver.missing = IsolationMissing("no QEMU")
        with pytest.raises(IsolationMissing):
            await host.node.activate(make_version(isolation=Isolation.MICROVM))

    @pytest.mark.parametrize(
        ("runtime", "advice"),
        [
            ("python3.9", "install that version of Python"),
            ("nodejs18.x", "install that major version of Node.js"),
            ("java21", "one JDK with javac"),
            ("ruby3.4", "put its ruby on PATH"),
            ("dotnet8", "not supported yet"),
            (None, "not supported yet"),
        ],
    )
    async def test_a_missing_interpreter_is_told_with_what_to_do(
        self, host: Host, runtime: str | None, advice: str
    ) -> None:
        with pytest.raises(InvalidRuntime, match=advice):
            await host.node.activate(make_version(runtime=runtime))
        assert host.packages.ensured == []
        assert str(runtime) in missing_runtime(runtime)


class TestStart:
    async def test_a_slot_serves_at_once(self, host: Host) -> None:
        slot = await host.node.start(make_version(memory_mib=512, ephemeral_mib=1024))
        outcome = await slot.invoke(make_invocation(payload=b"7"))
        assert outcome.payload == b"7"
        (spec,) = host.driver.specs
        assert (spec.runtime, spec.code) == ("python3.13", DIGEST)
        assert (spec.memory_mib, spec.tmp_mib) == (512, 1024)
        await slot.close()

    async def test_the_log_goes_to_a_stream_that_the_runtime_knows(self, host: Host) -> None:
        slot = await host.node.start(make_version())
        ((name, stream),) = host.streams.items()
        (start,) = host.starts
        assert start.environment["AWS_LAMBDA_LOG_STREAM_NAME"] == name
        assert name.endswith(f"[$LATEST]{slot.id}")
        assert stream.messages[0].startswith("INIT_START ")
        await slot.close()

    async def test_the_runtime_has_the_role_s_credentials(self, host: Host) -> None:
        slot = await host.node.start(make_version())
        assert host.starts[0].environment["AWS_ACCESS_KEY_ID"] == "ASIAEXAMPLE"
        assert host.starts[0].arguments is None
        await slot.close()

    async def test_the_credentials_end_with_the_environment(self, host: Host) -> None:
        slot = await host.node.start(make_version())
        assert host.revoked == []
        await slot.close()
        assert host.revoked == ["ASIAEXAMPLE"]

    async def test_a_custom_runtime_starts_its_bootstrap(self, host: Host) -> None:
        (host.packages.root / DIGEST).mkdir()
        (host.packages.root / DIGEST / "bootstrap").write_text("#!/bin/sh\n")
        slot = await host.node.start(make_version(runtime="provided.al2023"))
        assert host.starts[0].arguments == ("/var/task/bootstrap",)
        await slot.close()

    async def test_a_custom_runtime_without_a_bootstrap_fails_each_invocation(
        self, host: Host
    ) -> None:
        slot = await host.node.start(make_version(runtime="provided.al2023"))
        outcome = await slot.invoke(make_invocation())
        assert outcome.error_type == "Runtime.InvalidEntrypoint"
        assert host.starts == []
        await slot.close()

    async def test_no_sandbox_is_made_when_the_role_has_no_credentials(self, host: Host) -> None:
        host.credentials_error = PlatformError("no such role")
        with pytest.raises(PlatformError):
            await host.node.start(make_version())
        assert host.driver.sandboxes == []

    async def test_a_sandbox_is_given_back_when_the_start_is_given_up(self, host: Host) -> None:
        async def hang(runtime: Runtime) -> None:
            host.starts.append(runtime.start)
            await runtime.hang()

        host.driver.program = hang
        starting = asyncio.create_task(host.node.start(make_version()))
        while not host.starts:
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert [sandbox.is_stopped for sandbox in host.driver.sandboxes] == [True]


class TestLayers:
    async def test_a_version_is_ready_when_its_layers_are_on_disk(self, host: Host) -> None:
        await host.node.activate(LAYERED)
        assert host.packages.ensured == [DIGEST, *LAYERS]

    async def test_the_sandbox_gets_them_in_their_order(self, host: Host) -> None:
        slot = await host.node.start(LAYERED)
        (spec,) = host.driver.specs
        assert (spec.code, spec.layers) == (DIGEST, LAYERS)
        await slot.close()

    @pytest.mark.parametrize(
        ("places", "started"),
        [
            ((LAYERS[1],), "/opt/bootstrap"),
            ((LAYERS[0], DIGEST), "/var/task/bootstrap"),
        ],
    )
    async def test_a_bootstrap_is_taken_from_the_package_or_else_from_a_layer(
        self, host: Host, places: tuple[str, ...], started: str
    ) -> None:
        for place in places:
            (host.packages.root / place).mkdir()
            (host.packages.root / place / "bootstrap").write_text("#!/bin/sh\n")
        version = make_version(runtime="provided.al2023", layers=LAYERED.layers)
        slot = await host.node.start(version)
        assert host.starts[0].arguments == (started,)
        await slot.close()

    async def test_one_in_use_goes_with_the_last_environment_of_any_function(
        self, host: Host
    ) -> None:
        one = await host.node.start(LAYERED)
        two = await host.node.start(make_version(name="hello", layers=LAYERED.layers[:1]))
        for digest in LAYERS:
            await host.node.discard_code(digest)
        await one.close()
        await host.node.close()
        assert host.packages.discarded == [LAYERS[1]]
        await two.close()
        await host.node.close()
        assert host.packages.discarded == [LAYERS[1], LAYERS[0]]


@pytest.mark.parametrize(("machine", "is_told"), [("x86_64", False), ("aarch64", True)])
async def test_another_architecture_than_the_host_s_is_told(
    host: Host,
    machine: str,
    is_told: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    await host.node.activate(make_version(architecture="x86_64"))
    assert ("is for x86_64 and runs on this host's arm64" in caplog.text) == is_told


async def test_the_sandbox_gets_the_file_systems_of_the_configuration(host: Host) -> None:
    config = {"Arn": "arn:aws:elasticfilesystem:x", "LocalMountPath": "/mnt/shared"}
    slot = await host.node.start(make_version(extras={"FileSystemConfigs": [config]}))
    (spec,) = host.driver.specs
    assert spec.file_systems == (("arn:aws:elasticfilesystem:x", "/mnt/shared"),)
    await slot.close()


class TestProvisioned:
    async def test_the_runtime_and_the_log_know_that_it_is_provisioned(self, host: Host) -> None:
        slot = await host.node.start(make_version(), InitializationType.PROVISIONED)
        variables = host.starts[0].environment
        assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"
        ((_, stream),) = host.streams.items()
        assert [line.split()[0] for line in stream.messages] == ["INIT_START", "INIT_REPORT"]
        assert re.fullmatch(
            r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\n", stream.messages[1]
        )
        assert slot.is_initialised
        await slot.invoke(make_invocation())
        assert "\tInit Duration: " in stream.messages[-1]
        await slot.close()

    async def test_an_init_that_fails_is_an_error_and_leaves_no_sandbox(self, host: Host) -> None:
        async def fail(runtime: Runtime) -> None:
            await runtime.fail_init(b'{"errorMessage":"no","errorType":"RuntimeError"}')
            raise Exited(1)

        host.driver.program = fail
        with pytest.raises(FunctionError) as caught:
            await host.node.start(make_version(), InitializationType.PROVISIONED)
        assert caught.value.error_type == "RuntimeError"
        assert [sandbox.is_stopped for sandbox in host.driver.sandboxes] == [True]
        assert host.revoked == ["ASIAEXAMPLE"]

    async def test_a_missing_interpreter_is_told(self, host: Host) -> None:
        with pytest.raises(InvalidRuntime):
            await host.node.start(make_version(runtime="java21"), InitializationType.PROVISIONED)

    @pytest.mark.parametrize(("timeout_s", "allowed_s"), [(3, 130.0), (130, 130.0), (900, 900.0)])
    def test_init_may_take_as_long_as_an_invocation_and_130_seconds_at_least(
        self, timeout_s: int, allowed_s: float
    ) -> None:
        version = make_version(timeout_s=timeout_s)
        assert init_timeout_s(version, InitializationType.PROVISIONED) == allowed_s
        assert init_timeout_s(version, InitializationType.ON_DEMAND) == 10.0


class TestDiscard:
    async def test_a_package_that_nothing_runs_goes_at_once(self, host: Host) -> None:
        await host.node.discard_code(DIGEST)
        assert host.packages.discarded == [DIGEST]

    async def test_a_package_in_use_goes_with_its_last_environment(self, host: Host) -> None:
        one, two = [await host.node.start(make_version()) for _ in range(2)]
        await host.node.discard_code(DIGEST)
        await one.close()
        await host.node.close()
        assert host.packages.discarded == []
        await two.close()
        await host.node.close()
        assert host.packages.discarded == [DIGEST]

    async def test_a_package_that_is_wanted_again_stays(self, host: Host) -> None:
        one = await host.node.start(make_version())
        await host.node.discard_code(DIGEST)
        two = await host.node.start(make_version())
        await one.close()
        await two.close()
        await host.node.close()
        assert host.packages.discarded == []

    async def test_a_start_that_failed_uses_no_package(self, host: Host) -> None:
        host.credentials_error = PlatformError("no such role")
        with pytest.raises(PlatformError):
            await host.node.start(make_version())
        await host.node.discard_code(DIGEST)
        assert host.packages.discarded == [DIGEST]


class TestStreamName:
    def test_it_is_the_day_the_version_and_the_instance(self) -> None:
        name = format_stream_name(make_version(version="7"), INSTANCE)
        assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/\[7\]{INSTANCE}", name)

    def test_a_shared_group_adds_the_function(self) -> None:
        version = make_version(logging=LoggingConfig(log_group="/shared"))
        name = format_stream_name(version, INSTANCE)
        assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/hello\[\$LATEST\]{INSTANCE}", name)
