"""What AWS's own client for Node.js streams, unmodified, in place of firelet's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.test_aws_lambda_ric import WRAPPER, client, pytestmark
from firelet.sandbox.interpreters import find_node
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

__all__ = ["client", "pytestmark"]

CODE = """
const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {
  context.callbackWaitsForEmptyEventLoop = false;
  if (event === "prelude") {
    const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201 });
    http.write("body");
    http.end();
    await new Promise((resolve) => http.on("finish", resolve));
    return;
  }
  if (event === "raise") {
    stream.write("half");
    throw new RangeError("as told");
  }
  const pieces = function* () { for (let n = 0; n < 64; n += 1) yield Buffer.alloc(65536, 120); };
  await pipeline(Readable.from(pieces()), stream);
});
"""


@pytest.fixture
def name(client: Path, deploy: Deployer) -> str:
    node = find_node()
    if node is None:
        pytest.skip("node is not installed (PATH)")
    files: dict[str, str | bytes] = {"index.js": CODE, "wrapper": WRAPPER}
    for path in [client / "package.json", *client.glob("bin/*"), *client.glob("dist/*")]:
        files[f"node_modules/aws-lambda-ric/{path.relative_to(client)}"] = path.read_bytes()
    return deploy(
        files,
        executable=("wrapper",),
        Runtime=node.runtime,
        Handler="index.handler",
        MemorySize=256,
        Timeout=10,
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
    )


def stream(platform: Platform, name: str, event: Any) -> tuple[bytes, dict[str, Any]]:
    """The body, and how it ended."""
    response = platform.client("lambda").invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(event).encode()
    )
    *chunks, last = response["EventStream"]
    body = b"".join(chunk["PayloadChunk"]["Payload"] for chunk in chunks)
    return body, last["InvokeComplete"]


def test_it_streams_one_response_after_the_other(name: str, platform: Platform) -> None:
    for _ in range(3):
        assert stream(platform, name, "bulk") == (b"x" * 64 * 65536, {})


def test_its_prelude_is_that_of_http_integrations(name: str, platform: Platform) -> None:
    body, complete = stream(platform, name, "prelude")
    assert body == b'{"statusCode":201}' + bytes(8) + b"body"
    assert complete == {}


def test_its_error_in_mid_stream_is_told(name: str, platform: Platform) -> None:
    body, complete = stream(platform, name, "raise")
    assert body == b"half"
    assert complete["ErrorCode"] == "Unhandled"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "as told"
    assert stream(platform, name, "bulk")[1] == {}
