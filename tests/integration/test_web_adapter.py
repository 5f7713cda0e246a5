"""The example of a web server behind an adapter: an extension that asks for events in its place."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from http_events import http_event
from running_platform import PYTHON, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

EXAMPLE = Path(__file__).parents[2] / "examples" / "web-adapter"


def files_of(folder: Path) -> dict[str, str | bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def layer(platform: Platform) -> str:
    content = pack(files_of(EXAMPLE / "layer"), executable=("bootstrap", "extensions/web-adapter"))
    made = platform.client("lambda").publish_layer_version(
        LayerName="web-adapter", Content={"ZipFile": content}
    )
    arn: str = made["LayerVersionArn"]
    return arn


def deploy_server(deploy: Deployer, layer: str, **variables: str) -> str:
    return deploy(
        files_of(EXAMPLE / "app"),
        executable=("run.sh",),
        Runtime=PYTHON,
        Handler="run.sh",
        MemorySize=256,
        Timeout=20,
        Layers=[layer],
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap", **variables}},
    )


def test_requests_of_payload_2_0_reach_the_server(
    deploy: Deployer, platform: Platform, layer: str
) -> None:
    name = deploy_server(deploy, layer)
    answer = platform.invoke(name, http_event("GET", "/a%20b?x=1&x=2", cookies=["c=3"])).json
    assert answer["statusCode"] == 200
    assert json.loads(answer["body"]) == {"path": "/a%20b?x=1&x=2", "cookie": "c=3", "body": None}
    assert answer["cookies"] == ["a=1", "b=2"]
    posted = platform.invoke(name, http_event("POST", "/orders", "é")).json
    assert (posted["statusCode"], json.loads(posted["body"])["body"]) == (201, "é")
    pixel = platform.invoke(name, http_event("GET", "/pixel")).json
    assert (pixel["isBase64Encoded"], base64.b64decode(pixel["body"])) == (
        True,
        b"\x89PNG\r\n\x00",
    )
    assert platform.invoke(name, http_event("GET", "/missing")).json["statusCode"] == 404


def test_requests_of_payload_1_0_reach_the_server(
    deploy: Deployer, platform: Platform, layer: str
) -> None:
    name = deploy_server(deploy, layer, AWS_LWA_REMOVE_BASE_PATH="/shop")
    event: dict[str, Any] = {
        "httpMethod": "GET",
        "path": "/shop/list",
        "multiValueHeaders": {"Cookie": ["c=3"]},
        "multiValueQueryStringParameters": {"x": ["1", "2 3"]},
        "requestContext": {"stage": "prod"},
        "body": None,
        "isBase64Encoded": False,
    }
    answer = platform.invoke(name, event).json
    seen = {"path": "/list?x=1&x=2%203", "cookie": "c=3", "body": None}
    assert json.loads(answer["body"]) == seen
    assert answer["multiValueHeaders"]["set-cookie"] == ["a=1", "b=2"]


def test_an_event_that_is_no_http_is_posted_to_the_server(
    deploy: Deployer, platform: Platform, layer: str
) -> None:
    name = deploy_server(deploy, layer)
    seen = platform.invoke(name, {"Records": [1]}).json
    assert seen["path"] == "/events"
    assert json.loads(seen["body"]) == {"Records": [1]}


def test_answers_stream_if_they_are_wanted_so(
    deploy: Deployer, platform: Platform, layer: str
) -> None:
    name = deploy_server(deploy, layer, AWS_LWA_INVOKE_MODE="response_stream")
    answer = platform.client("lambda").invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps(http_event("GET", "/slowly"))
    )
    pieces = [
        event["PayloadChunk"]["Payload"]
        for event in answer["EventStream"]
        if "PayloadChunk" in event
    ]
    prelude, _, body = b"".join(pieces).partition(b"\0" * 8)
    assert json.loads(prelude)["statusCode"] == 200
    assert body == b"one two three"
    assert len(pieces) >= 3


def test_a_server_that_dies_fails_the_environment_and_the_next_one_serves(
    deploy: Deployer, platform: Platform, layer: str
) -> None:
    name = deploy(
        {
            **files_of(EXAMPLE / "app"),
            "run.sh": "#!/bin/sh\n[ -e /tmp/seen ] || { touch /tmp/seen; exit 3; }\n"
            'exec python3 "$LAMBDA_TASK_ROOT/server.py"\n',
        },
        executable=("run.sh",),
        Runtime=PYTHON,
        Handler="run.sh",
        MemorySize=256,
        Timeout=20,
        Layers=[layer],
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"}},
    )
    first = platform.invoke(name, http_event("GET", "/"))
    later = platform.invoke(name, http_event("GET", "/"))
    assert first.error is not None or first.json["statusCode"] == 200
    assert later.json["statusCode"] == 200
