"""Events that no well-behaved client sends, at functions of every language: the same answer as to
others, or an error of the function; the environment's next answer is right."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from firelet.sandbox.interpreters import discover
from firelet.sandbox.java import ensure_client, find_javas, has_compiler, java_homes
from firelet.sandbox.ruby import find_ruby
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

JAVA = """
import com.amazonaws.services.lambda.runtime.*;
public class App implements RequestHandler<Object, Object> {
  public Object handleRequest(Object event, Context context) { return event; }
}
"""
EVENTS = {
    "deep": b"[" * 900 + b"]" * 900,
    "deeper": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a number without end": b"1" * 5_000,
    "a number that is too large": b"1e999",
    "half of a character": b'"\\ud800"',
    "a zero": b'"a\\u0000b"',
    "a name twice": b'{"a": 1, "a": 2, "__proto__": {"b": 3}, "json_class": "Object"}',
    "a long name": b'{"' + b"n" * 1_000_000 + b'": 1}',
    "many members": b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(100_000)) + b"}",
    "no JSON": b"{'a': 1}",
    "no UTF-8": b'"\xff\xfe"',
    "not finite": b"[NaN, Infinity]",
    "white space": b" " * 1_000_000 + b"7",
}


@pytest.fixture(scope="module")
def java_class(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    javas = sorted(find_javas(java_homes()), key=lambda java: java.runtime)
    homes = [java.prefix for java in javas if java.prefix and has_compiler(java.prefix)]
    if not homes:
        pytest.skip("no JDK with javac is installed (JAVA_HOME, PATH, /usr/lib/jvm)")
    folder: Path = tmp_path_factory.mktemp("java")
    client = ensure_client(javas, folder / "clients")
    (folder / "App.java").write_text(JAVA)
    oldest = min(java.runtime.removeprefix("java").partition(".")[0] for java in javas)
    command = [str(homes[0] / "bin" / "javac"), "--release", oldest, "-cp", str(client)]
    subprocess.run([*command, "-d", str(folder), str(folder / "App.java")], check=True, timeout=60)
    return (folder / "App.class").read_bytes()


def check(platform: Platform, function: str) -> None:
    client = platform.client("lambda")
    for name, event in EVENTS.items():
        refused, body, error = None, b"", None
        try:
            answer = client.invoke(FunctionName=function, Payload=event)
            body, error = answer["Payload"].read(), answer.get("FunctionError")
        except ClientError as caught:
            refused = caught.response["Error"]["Code"]
        # What is no JSON, or deeper than can be looked at, is the caller's error.
        assert refused in (None, "InvalidRequestContentException"), name
        assert error is None or b"errorType" in body, (name, body)
        assert platform.invoke(function, {"n": name}).json == {"n": name}, name


def test_python_takes_any_event(deploy: Deployer, platform: Platform) -> None:
    check(platform, deploy("def handler(event, context):\n    return event\n", Timeout=30))


def test_node_takes_any_event(deploy: Deployer, platform: Platform) -> None:
    nodes = sorted(name for name in discover() if name.startswith("nodejs"))
    if not nodes:
        pytest.skip("no Node.js is installed")
    files = {"app.js": "exports.handler = async (event) => event;\n"}
    check(platform, deploy(files, Runtime=nodes[-1], Timeout=30, MemorySize=512))


def test_java_takes_any_event(deploy: Deployer, platform: Platform, java_class: bytes) -> None:
    runtime = min(java.runtime for java in find_javas(java_homes()))
    content = {"App.class": java_class}
    options = {"Handler": "App::handleRequest", "Timeout": 30, "MemorySize": 512}
    check(platform, deploy(content, Runtime=runtime, **options))


def test_ruby_takes_any_event(make_platform: Callable[..., Platform]) -> None:
    path = shutil.which("ruby")
    if path is None or find_ruby() is None:
        pytest.skip("ruby is not installed (PATH)")
    platform = make_platform(FIRELET_INTERPRETERS=f"ruby3.3={path}")
    deployer = Deployer(platform)
    files = {"app.rb": "def handler(event:, context:)\n  event\nend\n"}
    check(platform, deployer(files, Runtime="ruby3.3", Timeout=30, MemorySize=512))
