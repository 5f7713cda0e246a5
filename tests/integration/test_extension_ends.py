"""Every end of an environment with extensions, and those restored from a snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from extension_layers import (
    CLIENT,
    ECHO,
    FAILS,
    HANDLES_SIGNAL,
    ExtensionLayers,
    invoke_to_the_end,
    is_frozen,
    log_of,
    until_logged,
)
from firelet.model.runtimes import supports_snap_start
from firelet.sandbox.interpreters import discover
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)


class TestEnds:
    """Every way in which an environment ends tells its extensions."""

    TELLS = (
        CLIENT
        + """
identifier = register("SHUTDOWN")
say("TOLD", next_event(identifier)["shutdownReason"])
"""
    )

    def ends(self, platform: Platform, name: str) -> list[str]:
        return [line for line in log_of(platform, name) if line.startswith("TOLD")]

    def test_idleness_and_age(self, make_platform: Callable[..., Platform]) -> None:
        for setting in ("IDLE_STOP_AFTER_S", "ENVIRONMENT_LIFETIME_S"):
            platform = make_platform(**{f"FIRELET_{setting}": "1"})
            deployer = Deployer(platform)
            layers = ExtensionLayers(platform)
            name = deployer(ECHO, Layers=[layers(tells=self.TELLS)])
            platform.invoke(name)
            until_logged(platform, name, "TOLD spindown")
            platform.stop()

    def test_deletion(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        name = deploy(ECHO, Layers=[publish_extensions(tells=self.TELLS)])
        platform.invoke(name)
        platform.client("lambda").delete_function(FunctionName=name)
        until_logged(platform, name, "TOLD spindown")

    def test_the_end_of_the_platform_while_frozen(
        self, make_platform: Callable[..., Platform]
    ) -> None:
        platform = make_platform()
        deployer = Deployer(platform)
        layers = ExtensionLayers(platform)
        name = deployer(ECHO, Layers=[layers(tells=self.TELLS)])
        platform.invoke(name)
        wait_until(lambda: is_frozen(platform, name), "it is frozen")
        platform.stop()
        platform.start()
        assert self.ends(platform, name) == ["TOLD spindown\n"]

    def test_provisioned_ones_too(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        name = deploy(ECHO, Layers=[publish_extensions(tells=self.TELLS)])
        client = platform.client("lambda")
        client.publish_version(FunctionName=name)
        client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1
        )

        def is_there() -> bool:
            found = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
            return bool(found["AvailableProvisionedConcurrentExecutions"] == 1)

        wait_until(is_there, "it is provisioned")
        assert platform.invoke(name, 1, Qualifier="1").body == b"1"
        client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
        client.delete_function(FunctionName=name)
        lines = until_logged(platform, name, "TOLD spindown")
        assert "EXTENSION\tName: tells\tState: Ready\tEvents: [SHUTDOWN]\n" in lines


class TestSnapStart:
    @pytest.fixture
    def runtime(self) -> str:
        runtimes = [one for one in discover() if supports_snap_start(one) and one[:6] == "python"]
        if not runtimes:
            pytest.skip("this host has no Python that SnapStart is for")
        return runtimes[-1]

    def publish(self, platform: Platform, name: str) -> Any:
        """The configuration of version 1, settled."""
        client = platform.client("lambda")
        client.publish_version(FunctionName=name)

        def settled() -> Any:
            found = client.get_function_configuration(FunctionName=name, Qualifier="1")
            return None if found["State"] == "Pending" else found

        return wait_until(settled, "the version is settled")

    def test_each_restored_environment_starts_its_own_external_ones(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        runtime: str,
    ) -> None:
        layer = publish_extensions(
            listener=CLIENT
            + """
events = serve(8080)
identifier = register("INVOKE", "SHUTDOWN")
subscribe(identifier, 8080, ["platform"])
say("STARTED", "AWS_CONTAINER_CREDENTIALS_FULL_URI" in os.environ)
while True:
    event = next_event(identifier)
    say("HEARD", event["eventType"])
    if event["eventType"] == "SHUTDOWN":
        end, last = time.monotonic() + 1.5, {"platform.initReport", "platform.restoreReport"}
        while time.monotonic() < end and not any(each["type"] in last for each in events):
            time.sleep(0.01)
        say("KINDS", *(each["type"] for each in events))
        break
"""
        )
        code = "N = []\n" + HANDLES_SIGNAL.replace("return None", "N.append(1); return len(N)")
        name = deploy(
            code,
            Layers=[layer],
            SnapStart={"ApplyOn": "PublishedVersions"},
            Runtime=runtime,
            Timeout=10,
            MemorySize=1769,
        )
        assert self.publish(platform, name)["State"] == "Active"
        for number in (1, 2):
            answer = invoke_to_the_end(platform, name, Qualifier="1")
            assert answer.body == b"%d" % number
        platform.client("lambda").delete_function(FunctionName=name)
        # There is one of $LATEST as well, which went through INIT.
        lines = until_logged(platform, name, "KINDS platform.restoreStart")
        assert "STARTED True\n" in lines
        assert "EXTENSION\tName: listener\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n" in lines
        heard = [line.split()[1] for line in lines if line.startswith("HEARD")]
        assert heard.count("INVOKE") == 2
        assert "RUNTIME TOLD\n" in lines
        kinds = next(line for line in lines if line.startswith("KINDS platform.rest")).split()[1:]
        assert {"platform.restoreRuntimeDone", "platform.restoreReport"} <= set(kinds)

    def test_one_that_fails_ends_the_environment(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        runtime: str,
    ) -> None:
        layer = publish_extensions(bad=CLIENT + "register(); sys.exit(3)")
        snap_start = {"ApplyOn": "PublishedVersions"}
        name = deploy(ECHO, Layers=[layer], SnapStart=snap_start, Runtime=runtime)
        assert self.publish(platform, name)["State"] == "Active"
        with pytest.raises(ClientError) as caught:
            platform.invoke(name, Qualifier="1")
        assert "Extension.Crash" in caught.value.response["Error"]["Message"]

    def test_the_end_of_the_runtime_is_told_and_the_next_one_is_restored(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        runtime: str,
    ) -> None:
        layer = publish_extensions(
            tells=CLIENT
            + """
identifier = register("SHUTDOWN")
say("TOLD", next_event(identifier)["shutdownReason"])
"""
        )
        name = deploy(
            FAILS,
            Layers=[layer],
            SnapStart={"ApplyOn": "PublishedVersions"},
            Runtime=runtime,
            Timeout=2,
            MemorySize=1769,
        )
        self.publish(platform, name)
        assert b"Runtime.ExitError" in platform.invoke(name, "exit", Qualifier="1").body
        until_logged(platform, name, "TOLD failure")
        assert b"Sandbox.Timedout" in platform.invoke(name, "sleep", Qualifier="1").body
        until_logged(platform, name, "TOLD timeout")
        assert platform.invoke(name, "fine", Qualifier="1").body == b'"fine"'

    def test_an_internal_one_may_register_in_an_after_restore_hook(
        self, platform: Platform, deploy: Deployer, runtime: str
    ) -> None:
        name = deploy(
            CLIENT
            + """
from snapshot_restore_py import register_after_restore
heard = []

def listen(identifier):
    while True:
        heard.append(next_event(identifier))

@register_after_restore
def restored():
    identifier = register("INVOKE", name="inner")
    threading.Thread(target=listen, args=[identifier], daemon=True).start()

def handler(event, context):
    while not heard:
        time.sleep(0.001)
    return [heard.pop()["requestId"] == context.aws_request_id, len(heard)]
""",
            SnapStart={"ApplyOn": "PublishedVersions"},
            Runtime=runtime,
            Timeout=10,
        )
        assert self.publish(platform, name)["State"] == "Active"
        for _ in range(2):
            assert json.loads(platform.invoke(name, Qualifier="1").body) == [True, 0]
        lines = until_logged(platform, name, "EXTENSION\tName: inner")
        assert "EXTENSION\tName: inner\tState: Ready\tEvents: [INVOKE]\n" in lines

    def test_an_internal_one_is_refused_before_the_snapshot(
        self, platform: Platform, deploy: Deployer, runtime: str
    ) -> None:
        name = deploy(
            CLIENT
            + """
answer = call("POST", "/2020-01-01/extension/register", {"events": []}, Name="inner")[::2]
def handler(event, context):
    return answer
""",
            SnapStart={"ApplyOn": "PublishedVersions"},
            Runtime=runtime,
            Timeout=10,
        )
        self.publish(platform, name)
        status, body = json.loads(platform.invoke(name, Qualifier="1").body)
        assert (status, body["errorType"]) == (403, "Extension.RegistrationClosed")
        assert "restore" in body["errorMessage"]
        assert any("Internal extensions cannot" in line for line in log_of(platform, name))
