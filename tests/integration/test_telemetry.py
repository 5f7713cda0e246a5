"""The Telemetry and Logs APIs in real sandboxes: what subscribers get, and hostile ones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from extension_layers import CLIENT, ExtensionLayers, invoke_to_the_end, until_logged
from firelet.sandbox.interpreters import discover
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

# An extension that keeps what it is told, and writes it down when it is told to end.
COLLECTS = (
    CLIENT
    + """
events = serve(8080)
identifier = register("SHUTDOWN")
say("ANSWER", json.dumps(subscribe(identifier, 8080, TYPES, **MORE)[::2]))
say("AGAIN", json.dumps(subscribe(identifier, 8080, ["platform"])[::2]))
next_event(identifier)
deadline = time.monotonic() + 1.5
while time.monotonic() < deadline and not any(e["type"] == "platform.report" for e in events):
    time.sleep(0.01)
for event in events:
    say("GOT", json.dumps(event))
say("ALL TOLD")
"""
)


def collector(types: list[str], **more: Any) -> str:
    return COLLECTS.replace("TYPES", repr(types)).replace("MORE", repr(more))


# A whole CPU: at its end an extension has two seconds to say what it was told.
MEMORY = 1_769
NODES = sorted(name for name in discover() if name.startswith("nodejs"))
STREAMS = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write("one");
  await new Promise((done) => setTimeout(done, 60));
  stream.write("two");
  stream.end();
});
"""
PRINTS = """
print("in init")
def handler(event, context):
    print("in handler")
    return "four"
"""


def collected(
    platform: Platform,
    deploy: Deployer,
    publish_extensions: ExtensionLayers,
    code: str = PRINTS,
    *,
    types: list[str] | None = None,
    error: str | None = None,
    **more: Any,
) -> tuple[list[dict[str, Any]], list[str], str]:
    """What the subscriber was told of one environment with one invocation; its log; request id."""
    wanted = types or ["platform", "function", "extension"]
    layer = publish_extensions(collector=collector(wanted, **more))
    name = deploy(code, Layers=[layer], Timeout=3, MemorySize=MEMORY)
    answer = platform.invoke(name, 1)
    assert answer.error == error
    deploy.update(name, "def handler(event, context):\n    return 1\n")
    lines = until_logged(platform, name, "ALL TOLD")
    events = [json.loads(line[4:]) for line in lines if line.startswith("GOT")]
    return events, lines, answer.request_id


class TestTelemetry:
    def test_every_event_of_a_good_life_is_told_in_order(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        events, lines, request_id = collected(platform, deploy, publish_extensions)
        assert 'ANSWER [200, "OK"]\n' in lines
        refused = next(line for line in lines if line.startswith("AGAIN"))
        assert json.loads(refused[6:])[0] == 400
        assert (
            "TELEMETRY\tName: collector\tState: Subscribed\tTypes: [Platform, Function,"
            + (" Extension]\n")
            in lines
        )
        platform_events = [each for each in events if each["type"].startswith("platform.")]
        assert [each["type"] for each in platform_events] == [
            "platform.initStart",
            "platform.telemetrySubscription",
            "platform.initRuntimeDone",
            "platform.extension",
            "platform.initReport",
            "platform.start",
            "platform.runtimeDone",
            "platform.report",
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", e["time"]) for e in events)
        records = {each["type"]: each["record"] for each in platform_events}
        start = records["platform.initStart"]
        assert (start["initializationType"], start["phase"]) == ("on-demand", "init")
        assert {"functionName", "functionVersion", "instanceId", "instanceMaxMemory"} <= set(start)
        assert records["platform.initRuntimeDone"]["status"] == "success"
        assert records["platform.extension"] == {
            "name": "collector", "state": "Ready", "events": ["SHUTDOWN"],
        }  # fmt: skip
        assert records["platform.initReport"]["metrics"]["durationMs"] > 0
        assert records["platform.start"]["requestId"] == request_id
        assert records["platform.start"]["version"] == "$LATEST"
        assert records["platform.start"]["tracing"]["type"] == "X-Amzn-Trace-Id"
        done = records["platform.runtimeDone"]
        assert (done["requestId"], done["status"]) == (request_id, "success")
        assert done["metrics"]["producedBytes"] == len('"four"')
        assert [span["name"] for span in done["spans"]] == [
            "responseLatency", "responseDuration", "runtimeOverhead",
        ]  # fmt: skip
        report = records["platform.report"]
        assert report["metrics"]["billedDurationMs"] >= report["metrics"]["durationMs"]
        assert report["metrics"]["initDurationMs"] > 0
        assert [span["name"] for span in report["spans"]] == ["extensionOverhead"]
        written = [(e["type"], e["record"]) for e in events if not e["type"].startswith("plat")]
        assert ("function", "in init") in written
        assert ("function", "in handler") in written
        assert ("extension", 'ANSWER [200, "OK"]') in written

    def test_an_internal_extension_hears_what_was_before_it(
        self, platform: Platform, deploy: Deployer
    ) -> None:
        name = deploy(
            CLIENT
            + """
say("first of all")
events = serve(8080)
identifier = register("INVOKE", name="inner")
subscribe(identifier, 8080, ["platform", "function"])
threading.Thread(target=lambda: [next_event(identifier) for _ in range(9)], daemon=True).start()

def handler(event, context):
    while not any(each["type"] == "platform.start" for each in events):
        time.sleep(0.001)
    return events
""",
            Timeout=5,
        )
        events = json.loads(platform.invoke(name).body)
        assert events[0]["type"] == "platform.initStart"
        assert ["function", "first of all"] in [[each["type"], each["record"]] for each in events]

    def test_over_tcp_each_event_is_a_line(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            tcp=CLIENT
            + """
listener = socket.create_server(("127.0.0.1", 4243))
identifier = register("SHUTDOWN")
subscribe(identifier, 4243, ["platform"], destination={"protocol": "TCP", "port": 4243})
lines = []
def collect():
    with listener.accept()[0].makefile("rb") as source:
        for line in source:
            lines.append(line)
threading.Thread(target=collect, daemon=True).start()
next_event(identifier)
while not any(b"platform.report" in line for line in lines):
    time.sleep(0.01)
say("KINDS", *(json.loads(line)["type"] for line in lines))
"""
        )
        name = deploy(PRINTS, Layers=[layer], MemorySize=MEMORY)
        platform.invoke(name)
        deploy.update(name, PRINTS + "\n")
        lines = until_logged(platform, name, "KINDS")
        kinds = next(line for line in lines if line.startswith("KINDS")).split()
        assert kinds[1] == "platform.initStart"
        assert kinds[-1] == "platform.report"

    @pytest.mark.parametrize(
        ("changes", "status", "error_type"),
        [
            ({"schema": "2000-01-01"}, 400, "ValidationError"),
            ({"types": ["nothing"]}, 400, "ValidationError"),
            ({"buffering": {"maxItems": 999}}, 400, "ValidationError"),
            ({"buffering": {"maxBytes": 1048577}}, 400, "ValidationError"),
            ({"buffering": {"timeoutMs": 24}}, 400, "ValidationError"),
            ({"destination": {"protocol": "HTTP", "URI": "http://a.com:80"}}, 400, None),
            ({"destination": {"protocol": "HTTP", "URI": "http://sandbox:9001"}}, 400, None),
            ({"destination": {"protocol": "TCP", "port": 0}}, 400, None),
        ],
    )
    def test_what_is_not_valid_is_refused(
        self,
        platform: Platform,
        deploy: Deployer,
        changes: dict[str, Any],
        status: int,
        error_type: str | None,
    ) -> None:
        given = {"types": ["platform"], **changes}
        name = deploy(
            CLIENT
            + f"""
identifier = register(name="inner")
answer = subscribe(identifier, 8080, **{given})[::2]
threading.Thread(target=next_event, args=[identifier], daemon=True).start()
def handler(event, context):
    return answer
"""
        )
        found = json.loads(platform.invoke(name).body)
        assert found[0] == status
        assert found[1]["errorType"] == (error_type or "ValidationError")

    def test_it_is_too_late_after_init(self, platform: Platform, deploy: Deployer) -> None:
        name = deploy(
            CLIENT
            + """
identifier = register(name="inner")
threading.Thread(target=next_event, args=[identifier], daemon=True).start()
def handler(event, context):
    return [subscribe(identifier, 8080, ["platform"], *more)[::2]
            for more in [[], ["/2020-08-15/logs", "2021-03-18"]]]
"""
        )
        assert json.loads(platform.invoke(name).body) == [
            [403, {"errorMessage": "Telemetry API subscription is closed",
                   "errorType": "Telemetry.SubscriptionClosed"}],
            [403, {"errorMessage": "Logs API subscription is closed already",
                   "errorType": "Logs.SubscriptionClosed"}],
        ]  # fmt: skip

    def test_what_is_buffered_leaves_before_the_environment_is_frozen(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            patient=CLIENT
            + """
class Told(list):
    def extend(self, events):
        say("GOT", *(each["type"] for each in events))
serve(8080, Told())
identifier = register("INVOKE")
subscribe(identifier, 8080, ["platform"],
          buffering={"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 30000})
while True:
    next_event(identifier)
"""
        )
        name = deploy(PRINTS, Layers=[layer])
        platform.invoke(name)
        lines = until_logged(platform, name, "platform.report")
        assert any(line.startswith("GOT") and "platform.start" in line for line in lines)

    @pytest.mark.skipif(not NODES, reason="no Node.js on this host")
    def test_a_streamed_response_is_told_with_what_it_took(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(collector=collector(["platform"]))
        name = deploy(
            {"app.mjs": STREAMS},
            Layers=[layer],
            Runtime=NODES[-1] if NODES else "",
            Timeout=5,
            MemorySize=MEMORY,
        )
        answer = platform.client("lambda").invoke_with_response_stream(FunctionName=name)
        chunks = [
            event.get("PayloadChunk", {}).get("Payload", b"") for event in answer["EventStream"]
        ]
        assert b"".join(chunks) == b"onetwo"
        platform.client("lambda").delete_function(FunctionName=name)
        lines = until_logged(platform, name, "ALL TOLD")
        events = [json.loads(line[4:]) for line in lines if line.startswith("GOT")]
        (done,) = (each["record"] for each in events if each["type"] == "platform.runtimeDone")
        assert done["metrics"]["producedBytes"] == len("onetwo")
        took = {span["name"]: span["durationMs"] for span in done["spans"]}
        assert took["responseDuration"] >= 50

    def test_a_failure_is_told(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(collector=collector(["platform"]))
        code = "import time\ndef handler(event, context):\n    time.sleep(5)\n"
        name = deploy(code, Layers=[layer], Timeout=1, MemorySize=MEMORY)
        platform.invoke(name)
        lines = until_logged(platform, name, "ALL TOLD")
        events = [json.loads(line[4:]) for line in lines if line.startswith("GOT")]
        statuses = {e["type"]: e["record"].get("status") for e in events}
        assert statuses["platform.runtimeDone"] == "timeout"
        assert statuses["platform.report"] == "timeout"


class TestLogsApi:
    def test_it_has_names_and_members_of_its_own(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        events, lines, request_id = collected(
            platform, deploy, publish_extensions, path="/2020-08-15/logs", schema="2021-03-18"
        )
        assert (
            "LOGS\tName: collector\tState: Subscribed\tTypes: [Platform, Function, Extension]\n"
            in lines
        )
        platform_events = [each for each in events if each["type"].startswith("platform.")]
        assert [each["type"] for each in platform_events] == [
            "platform.logsSubscription",
            "platform.extension",
            "platform.start",
            "platform.runtimeDone",
            "platform.end",
            "platform.report",
        ]
        records = {each["type"]: each["record"] for each in platform_events}
        assert records["platform.start"] == {"requestId": request_id, "version": "$LATEST"}
        assert records["platform.end"] == {"requestId": request_id}
        assert records["platform.runtimeDone"] == {"requestId": request_id, "status": "success"}
        assert set(records["platform.report"]) == {"requestId", "metrics"}

    def test_the_end_of_a_runtime_is_a_fault(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        text = collector(["platform"], path="/2020-08-15/logs", schema="2021-03-18")
        layer = publish_extensions(collector=text)
        code = "import os\ndef handler(event, context):\n    os._exit(3)\n"
        name = deploy(code, Layers=[layer], MemorySize=MEMORY)
        answer = platform.invoke(name)
        lines = until_logged(platform, name, "ALL TOLD")
        events = [json.loads(line[4:]) for line in lines if line.startswith("GOT")]
        (fault,) = (each["record"] for each in events if each["type"] == "platform.fault")
        assert fault == (
            f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 3\n"
            "Runtime.ExitError"
        )


class TestHostileSubscribers:
    @pytest.mark.parametrize(
        "behaviour",
        [
            "time.sleep(1000)",  # accepts and never reads
            "connection.sendall(b'HTTP/1.1 200 OK\\r\\n' + b'a: b\\r\\n' * 10 ** 7)",
            "connection.sendall(b'\\0' * 10 ** 7)",
            "connection.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 999999999\\r\\n\\r\\n')",
            "connection.sendall(b'HTTP/1.1 500 No\\r\\ncontent-length: 0\\r\\n\\r\\n')",
            "connection.close()",
        ],
    )
    def test_it_harms_nobody(
        self,
        platform: Platform,
        deploy: Deployer,
        publish_extensions: ExtensionLayers,
        behaviour: str,
    ) -> None:
        layer = publish_extensions(
            hostile=CLIENT
            + f"""
listener = socket.create_server(("127.0.0.1", 8080))
identifier = register("INVOKE")
subscribe(identifier, 8080, ["platform", "function"])
def serve_badly(connection):
    try:
        {behaviour}
    except OSError:
        pass
def accept():
    while True:
        connection = listener.accept()[0]
        threading.Thread(target=serve_badly, args=[connection], daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
while True:
    next_event(identifier)
"""
        )
        code = """
def handler(event, context):
    print("x" * 200_000)
    return event
"""
        name = deploy(code, Layers=[layer], Timeout=10, MemorySize=512)
        for number in range(8):
            assert json.loads(platform.invoke(name, number).body) == number
        assert platform.invoke(deploy(PRINTS)).body == b'"four"'

    def test_what_it_does_not_take_is_dropped_and_said_so(
        self, platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
    ) -> None:
        layer = publish_extensions(
            slow=CLIENT
            + """
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_late = os.path.exists("/tmp/late")
        for event in json.loads(body):
            if event["type"] == "platform.logsDropped":
                say("DROPPED", json.dumps(event["record"]))
        self.send_response(200 if is_late else 500)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
identifier = register("INVOKE")
subscribe(identifier, 8080, ["platform", "function"])
while True:
    next_event(identifier)
"""
        )
        code = """
import time
def handler(event, context):
    if event == "late":
        open("/tmp/late", "w").close()
    else:
        print("x")
    time.sleep(1.0)
"""
        name = deploy(code, Layers=[layer], Timeout=10)
        for event in ("early", "late", "late"):
            invoke_to_the_end(platform, name, event)
        lines = until_logged(platform, name, "DROPPED")
        record = json.loads(next(line for line in lines if line.startswith("DROPPED"))[8:])
        assert record["droppedRecords"] > 0
        assert record["droppedBytes"] > 0
        assert record["reason"]
