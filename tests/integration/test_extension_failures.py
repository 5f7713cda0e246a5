"""Extensions that fail, and hostile ones: their own environment bears it."""

from __future__ import annotations

import json

import pytest

from extension_layers import (
    ASKS_ON,
    CLIENT,
    ECHO,
    SLEEPS,
    ExtensionLayers,
    until_logged,
)
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)


class TestFailures:
    @pytest.mark.parametrize(
        ("ending", "error_type", "message"),
        [
            ("sys.exit(0)", "Extension.Crash", "exit code 0"),
            ("sys.exit(3)", "Extension.Crash", "exit status 3"),
            ("os.kill(os.getpid(), 9)", "Extension.Crash", "signal: killed"),
            (
                "register(); call('POST', '/2020-01-01/extension/init/error', {}, Identifier=0)",
                "Extension.Crash",
                "exit code 0",
            ),
            (
                "i = register(); call('POST', '/2020-01-01/extension/init/error', {},"
                " Identifier=i, Function_Error_Type='Extension.Mine')",
                "Extension.InitError",
                "exit code 0",
            ),
            (
                "i = register(); call('POST', '/2020-01-01/extension/exit/error', {},"
                " Identifier=i, Function_Error_Type='Extension.Mine'); sys.exit(2)",
                "Extension.ExitError",
                "exit status 2",
            ),
        ],
    )
    def test_in_init_it_fails_the_environment(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        ending: str,
        error_type: str,
        message: str,
    ) -> None:
        layer = publish_extensions(bad=CLIENT + ending)
        name = deploy(ECHO, Layers=[layer], Timeout=5)
        answer = platform.invoke(name, 1, LogType="Tail")
        assert answer.error == "Unhandled"
        assert json.loads(answer.body) == {
            "errorType": error_type,
            "errorMessage": f"RequestId: {answer.request_id} Error: {message}",
        }
        assert f"Status: error\tError Type: {error_type}" in answer.log
        assert "EXTENSION\tName: bad\tState: " in answer.log

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("#!/opt/nothing/here\n", "no such file or directory"),
            ("neither a script nor a program", "exec format error"),
        ],
    )
    def test_one_that_cannot_be_started_fails_the_environment(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        text: str,
        reason: str,
    ) -> None:
        layer = publish_extensions(bad=text)
        name = deploy(ECHO, Layers=[layer], Timeout=5)
        answer = platform.invoke(name, 1, LogType="Tail")
        assert json.loads(answer.body) == {
            "errorType": "Extension.LaunchError",
            "errorMessage": f"RequestId: {answer.request_id} Error: fork/exec"
            f" /opt/extensions/bad: {reason}",
        }
        assert (
            "EXTENSION\tName: bad\tState: LaunchError\tEvents: []\tError Type: UnknownError\n"
            in answer.log
        )

    def test_during_an_invocation_it_fails_that(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(bad=CLIENT + "next_event(register('INVOKE')); sys.exit(7)")
        name = deploy(SLEEPS, Layers=[layer], Timeout=10)
        answer = platform.invoke(name, 1)
        assert json.loads(answer.body) == {
            "errorType": "Extension.Crash",
            "errorMessage": f"RequestId: {answer.request_id} Error: exit status 7",
        }

    def test_after_the_answer_it_costs_a_new_init(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            bad=CLIENT
            + """
events = serve(8080)
identifier = register("INVOKE")
subscribe(identifier, 8080, ["platform"])
next_event(identifier)
while not any(each["type"] == "platform.runtimeDone" for each in events):
    time.sleep(0.01)
sys.exit(7)
"""
        )
        name = deploy(ECHO, Layers=[layer], Timeout=10)
        assert platform.invoke(name, 1).body == b"1"
        until_logged(platform, name, "Status: error\tError Type: Extension.Crash")
        assert platform.invoke(name, 2).body == b"2"

    def test_there_may_be_ten(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        text = CLIENT + "next_event(register())"
        ten = {f"e{number}": text for number in range(10)}
        name = deploy(ECHO, Layers=[publish_extensions(**ten)], Timeout=20, MemorySize=512)
        assert platform.invoke(name, 1).body == b"1"
        eleven = {**ten, "e99": text}
        name = deploy(ECHO, Layers=[publish_extensions(**eleven)], Timeout=20, MemorySize=512)
        assert json.loads(platform.invoke(name, 1).body)["errorType"] == "Extension.LaunchError"


class TestHostileExtensions:
    """Whatever one does, its own environment bears it, and the platform and its neighbours do
    not notice."""

    @pytest.mark.parametrize(
        "deed",
        [
            # 10,000 connections, as many at a time as a process may have.
            """
for _ in range(20):
    held = []
    for _ in range(500):
        try:
            held.append(socket.create_connection(address, 1))
        except OSError:
            break
    for each in held:
        each.close()
""",
            # Half a head, and silence.
            """
held = [socket.create_connection(address) for _ in range(30)]
for each in held:
    each.sendall(b"POST /2020-01-01/extension/register HTTP/1.1\\r\\nlambda-exten")
""",
            # A body larger than any, and one that never comes.
            """
with socket.create_connection(address) as big:
    big.sendall(b"POST /2020-01-01/extension/register HTTP/1.1\\r\\nhost: a\\r\\n"
                b"content-length: 99999999\\r\\n\\r\\n")
    try:
        for _ in range(100):
            big.sendall(b"x" * 1000000)
    except OSError:
        pass
late = socket.create_connection(address)
late.sendall(b"PUT /2022-07-01/telemetry HTTP/1.1\\r\\ncontent-length: 10\\r\\n\\r\\nx")
""",
            # Garbage.
            """
with socket.create_connection(address) as bad:
    bad.sendall(bytes(range(256)) * 100)
""",
            # An answer that is not read.
            """
slow = socket.create_connection(address)
try:
    for _ in range(1000):
        slow.sendall(b"GET /2020-01-01/extension/event/next HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n")
except OSError:
    pass
""",
            # Identifiers by the thousand, all wrong; errors in the name of others.
            """
import uuid
for _ in range(1000):
    status, _, body = call("POST", "/2020-01-01/extension/exit/error", {},
                           Identifier=str(uuid.uuid4()), Function_Error_Type="Extension.Fake")
    assert (status, body["errorType"]) == (403, "Extension.UnknownExtensionIdentifier")
""",
            # Every wrong order that there is.
            """
assert call("POST", "/2020-01-01/extension/register", {}, Name=NAME)[0] == 403
def ask():
    return call("GET", "/2020-01-01/extension/event/next", Identifier=identifier)[0]
first = socket.create_connection(address)
first.sendall(b"GET /2020-01-01/extension/event/next HTTP/1.1\\r\\nhost: a\\r\\n"
              b"lambda-extension-identifier: " + identifier.encode() + b"\\r\\n\\r\\n")
assert [ask() for _ in range(100)] == [403] * 100
first.recv(65536)
""",
        ],
    )
    def test_it_harms_nobody(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        deed: str,
    ) -> None:
        layer = publish_extensions(
            hostile=CLIENT
            + "address = tuple(os.environ['AWS_LAMBDA_RUNTIME_API'].split(':'))\n"
            + "identifier = register('INVOKE')\n"
            + deed
            + ASKS_ON
        )
        name = deploy(ECHO, Layers=[layer], Timeout=20, MemorySize=1769)
        for number in range(3):
            answer = platform.invoke(name, number)
            # One that takes all connections of its sandbox may take them from its runtime.
            if "range(500)" not in deed:
                assert json.loads(answer.body) == number
        assert platform.invoke(deploy(ECHO), "neighbour").body == b'"neighbour"'
