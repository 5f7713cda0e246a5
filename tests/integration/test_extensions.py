"""Extensions of all kinds in real sandboxes, through the API of the platform."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from extension_layers import (
    CLIENT,
    ECHO,
    FAILS,
    HANDLES_SIGNAL,
    SHELL,
    ExtensionLayers,
    invoke_to_the_end,
    is_idle,
    log_of,
    until_logged,
)
from firelet.sandbox.interpreters import discover
from running_platform import ACCOUNT, Deployer, Platform, archive_of, wait_until

pytest_plugins = ("platform_fixtures",)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "monitoring-extension"
NODES = sorted(name for name in discover() if name.startswith("nodejs"))
WAITS_FOR_NOBODY = """
def handler(event, context):
    if event["go"]:
        open("/tmp/go", "w").close()
    return "answered"
"""
SENDS_METRICS = """
import socket, time
def handler(event, context):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"orders:%d|c" % event, ("127.0.0.1", 8125))
    time.sleep(0.02)
"""
NODE = """
import http from "node:http";
const [host, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true });
const call = (method, path, headers, body) => new Promise((resolve, reject) => {
  const request = http.request({ host, port, method, path, headers, agent }, (answer) => {
    let text = "";
    answer.on("data", (data) => { text += data; });
    answer.on("end", () => resolve([answer, JSON.parse(text)]));
  });
  request.on("error", reject);
  request.end(body);
});
const base = "/2020-01-01/extension/";
const [answer] = await call("POST", base + "register", { "Lambda-Extension-Name": "inner" },
  JSON.stringify({ events: ["INVOKE"] }));
const identifier = answer.headers["lambda-extension-identifier"];
const heard = new Set();
(async () => {
  for (;;) {
    const [, event] = await call("GET", base + "event/next",
      { "Lambda-Extension-Identifier": identifier });
    heard.add(event.requestId);
  }
})();
export const handler = async (event, context) => {
  while (!heard.has(context.awsRequestId)) await new Promise((done) => setTimeout(done, 1));
  return heard.size;
};
"""


def until_flushed(platform: Platform, name: str, requests: set[str]) -> list[dict[str, Any]]:
    """What the environments that served ``requests`` flushed.

    One whose extension is not ready in time for the second request gets company; a spare that
    served none flushes too, and is left out.
    """

    def flushed() -> list[dict[str, Any]] | None:
        lines = [line[8:] for line in log_of(platform, name) if line.startswith("METRICS")]
        served = [each for each in map(json.loads, lines) if each["invocations"]]
        heard_of = {key for each in served for key in each["invocations"]}
        return served if requests <= heard_of else None

    found: list[dict[str, Any]] = wait_until(flushed, "all requests are flushed")
    return found


class TestExternal:
    def test_it_hears_of_invocations_and_of_the_shutdown(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            listener=CLIENT
            + """
identifier = register("INVOKE", "SHUTDOWN")
while True:
    event = next_event(identifier)
    say("HEARD", json.dumps(event))
    if event["eventType"] == "SHUTDOWN":
        break
"""
        )
        name = deploy(ECHO, Layers=[layer], Timeout=5)
        before = time.time()
        answer = platform.invoke(name, {"a": 1})
        after = time.time()
        assert json.loads(answer.body) == {"a": 1}
        deploy.update(name, ECHO + "\n")
        lines = until_logged(platform, name, '"SHUTDOWN"')
        assert "EXTENSION\tName: listener\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n" in lines
        heard = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("HEARD")]
        invoked = heard[0]
        assert set(invoked) == {
            "eventType", "deadlineMs", "requestId", "invokedFunctionArn", "tracing",
        }  # fmt: skip
        assert invoked["requestId"] == answer.request_id
        assert before - 0.001 <= invoked["deadlineMs"] / 1000 - 5 <= after
        assert invoked["invokedFunctionArn"].endswith(f":function:{name}")
        assert invoked["tracing"]["type"] == "X-Amzn-Trace-Id"
        assert heard[1]["eventType"] == "SHUTDOWN"
        assert heard[1]["shutdownReason"] == "spindown"

    def test_one_behind_a_linked_folder_takes_part(
        self, platform: Platform, deploy: Deployer
    ) -> None:
        client = platform.client("lambda")
        content = archive_of(
            ("elsewhere/in-shell", SHELL.encode(), 0o100755 << 16),
            ("extensions", b"elsewhere", 0o120777 << 16),
        )
        layer = client.publish_layer_version(
            LayerName="linked-extensions", Content={"ZipFile": content}
        )
        name = deploy(ECHO, Layers=[layer["LayerVersionArn"]], Timeout=5)
        answer = platform.invoke(name, 1)
        assert answer.body == b"1"
        until_logged(platform, name, f"shell got INVOKE {answer.request_id}")
        client.delete_layer_version(LayerName="linked-extensions", VersionNumber=layer["Version"])

    def test_one_in_shell_takes_part(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(**{"in-shell": SHELL})
        name = deploy(ECHO, Layers=[layer], Timeout=5)
        answers = [invoke_to_the_end(platform, name, number) for number in range(2)]
        assert [answer.body for answer in answers] == [b"0", b"1"]
        deploy.update(name, ECHO + "\n")
        lines = until_logged(platform, name, "shell got SHUTDOWN")
        assert [line for line in lines if line.startswith("shell got INVOKE")] == [
            f"shell got INVOKE {answer.request_id}\n" for answer in answers
        ]

    def test_it_has_the_environment_of_the_function_but_for_what_is_the_runtimes(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            teller=CLIENT
            + """
say("SEES", json.dumps(dict(os.environ)))
status, headers, body = call("POST", "/2020-01-01/extension/register", {"events": []},
                             Name=NAME, Accept_Feature="accountId")
say("TOLD", json.dumps(body), sorted(os.listdir("/proc/self/fd")), os.getcwd())
identifier = {key.lower(): value for key, value in headers.items()}[
    "lambda-extension-identifier"]
next_event(identifier)
"""
        )
        name = deploy(ECHO, Layers=[layer], Environment={"Variables": {"OWN": "mine"}})
        platform.invoke(name)
        lines = until_logged(platform, name, "TOLD")
        seen = json.loads(next(line for line in lines if line.startswith("SEES"))[5:])
        assert seen["OWN"] == "mine"
        assert seen["AWS_LAMBDA_FUNCTION_NAME"] == name
        assert {"AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API"} <= set(seen)
        hidden = {"AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"}
        hidden |= {"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_XRAY_CONTEXT_MISSING"}
        assert not hidden & set(seen)
        assert not [each for each in seen if each.startswith("_")]
        told = next(line for line in lines if line.startswith("TOLD"))
        assert json.loads(told[5 : told.index("}") + 1]) == {
            "functionName": name,
            "functionVersion": "$LATEST",
            "handler": "app.handler",
            "accountId": ACCOUNT,
        }
        assert told.endswith("['0', '1', '2', '3'] /\n")  # 3 is the listing's own

    def test_the_caller_has_the_answer_before_a_slow_extension_is_done(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            slow=CLIENT
            + """
identifier = register("INVOKE")
while True:
    next_event(identifier)
    while not os.path.exists("/tmp/go"):
        time.sleep(0.01)
    os.unlink("/tmp/go")
    say("SLOW DONE")
"""
        )
        name = deploy(WAITS_FOR_NOBODY, Layers=[layer], Timeout=20)
        first = platform.invoke(name, {"go": False})
        assert first.body == b'"answered"'
        # Nobody else writes the file: the answer has come while the extension was at work.
        assert not [line for line in log_of(platform, name) if line.startswith("SLOW DONE")]
        assert not [line for line in log_of(platform, name) if line.startswith("REPORT")]
        # The environment is not free: this one gets another.
        second = platform.invoke(name, {"go": True}, LogType="Tail")
        assert second.body == b'"answered"'
        assert "SLOW DONE" in second.log
        assert "REPORT RequestId" in second.log

    def test_the_report_includes_what_extensions_took(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            slow=CLIENT
            + """
identifier = register("INVOKE")
while True:
    next_event(identifier)
    time.sleep(0.4)
"""
        )
        name = deploy(ECHO, Layers=[layer], Timeout=20)
        log = platform.invoke(name, 1, LogType="Tail").log
        duration = float(log.partition("Duration: ")[2].partition(" ")[0])
        billed = int(log.partition("Billed Duration: ")[2].partition(" ")[0])
        assert duration >= 400
        assert billed >= duration

    def test_one_that_never_asks_again_costs_the_timeout_and_a_new_init(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            stuck=CLIENT
            + """
identifier = register("INVOKE", "SHUTDOWN")
event = next_event(identifier)
if not os.path.exists("/tmp/before"):
    open("/tmp/before", "w").close()
    time.sleep(60)
event = next_event(identifier)
say("THEN", event["eventType"], event.get("shutdownReason"))
while event["eventType"] != "SHUTDOWN":
    event = next_event(identifier)
"""
        )
        # With a whole CPU INIT takes a fraction of its time, on a busy machine too.
        name = deploy(ECHO, Layers=[layer], Timeout=3, MemorySize=1769)
        answer = platform.invoke(name, 1)
        assert (answer.body, answer.error) == (b"1", None)
        lines = until_logged(platform, name, "Status: timeout")
        assert any("Task timed out after 3.00 seconds" in line for line in lines)
        wait_until(lambda: is_idle(platform, name), "the environment is free again")
        # /tmp is kept, and INIT is repeated within the invocation.
        assert platform.invoke(name, 2).body == b"2"
        streams = platform.client("logs").describe_log_streams(logGroupName=f"/aws/lambda/{name}")
        assert len(streams["logStreams"]) == 1, "one environment has served both"

    def test_the_reason_of_a_shutdown_is_told(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            listener=CLIENT
            + """
identifier = register("SHUTDOWN")
event = next_event(identifier)
say("REASON", event["shutdownReason"], event["deadlineMs"] > time.time() * 1000)
"""
        )
        name = deploy(FAILS, Layers=[layer], Timeout=2, MemorySize=1769)
        answer = platform.invoke(name, "sleep")
        assert b"Sandbox.Timedout" in answer.body
        until_logged(platform, name, "REASON timeout True")
        answer = platform.invoke(name, "exit")
        assert b"Runtime.ExitError" in answer.body
        until_logged(platform, name, "REASON failure True")
        assert platform.invoke(name, "fine").body == b'"fine"'

    def test_the_runtime_gets_a_signal_to_end_and_then_the_extensions_are_told(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            listener=CLIENT
            + """
identifier = register("SHUTDOWN")
next_event(identifier)
say("EXTENSION TOLD")
"""
        )
        name = deploy(HANDLES_SIGNAL, Layers=[layer])
        platform.invoke(name)
        deploy.update(name, ECHO)
        lines = until_logged(platform, name, "EXTENSION TOLD")
        assert lines.index("RUNTIME TOLD\n") < lines.index("EXTENSION TOLD\n")

    def test_one_that_does_not_end_is_killed(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            stays=CLIENT
            + """
identifier = register("SHUTDOWN")
next_event(identifier)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if all(os.fork() for _ in range(20)):
    say("STAYS")
else:
    os.setsid()
time.sleep(1000)
"""
        )
        name = deploy(ECHO, Layers=[layer])
        platform.invoke(name)
        deploy.update(name, ECHO + "\n")
        until_logged(platform, name, "STAYS")
        # That nothing is left is checked at the end of the platform.

    def test_a_fork_bomb_ends_with_the_environment(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            bomb=CLIENT
            + """
identifier = register("SHUTDOWN")
if os.fork() == 0:
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(1)
while True:
    next_event(identifier)
    say("BOMB TOLD")
"""
        )
        name = deploy(ECHO, Layers=[layer], Timeout=10)
        platform.invoke(name, 1)
        deploy.update(name, ECHO + "\n")
        assert platform.invoke(deploy(ECHO), 2).body == b"2"


class TestInternal:
    def test_one_in_python_hears_of_invocations_only(
        self, platform: Platform, deploy: Deployer
    ) -> None:
        name = deploy(
            CLIENT
            + """
status, _, body = call("POST", "/2020-01-01/extension/register", {"events": ["SHUTDOWN"]},
                       Name="inner")
say("REFUSED", status, json.dumps(body))
identifier = register("INVOKE", name="inner")
heard = []
def listen():
    while True:
        heard.append(next_event(identifier)["requestId"])
threading.Thread(target=listen, daemon=True).start()

def handler(event, context):
    while context.aws_request_id not in heard:
        time.sleep(0.001)
    return len(heard)
""",
            Timeout=5,
        )
        assert invoke_to_the_end(platform, name).body == b"1"
        assert invoke_to_the_end(platform, name).body == b"2"
        lines = log_of(platform, name)
        assert "EXTENSION\tName: inner\tState: Ready\tEvents: [INVOKE]\n" in lines
        refused = next(line for line in lines if line.startswith("REFUSED"))
        assert refused.startswith("REFUSED 403 ")
        assert json.loads(refused[12:])["errorType"] == "Extension.InvalidEventType"

    @pytest.mark.skipif(not NODES, reason="no Node.js on this host")
    def test_one_in_node_takes_part(self, platform: Platform, deploy: Deployer) -> None:
        name = deploy({"app.mjs": NODE}, Runtime=NODES[-1] if NODES else "", Timeout=5)
        answers = [invoke_to_the_end(platform, name) for _ in range(3)]
        assert [answer.body for answer in answers] == [b"1", b"2", b"3"]
        lines = log_of(platform, name)
        assert "EXTENSION\tName: inner\tState: Ready\tEvents: [INVOKE]\n" in lines

    def test_registration_is_over_with_init(self, platform: Platform, deploy: Deployer) -> None:
        name = deploy(
            CLIENT
            + """
def handler(event, context):
    return call("POST", "/2020-01-01/extension/register", {"events": []}, Name="late")[::2]
"""
        )
        assert json.loads(platform.invoke(name).body) == [
            403,
            {
                "errorMessage": "Extension registration closed already",
                "errorType": "Extension.RegistrationClosed",
            },
        ]
        # Asked in vain: the environment is as any without extensions.
        assert platform.invoke(name).status == 200


class TestExample:
    def test_the_monitoring_extension_flushes_at_the_shutdown(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(monitor=(EXAMPLE / "extensions" / "monitor").read_text())
        name = deploy(SENDS_METRICS, Layers=[layer], Timeout=10)
        requests = {platform.invoke(name, number).request_id for number in (1, 2)}
        deploy.update(name, ECHO)
        found = until_flushed(platform, name, requests)
        assert {each["reason"] for each in found} == {"spindown"}
        invocations = {key: value for each in found for key, value in each["invocations"].items()}
        assert set(invocations) == requests
        for invocation in invocations.values():
            assert invocation["status"] == "success"
            assert invocation["durationMs"] >= 20
            assert invocation["billedDurationMs"] >= invocation["durationMs"]
            assert invocation["maxMemoryUsedMB"] > 0
        orders = [each["custom"]["orders"] for each in found]
        assert sum(each["count"] for each in orders) == 2
        assert sum(each["sum"] for each in orders) == 3.0
        for each in found:
            assert all(one["peakKB"] >= 0 and one["cpuMs"] >= 0 for one in each["processes"])
            assert max(one["peakKB"] for one in each["processes"]) > 1_000
            assert each["network"]["lo"]["sentBytes"] > 0
