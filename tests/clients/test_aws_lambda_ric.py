"""AWS's own runtime interface client for Node.js, unmodified, in place of firelet's.

npm builds it from source, which takes minutes: once per version, below the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from firelet.sandbox.interpreters import find_node
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

pytestmark = pytest.mark.skipif(
    "FIRELET_TEST_SLOW" not in os.environ, reason="minutes to build; FIRELET_TEST_SLOW=1"
)

VERSION = "3.3.0"
TOOLS = ("npm", "g++", "make", "cmake", "autoreconf", "libtoolize")
_BUILD_S = 900
EXAMPLE = Path(__file__).parents[2] / "examples" / "aws-lambda-ric"
WRAPPER = (EXAMPLE / "wrapper").read_text()
CODE = """
let n = 0;
exports.handler = async (event, context) => {
  if (event === "raise") {
    throw new RangeError("as told");
  }
  if (event === "big") {
    return "x".repeat(7000000);
  }
  console.log("from the client of aws");
  n += 1;
  return [n, event, context.functionName, context.awsRequestId,
          context.getRemainingTimeInMillis() > 0];
};
"""


@pytest.fixture(scope="module")
def client() -> Path:
    """The installed package."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "firelet" / f"aws-lambda-ric-{VERSION}"
    package = home / "node_modules" / "aws-lambda-ric"
    if not (package / "dist" / "rapid-client.node").exists():
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            pytest.skip(f"not installed, to build aws-lambda-ric: {', '.join(missing)}")
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text("{}")
        ended = subprocess.run(
            ["npm", "install", "--silent", f"aws-lambda-ric@{VERSION}"],
            cwd=home,
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
        if ended.returncode:
            pytest.skip(f"aws-lambda-ric does not build here: {ended.stderr.strip()[-300:]}")
    return package


@pytest.fixture
def name(client: Path, deploy: Deployer) -> str:
    return deploy_behind(client, deploy, CODE)


def deploy_behind(client: Path, deploy: Deployer, code: str) -> str:
    node = find_node()
    if node is None:
        pytest.skip("node is not installed (PATH)")
    files: dict[str, str | bytes] = {"index.js": code, "wrapper": WRAPPER}
    for path in [client / "package.json", *client.glob("bin/*"), *client.glob("dist/*")]:
        files[f"node_modules/aws-lambda-ric/{path.relative_to(client)}"] = path.read_bytes()
    return deploy(
        files,
        executable=("wrapper",),
        Runtime=node.runtime,
        Handler="index.handler",
        MemorySize=256,
        Timeout=20,
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
    )


def test_it_serves_one_event_after_the_other(name: str, platform: Platform) -> None:
    first = platform.invoke(name, {"a": "é"}, LogType="Tail")
    assert first.json == [1, {"a": "é"}, name, first.request_id, True]
    assert "from the client of aws" in first.log
    second = platform.invoke(name, None)
    assert second.json == [2, None, name, second.request_id, True]


def test_the_example_serves(client: Path, deploy: Deployer, platform: Platform) -> None:
    name = deploy_behind(client, deploy, (EXAMPLE / "index.js").read_text())
    answer = platform.invoke(name, {"n": 1}, LogType="Tail")
    assert answer.json == {"event": {"n": 1}, "request": answer.request_id}
    assert "behind aws-lambda-ric" in answer.log


def test_its_errors_are_errors_of_the_function(name: str, platform: Platform) -> None:
    failed = platform.invoke(name, "raise")
    assert failed.error == "Unhandled"
    assert (failed.json["errorType"], failed.json["errorMessage"]) == ("RangeError", "as told")
    assert platform.invoke(name, 1).json[0] == 1


def test_an_answer_that_is_too_large_is_refused_as_on_aws(name: str, platform: Platform) -> None:
    failed = platform.invoke(name, "big")
    assert failed.json["errorType"] == "Function.ResponseSizeTooLarge"
    assert platform.invoke(name, 1).json[1] == 1
