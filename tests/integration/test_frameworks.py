"""The examples with real frameworks, as a user would deploy them."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firelet.cli.package import open_package
from firelet.model.runtimes import supports_snap_start
from firelet.sandbox.interpreters import discover
from http_events import http_event
from running_platform import PYTHON, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

EXAMPLES = Path(__file__).parents[2] / "examples"
_INSTALL_S = 240
MakeFunction = Callable[..., str]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """The package of an example with what it depends on. Skips when that cannot be had."""
    made: dict[str, bytes] = {}

    def make(name: str) -> bytes:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / name
            shutil.copytree(EXAMPLES / name, folder)
            if (folder / "package.json").exists():
                if shutil.which("npm") is None:
                    pytest.skip("npm is not installed (PATH)")
                command = ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--silent"]
            else:
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
                command = [*pip, "--target", str(folder), "-r", str(folder / "requirements.txt")]
            ended = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
            if ended.returncode:
                pytest.skip(f"cannot install what {name} needs: {ended.stderr.strip()[-300:]}")
            made[name] = open_package(folder).zipped
        return made[name]

    return make


@pytest.fixture
def function(
    package: Callable[[str], bytes], deploy: Deployer, platform: Platform
) -> Callable[..., str]:
    """``function(example, Handler=…)``: deployed; its name."""

    def make(example: str, **settings: Any) -> str:
        return deploy(
            package(example),
            **{"Runtime": PYTHON, "MemorySize": 512, "Timeout": 30, **settings},
        )

    return make


class TestPowertools:
    def test_routes_logs_metrics_and_traces(
        self, function: MakeFunction, platform: Platform
    ) -> None:
        name = function("powertools", Handler="app.handler")
        event = http_event("GET", "/prices/tea")
        answer = platform.invoke(name, event, LogType="Tail")
        assert answer.json["statusCode"] == 200
        assert json.loads(answer.json["body"]) == {"name": "tea", "price": 3}
        lines = [json.loads(line) for line in answer.log.splitlines() if line.startswith("{")]
        logged = next(line for line in lines if line.get("message") == "price asked")
        assert (logged["item"], logged["function_name"]) == ("tea", name)
        assert logged["function_request_id"] == answer.request_id
        assert logged["xray_trace_id"]
        metrics = [line for line in lines if "_aws" in line]
        assert {"Asked", "ColdStart"} <= {key for line in metrics for key in line}

    def test_an_unknown_route_and_an_unknown_thing(
        self, function: MakeFunction, platform: Platform
    ) -> None:
        name = function("powertools", Handler="app.handler")
        for path, message in (("/prices/gold", "no gold here"), ("/nowhere", "Not found")):
            answer = platform.invoke(name, http_event("GET", path)).json
            assert answer["statusCode"] == 404
            assert json.loads(answer["body"])["message"] == message

    def test_of_a_batch_only_the_failed_messages_come_back(
        self, function: MakeFunction, platform: Platform
    ) -> None:
        name = function("powertools", Handler="app.batch")
        records = [
            {"messageId": str(number), "body": body, "eventSource": "aws:sqs"}
            for number, body in enumerate(["tea", "gold", "coffee"])
        ]
        answer = platform.invoke(name, {"Records": records})
        assert answer.json == {"batchItemFailures": [{"itemIdentifier": "1"}]}


class TestFastApi:
    @pytest.fixture
    def name(self, function: MakeFunction) -> str:
        return function("fastapi", Handler="app.handler")

    def test_an_order_is_made_and_read(self, name: str, platform: Platform) -> None:
        json_type = {"content-type": "application/json"}
        event = http_event("POST", "/orders", json.dumps({"item": "tea"}), json_type)
        made = platform.invoke(name, event).json
        assert made["statusCode"] == 201
        assert json.loads(made["body"]) == {"number": 1, "item": "tea", "count": 1}
        read = platform.invoke(name, http_event("GET", "/orders/1")).json
        assert json.loads(read["body"]) == {"number": 1, "item": "tea"}
        absent = platform.invoke(name, http_event("GET", "/orders/9")).json
        assert (absent["statusCode"], json.loads(absent["body"])) == (
            404,
            {"detail": "no such order"},
        )

    def test_cookies_and_bytes(self, name: str, platform: Platform) -> None:
        answer = platform.invoke(name, http_event("GET", "/visits", cookies=["visits=6"])).json
        assert answer["body"] == "7"
        assert answer["cookies"] == ["visits=7; Path=/; SameSite=lax"]
        pixel = platform.invoke(name, http_event("GET", "/pixel")).json
        assert pixel["isBase64Encoded"] is True
        assert base64.b64decode(pixel["body"]) == b"\x89PNG\r\n\x00"


def test_graphql_answers_queries_and_tells_errors(
    function: MakeFunction, platform: Platform
) -> None:
    name = function("graphql", Handler="app.handler")

    def ask(query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables})
        return json.loads(platform.invoke(name, http_event("POST", "/", body)).json["body"])

    assert ask("{ books { title } }")["data"]["books"][1] == {"title": "Kindred"}
    query = "query Find($id: ID!) { book(id: $id) { id title } }"
    assert ask(query, id="2") == {"data": {"book": {"id": "2", "title": "Kindred"}}}
    assert ask(query, id="9") == {"data": {"book": None}}
    assert "Cannot query field 'price'" in ask("{ books { price } }")["errors"][0]["message"]
    assert platform.invoke(name, http_event("POST", "/", "no json")).json["statusCode"] == 400


def test_the_official_client_for_python_serves(function: MakeFunction, platform: Platform) -> None:
    interpreter = Path(f"/usr/bin/{PYTHON}")
    if not interpreter.exists():
        pytest.skip(f"there is no {interpreter} for the native module of awslambdaric")
    name = function(
        "awslambdaric",
        Runtime="provided.al2023",
        Handler="app.handler",
        Environment={"Variables": {"PYTHON": str(interpreter)}},
    )
    answer = platform.invoke(name, {"n": 1}, LogType="Tail")
    assert answer.json == {"event": {"n": 1}, "request": answer.request_id}
    assert "behind awslambdaric" in answer.log


def test_snap_start_s_hooks_run_around_the_snapshot(deploy: Deployer, platform: Platform) -> None:
    runtime = newest_with_snap_start()
    client = platform.client("lambda")
    name = deploy(
        open_package(EXAMPLES / "snap-start").zipped,
        Runtime=runtime,
        Handler="app.handler",
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    answer = platform.invoke(name, {"number": 12}, Qualifier=version).json
    assert (answer["square"], answer["type"], answer["prepared"]) == (144, "snap-start", True)
    assert len(answer["identity"]) == 32


def newest_with_snap_start() -> str:
    found = [name for name in discover() if name.startswith("python") and supports_snap_start(name)]
    if not found:
        pytest.skip("no Python 3.12 or later is installed (PATH, pyenv)")
    return max(found, key=lambda name: int(name.rpartition(".")[2]))


class TestExpress:
    @pytest.fixture
    def name(self, function: MakeFunction) -> str:
        from firelet.sandbox.interpreters import find_node

        node = find_node()
        if node is None:
            pytest.skip("node is not installed (PATH)")
        return function("express", Runtime=node.runtime, Handler="index.handler")

    def test_routes_queries_and_cookies(self, name: str, platform: Platform) -> None:
        answer = platform.invoke(name, http_event("GET", "/hello/you?a=1")).json
        assert answer["statusCode"] == 200
        assert json.loads(answer["body"]) == {"hello": "you", "query": {"a": "1"}}
        assert answer["cookies"] == ["seen=yes; Path=/"]

    def test_bodies_in_and_bytes_out(self, name: str, platform: Platform) -> None:
        json_type = {"content-type": "application/json"}
        event = http_event("POST", "/sum", '{"numbers":[1,2,3]}', json_type)
        answer = platform.invoke(name, event).json
        assert (answer["statusCode"], json.loads(answer["body"])) == (201, {"sum": 6})
        pixel = platform.invoke(name, http_event("GET", "/pixel")).json
        assert pixel["isBase64Encoded"] is True
        assert base64.b64decode(pixel["body"]) == b"\x89PNG\x00"
        assert platform.invoke(name, http_event("GET", "/nowhere")).json["statusCode"] == 404
