"""Streamed responses through a real platform: boto3 reads what a function sends while it runs."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import json
import shutil
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from firelet.sandbox.host import HostFacts
from firelet.sandbox.interpreters import discover
from firelet.wire.eventstream import EventMessage, EventReader
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

MIB = 1024 * 1024
NODES = sorted(name for name in discover() if name.startswith("nodejs"))
# What a sleeping client may cost: buffers of sockets and of both connections.
FLAT_BYTES = 24 * MIB

GENERATOR = """
import os, time
def handler(event, context):
    for step in event["steps"]:
        kind, value = step
        if kind == "yield":
            yield value
        elif kind == "bulk":
            piece = b"x" * 65536
            for _ in range(value):
                yield piece
        elif kind == "raise":
            raise LookupError(value)
        elif kind == "exit":
            os._exit(value)
        elif kind == "sleep":
            time.sleep(value)
        elif kind == "print":
            print(value, flush=True)
"""
BUFFERED = """
def handler(event, context):
    if event == "raise":
        raise LookupError("as told")
    return event
"""


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A response that was read to its end."""

    response: dict[str, Any]
    chunks: list[bytes]
    complete: dict[str, Any]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def details(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.complete["ErrorDetails"])
        return parsed


def stream(platform: Platform, name: str, event: Any = None, **options: Any) -> Streamed:
    """Invokes and reads all."""
    response = platform.client("lambda").invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event).encode(), **options
    )
    events = list(response["EventStream"])
    *chunks, last = events
    assert all(list(event) == ["PayloadChunk"] for event in chunks)
    assert list(last) == ["InvokeComplete"]
    return Streamed(
        response, [event["PayloadChunk"]["Payload"] for event in chunks], last["InvokeComplete"]
    )


def steps(*all_steps: tuple[str, Any]) -> dict[str, Any]:
    return {"steps": all_steps}


@pytest.fixture
def generator(deploy: Deployer) -> str:
    """With a whole CPU, and time for megabytes on a busy machine."""
    return deploy(GENERATOR, MemorySize=1769, Timeout=20)


@pytest.fixture
def buffered(deploy: Deployer) -> str:
    return deploy(BUFFERED)


@contextlib.contextmanager
def raw_call(platform: Platform, name: str, event: Any) -> Iterator[socket.socket]:
    """A connection that has asked for a streamed response and reads nothing by itself."""
    payload = json.dumps(event).encode()
    with socket.create_connection(("127.0.0.1", platform.port), timeout=60) as connection:
        connection.sendall(
            b"POST /2021-11-15/functions/%b/response-streaming-invocations HTTP/1.1\r\n"
            b"Host: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (name.encode(), len(payload), payload)
        )
        yield connection


def read_events(connection: socket.socket) -> Iterator[EventMessage]:
    """The events of a raw call, as they come."""
    reader = EventReader()
    with connection.makefile("rb") as file:
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"
        while file.readline() != b"\r\n":
            pass
        while size := int(file.readline(), 16):
            yield from reader.feed(file.read(size))
            file.readline()


def test_what_is_yielded_arrives_piece_by_piece(platform: Platform, generator: str) -> None:
    streamed = stream(platform, generator, steps(("yield", "one "), ("yield", "two")))
    assert streamed.chunks == [b"one ", b"two"]
    assert streamed.complete == {}
    response = streamed.response
    assert response["StatusCode"] == 200
    assert response["ExecutedVersion"] == "$LATEST"
    assert response["ResponseStreamContentType"] == "application/vnd.amazon.eventstream"
    assert len(response["ResponseMetadata"]["RequestId"]) == 36


def test_the_same_environment_streams_again_and_again(platform: Platform, generator: str) -> None:
    for number in range(5):
        event = steps(("yield", f"{number}"), ("yield", "!"))
        assert stream(platform, generator, event).body == f"{number}!".encode()


def test_the_first_bytes_arrive_while_the_function_runs(platform: Platform, generator: str) -> None:
    """It would run for as long as its time lasts: what arrives before has not waited for its
    end."""
    platform.client("lambda").update_function_configuration(FunctionName=generator, Timeout=4)
    event = steps(("yield", "first"), ("sleep", 60))
    with raw_call(platform, generator, event) as connection:
        events = read_events(connection)
        assert next(events).payload == b"first"
        group = platform.log_lines(f"/aws/lambda/{generator}")
        assert not any(line.startswith("REPORT") for line in group)
        last = next(events)
    assert last.headers[":event-type"] == "InvokeComplete"
    complete = json.loads(last.payload)
    assert complete["ErrorCode"] == "Sandbox.Timedout"
    assert "Task timed out after 4.00 seconds" in complete["ErrorDetails"]


def test_the_log_s_tail_is_in_the_last_event(platform: Platform, generator: str) -> None:
    event = steps(("yield", "x"), ("print", "said so"))
    streamed = stream(platform, generator, event, LogType="Tail")
    log = base64.b64decode(streamed.complete["LogResult"]).decode()
    assert "said so" in log
    assert "REPORT RequestId" in log


def test_a_handler_that_does_not_stream_comes_in_one_piece(
    platform: Platform, buffered: str
) -> None:
    streamed = stream(platform, buffered, {"a": 1})
    assert streamed.chunks == [b'{"a": 1}']
    assert streamed.complete == {}


def test_a_handler_that_fails_before_its_first_byte(
    platform: Platform, buffered: str, generator: str
) -> None:
    for name, event in ((buffered, "raise"), (generator, steps(("raise", "as told")))):
        streamed = stream(platform, name, event)
        assert streamed.chunks == []
        assert streamed.complete["ErrorCode"] == "Unhandled"
        assert streamed.details["errorType"] == "LookupError"


def test_a_handler_that_fails_in_mid_stream(platform: Platform, generator: str) -> None:
    streamed = stream(platform, generator, steps(("yield", "half"), ("raise", "gone")))
    assert streamed.body == b"half"
    assert streamed.complete["ErrorCode"] == "Unhandled"
    assert streamed.details["errorMessage"] == "gone"
    assert stream(platform, generator, steps(("yield", "well"))).body == b"well"


def test_a_process_that_ends_in_mid_stream(platform: Platform, generator: str) -> None:
    streamed = stream(platform, generator, steps(("yield", "half"), ("exit", 3)))
    assert streamed.body == b"half"
    assert streamed.complete["ErrorCode"] == "Runtime.ExitError"
    assert "exit status 3" in streamed.details["errorMessage"]
    assert stream(platform, generator, steps(("yield", "well"))).body == b"well"


def test_invoke_collects_what_is_streamed(platform: Platform, generator: str) -> None:
    answer = platform.invoke(generator, steps(("yield", '"one '), ("yield", 'two"')))
    assert (answer.body, answer.error) == (b'"one two"', None)
    answer = platform.invoke(generator, steps(("yield", "half"), ("raise", "gone")))
    assert (answer.json["errorMessage"], answer.error) == ("gone", "Unhandled")


def test_invoke_collects_no_more_than_it_may(platform: Platform, generator: str) -> None:
    answer = platform.invoke(generator, steps(("bulk", 97)))
    assert answer.json["errorType"] == "Function.ResponseSizeTooLarge"
    answer = platform.invoke(generator, steps(("bulk", 96)))
    assert len(answer.body) == 96 * 65536


def test_a_dry_run_runs_nothing(platform: Platform, generator: str) -> None:
    response = platform.client("lambda").invoke_with_response_stream(
        FunctionName=generator, InvocationType="DryRun"
    )
    assert response["StatusCode"] == 204
    assert list(response["EventStream"]) == []


def test_refusals_are_ordinary_answers(platform: Platform, generator: str) -> None:
    client = platform.client("lambda", is_strict=False)
    for params, status, code in (
        ({"FunctionName": "missing"}, 404, "ResourceNotFoundException"),
        ({"FunctionName": generator, "Payload": b"{"}, 400, "InvalidRequestContentException"),
        ({"FunctionName": generator, "InvocationType": "Event"}, 400, "ValidationException"),
        ({"FunctionName": generator, "TenantId": "a"}, 400, "InvalidParameterValueException"),
        ({"FunctionName": generator, "Payload": b" " * 6_291_457}, 413, "RequestTooLargeException"),
    ):
        with pytest.raises(ClientError) as refused:
            client.invoke_with_response_stream(**params)
        response = refused.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert response["Error"]["Code"] == code


def test_a_client_that_goes_away_does_not_end_the_function(
    platform: Platform, generator: str
) -> None:
    event = steps(("yield", "first"), ("bulk", 320), ("print", "has come to its end"))
    with raw_call(platform, generator, event) as connection:
        assert next(read_events(connection)).payload == b"first"
    wait_until(
        lambda: any(
            "has come to its end" in line for line in platform.log_lines(f"/aws/lambda/{generator}")
        ),
        "the function has come to its end",
    )


def test_a_client_that_does_not_read_holds_its_function_up_until_its_time_is_over(
    platform: Platform, generator: str
) -> None:
    platform.client("lambda").update_function_configuration(FunctionName=generator, Timeout=2)
    with raw_call(platform, generator, steps(("bulk", 3_100))) as connection:
        group = f"/aws/lambda/{generator}"
        wait_until(
            lambda: any("Status: timeout" in line for line in platform.log_lines(group)),
            "its time is over",
        )
        *pieces, last = read_events(connection)
    assert json.loads(last.payload)["ErrorCode"] == "Sandbox.Timedout"
    assert 0 < sum(len(piece.payload) for piece in pieces) < 3_100 * 65536
    assert stream(platform, generator, steps(("yield", "well"))).body == b"well"


def resident_bytes(platform: Platform) -> int:
    """Of the platform's own processes: not of functions."""
    total = 0
    for pid in platform.processes() | {platform.pid}:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                command = file.read()
            with open(f"/proc/{pid}/statm", "rb") as file:
                pages = int(file.read().split()[1])
        except (OSError, IndexError):
            continue  # it has ended
        if pid == platform.pid or b"firelet.app.worker" in command:
            total += pages * 4096
    return total


def unread_bytes(connection: socket.socket) -> int:
    """What waits for a client that reads nothing."""
    (size,) = struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))
    return int(size)


def is_held_up(connection: socket.socket) -> bool:
    """Whether nothing moves any more."""
    before = unread_bytes(connection)
    time.sleep(0.2)
    return 0 < before == unread_bytes(connection)


def test_the_platform_holds_next_to_nothing_of_a_stream_that_is_read_slowly(
    platform: Platform, generator: str
) -> None:
    platform.client("lambda").update_function_configuration(FunctionName=generator, Timeout=60)
    assert stream(platform, generator, steps(("bulk", 160))).complete == {}
    before = most = resident_bytes(platform)
    size = 0
    with raw_call(platform, generator, steps(("bulk", 3_100))) as connection:
        # Until nothing moves any more: what is on its way by then is held by somebody.
        wait_until(lambda: is_held_up(connection), "the function is held up")
        for number, event in enumerate(read_events(connection)):
            size += len(event.payload)
            if number % 100 == 0:
                most = max(most, resident_bytes(platform))
            last = event
    assert json.loads(last.payload) == {}
    assert size == 3_100 * 65536 + len(last.payload)
    assert most - before < FLAT_BYTES


def test_a_stream_ends_at_200_megabytes(platform: Platform, generator: str) -> None:
    client = platform.client("lambda")
    client.update_function_configuration(FunctionName=generator, Timeout=60)
    whole = stream(platform, generator, steps(("bulk", 3_200)))
    assert (len(whole.body), whole.complete) == (200 * MIB, {})
    more = stream(platform, generator, steps(("bulk", 3_200), ("yield", "x"), ("bulk", 100)))
    assert len(more.body) == 200 * MIB
    assert more.complete["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert stream(platform, generator, steps(("yield", "well"))).body == b"well"


def test_many_stream_at_once(platform: Platform, generator: str) -> None:
    def one(number: int) -> bool:
        event = steps(("yield", f"{number}"), ("bulk", 64), ("yield", f"{number}"))
        body = stream(platform, generator, event).body
        return body == f"{number}".encode() + b"x" * 64 * 65536 + f"{number}".encode()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))


NODE = """
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
const bulk = function* (count) {
  for (let n = 0; n < count; n += 1) yield Buffer.alloc(65536);
};
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  if (event.prelude) {
    const http = awslambda.HttpResponseStream.from(stream, event.prelude);
    http.write("body");
    http.end();
  } else if (event.bulk) {
    await pipeline(Readable.from(bulk(event.bulk)), stream);
  } else {
    stream.write("half");
    if (event.error) throw new RangeError(event.error);
    if (event.exit !== undefined) {
      await new Promise((resolve) => stream.write(".", resolve));
      process.exit(event.exit);
    }
    stream.end();
  }
});
"""


@pytest.fixture(params=NODES or [None])
def node(request: pytest.FixtureRequest, deploy: Deployer) -> str:
    """A streaming function on each Node.js of this host."""
    if request.param is None:
        pytest.skip("there is no node on PATH")
    return deploy({"index.mjs": NODE}, Runtime=request.param, Handler="index.handler", Timeout=30)


def test_node_streams(platform: Platform, node: str) -> None:
    for _ in range(3):
        assert stream(platform, node, {}).body == b"half"
    prelude = stream(platform, node, {"prelude": {"statusCode": 201}})
    assert prelude.body == b'{"statusCode":201}' + bytes(8) + b"body"
    bulk = stream(platform, node, {"bulk": 320})
    assert (len(bulk.body), bulk.complete) == (20 * MIB, {})


def test_node_tells_of_what_goes_wrong_in_mid_stream(platform: Platform, node: str) -> None:
    failed = stream(platform, node, {"error": "no"})
    assert failed.body == b"half"
    assert failed.complete["ErrorCode"] == "Unhandled"
    assert failed.details["errorType"] == "RangeError"
    ended = stream(platform, node, {"exit": 5})
    assert ended.body == b"half."
    assert ended.complete["ErrorCode"] == "Runtime.ExitError"
    large = stream(platform, node, {"bulk": 3_201})
    assert large.complete["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert len(large.body) == 200 * MIB
    assert stream(platform, node, {}).body == b"half"


def test_node_streams_to_invoke(platform: Platform, node: str) -> None:
    assert platform.invoke(node, {}).body == b"half"
    assert platform.invoke(node, {"error": "no"}).json["errorType"] == "RangeError"


# What Rust's and Go's clients send: a chunked body, one connection for each answer.
BOOTSTRAP = r"""#!/bin/bash
export LC_ALL=C
host=${AWS_LAMBDA_RUNTIME_API%:*}; port=${AWS_LAMBDA_RUNTIME_API#*:}
api=/2018-06-01/runtime/invocation
while exec 3<>"/dev/tcp/$host/$port"; do
  printf 'GET %s/next HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$api" "$host" >&3
  id=
  while IFS= read -r line <&3; do
    line=${line%$'\r'}
    [[ -z $line ]] && break
    [[ ${line,,} == lambda-runtime-aws-request-id:* ]] && id=${line#*: }
  done
  read -r body <&3
  exec 3<>"/dev/tcp/$host/$port"
  printf 'POST %s/%s/response HTTP/1.1\r\nHost: %s\r\nTransfer-Encoding: chunked\r\n' \
    "$api" "$id" "$host" >&3
  printf 'Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: text/plain\r\n' >&3
  printf 'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n' >&3
  printf 'Connection: close\r\n\r\n' >&3
  printf '6\r\nhello \r\n' >&3
  case $body in
    *fail*)
      printf '0\r\nLambda-Runtime-Function-Error-Type: Runtime.Oops\r\n' >&3
      printf 'Lambda-Runtime-Function-Error-Body: eyJlcnJvclR5cGUiOiJPb3BzIn0=\r\n\r\n' >&3 ;;
    *break*) printf 'zz\r\n' >&3 ;;
    *) printf '4\r\nbash\r\n0\r\n\r\n' >&3 ;;
  esac
  cat <&3 >/dev/null
  exec 3>&-
done
"""


def test_a_runtime_of_ones_own_streams(platform: Platform, deploy: Deployer) -> None:
    files = {"bootstrap": BOOTSTRAP}
    name = deploy(files, executable=("bootstrap",), Runtime="provided.al2023", Handler="x")
    for _ in range(2):
        streamed = stream(platform, name, "go")
        assert (streamed.body, streamed.complete) == (b"hello bash", {})
    failed = stream(platform, name, "fail")
    assert failed.body == b"hello "
    assert failed.complete == {"ErrorCode": "Runtime.Oops", "ErrorDetails": '{"errorType":"Oops"}'}
    broken = stream(platform, name, "break")
    assert broken.body == b"hello "
    assert broken.complete["ErrorCode"] == "Runtime.TruncatedResponse"
    assert stream(platform, name, "go").body == b"hello bash"


@pytest.fixture
def python3(host: HostFacts) -> str:
    found = sorted(name for name in ("python3.12", "python3.13") if name in host.interpreters)
    if not found:
        pytest.skip("SnapStart is for Python 3.12 and later; this host has neither 3.12 nor 3.13")
    return found[-1]


def test_clones_of_a_snapshot_stream(platform: Platform, deploy: Deployer, python3: str) -> None:
    client = platform.client("lambda")
    name = deploy(GENERATOR, Runtime=python3, SnapStart={"ApplyOn": "PublishedVersions"})
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    for _ in range(2):
        event = steps(("yield", "from a clone"), ("bulk", 16))
        streamed = stream(platform, name, event, Qualifier=version)
        assert streamed.body == b"from a clone" + b"x" * MIB
        assert streamed.response["ExecutedVersion"] == version


def test_provisioned_environments_stream(platform: Platform, deploy: Deployer) -> None:
    client = platform.client("lambda")
    name = deploy(GENERATOR)
    version = client.publish_version(FunctionName=name)["Version"]
    client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1
    )
    wait_until(
        lambda: (
            client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=version)[
                "Status"
            ]
            == "READY"
        ),
        "it is provisioned",
    )
    for _ in range(2):
        streamed = stream(platform, name, steps(("yield", "provisioned")), Qualifier=version)
        assert streamed.body == b"provisioned"


def test_the_bandwidth_may_be_that_of_aws(make_platform: Callable[..., Platform]) -> None:
    """8 MB more than is free take four seconds at 2 MB/s: less time is not enough for them."""
    platform = make_platform(FIRELET_STREAM_MIB_PER_S="2")
    name = Deployer(platform)(GENERATOR, Timeout=3, MemorySize=1769)
    cut = stream(platform, name, steps(("bulk", 14 * 16)))
    assert cut.complete["ErrorCode"] == "Sandbox.Timedout"
    assert 6 * MIB < len(cut.body) < 14 * MIB
    free = stream(platform, name, steps(("bulk", 6 * 16)))
    assert (len(free.body), free.complete) == (6 * MIB, {})


# Speaks to the Runtime API behind its client's back.
HOSTILE = """
import os, socket
HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def begin(request_id, rest=b"\\r\\n"):
    connection = socket.create_connection((HOST, int(PORT)), timeout=20)
    connection.sendall(
        b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\\r\\nHost: a\\r\\n"
        b"Lambda-Runtime-Function-Response-Mode: streaming\\r\\n"
        b"Transfer-Encoding: chunked\\r\\n%b" % (request_id.encode(), rest)
    )
    return connection
def status(connection):
    return connection.recv(65536)[9:12].decode()
def pour(connection, data):
    try:
        while True:
            connection.sendall(data)
    except OSError:
        return
def handler(event, context):
    own = context.aws_request_id
    if event == "others":
        half = begin(own, b"X-Half: ")
        wrong = begin("00000000-0000-4000-8000-000000000000")
        return [status(wrong), bool(half)]
    connection = begin(own)
    if event == "endless":
        pour(connection, b"10000\\r\\n" + b"x" * 65536 + b"\\r\\n")
    elif event == "extensions":
        pour(connection, b"1;" + b"x" * 65536)
    elif event == "trailers":
        connection.sendall(b"1\\r\\nx\\r\\n0\\r\\n")
        pour(connection, b"X-Trailer: " + b"x" * 65536 + b"\\r\\n")
    elif event == "twice":
        connection.sendall(b"1\\r\\nx\\r\\n0\\r\\n\\r\\n")
        first = status(connection)
        second = begin(own)
        print("statuses", first, status(second))
"""


def test_a_function_that_abuses_the_stream_harms_itself_alone(
    platform: Platform, deploy: Deployer, buffered: str
) -> None:
    name = deploy(HOSTILE, Timeout=20)
    assert stream(platform, name, "others").body == b'["400", true]'
    endless = stream(platform, name, "endless")
    assert endless.complete["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert len(endless.body) <= 200 * MIB
    for event in ("extensions", "trailers"):
        broken = stream(platform, name, event)
        assert broken.complete["ErrorCode"] == "Runtime.TruncatedResponse"
    twice = stream(platform, name, "twice")
    assert (twice.body, twice.complete) == (b"x", {})
    group = f"/aws/lambda/{name}"
    wait_until(
        lambda: any("statuses 202 403" in line for line in platform.log_lines(group)),
        "a second response is refused",
    )
    assert stream(platform, buffered, {"a": 1}).body == b'{"a": 1}'
    assert stream(platform, name, "others").body == b'["400", true]'


# As AWS's client for Node.js does it: http.request with trailers, which Node.js frames.
NODE_BOOTSTRAP = """
const http = require("node:http");
const [hostname, port] = process.env.AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const base = { hostname, port, agent };
const prefix = "/2018-06-01/runtime/invocation/";
const ask = (options, begin) => new Promise((resolve, reject) => {
  const request = http.request({ ...base, ...options }, async (response) => {
    const parts = [];
    for await (const part of response) parts.push(part);
    resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(parts) });
  });
  request.on("error", reject);
  begin(request);
});
(async () => {
  for (;;) {
    const next = await ask({ path: `${prefix}next` }, (request) => request.end());
    const event = JSON.parse(next.body);
    const headers = {
      "Lambda-Runtime-Function-Response-Mode": "streaming",
      "Transfer-Encoding": "chunked",
      "Content-Type": "text/plain",
      Trailer: ["Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"],
    };
    const path = `${prefix}${next.headers["lambda-runtime-aws-request-id"]}/response`;
    await ask({ method: "POST", path, headers }, (request) => {
      request.write("one ");
      request.write("two");
      if (event === "fail") {
        request.addTrailers({
          "Lambda-Runtime-Function-Error-Type": "Error",
          "Lambda-Runtime-Function-Error-Body":
            Buffer.from(JSON.stringify({ errorType: "Error", errorMessage: "no" }))
              .toString("base64"),
        });
      }
      request.end();
    });
  }
})();
"""


def test_the_framing_of_node_s_own_http_is_understood(platform: Platform, deploy: Deployer) -> None:
    program = shutil.which("node", path="/usr/bin:/usr/local/bin")
    if program is None or not program.startswith("/usr/"):
        pytest.skip("there is no node below /usr, which sandboxes see")
    files = {
        "bootstrap": f"#!/bin/sh\nexec {program} /var/task/client.js\n",
        "client.js": NODE_BOOTSTRAP,
    }
    name = deploy(
        files,
        executable=("bootstrap",),
        Runtime="provided.al2023",
        Handler="x",
        MemorySize=512,
        Timeout=20,
    )
    for _ in range(2):
        assert stream(platform, name, "go").body == b"one two"
    failed = stream(platform, name, "fail")
    assert failed.body == b"one two"
    assert failed.complete["ErrorCode"] == "Unhandled"
    assert failed.details["errorMessage"] == "no"
