"""Applications of the shapes that ``sam init`` offers: deployed, called, changed, deleted.

The templates in ``tests/fixtures/sam`` are ours. Those that need a service which is not there yet
fail by the names of the types. ``sam build`` is run when the command is there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firelet.sandbox.interpreters import discover
from running_platform import ACCOUNT, PYTHON, REGION, Platform, clean_environment
from stack_runs import Stacks
from web_client import fetch

pytest_plugins = ("platform_fixtures",)
pytest.importorskip("samtranslator", reason="the extra `sam` is missing")

FIXTURES = Path(__file__).parent.parent / "fixtures" / "sam"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"
HELLO = {"statusCode": 200, "body": '{"message": "hello you"}'}
Copy = Callable[[str], Path]


@pytest.fixture
def stacks(platform: Platform, tmp_path: Path) -> Iterator[Stacks]:
    made = Stacks(platform, tmp_path)
    yield made
    made.check_nothing_left()


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    def make(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name, tmp_path / name))

    return make


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "code", "answer"),
    [
        ("hello_python", "hello/app.py", HELLO),
        ("with_layer", "layer/python/library.py", "hello"),
        ("from_scratch", "src/app.py", "hello"),
        ("observed", "src/app.py", "hello from observed at INFO"),
        ("streaming", "src/app.py", "hello"),
    ],
)
def test_an_application_is_deployed_called_changed_and_deleted(
    stacks: Stacks, platform: Platform, copy: Copy, name: str, code: str, answer: Any
) -> None:
    folder = copy(name)
    stack, parameter = name.replace("_", "-"), f"Runtime={PYTHON}"

    def deploy() -> tuple[dict[str, str], list[str]]:
        return stacks.deploy(folder / "template.yaml", stack, "--parameter", parameter)

    outputs, _ = deploy()
    payload = {"name": "you"}
    assert platform.invoke(outputs["Function"], payload).json == answer
    assert deploy() == (outputs, [])
    replace(folder / code, "hello", "good evening")
    again, changes = deploy()
    assert changes
    changed = str(platform.invoke(again["Function"], payload).json)
    assert changed == str(answer).replace("hello", "good evening")
    stacks.delete(stack)


def test_an_application_for_node_is_deployed(
    stacks: Stacks, platform: Platform, copy: Copy
) -> None:
    runtime = next((name for name in discover() if name.startswith("nodejs")), None)
    if runtime is None:
        pytest.skip("no Node.js that a runtime stands for")
    folder = copy("hello_node")
    option = ("--parameter", f"Runtime={runtime}")
    outputs, _ = stacks.deploy(folder / "template.yaml", "hello-node", *option)
    found = platform.invoke(outputs["Function"], {"name": "you"}).json
    assert found == {"statusCode": 200, "body": '{"message":"hello you"}'}
    replace(folder / "hello" / "greeting.mjs", "hello", "good evening")
    stacks.deploy(folder / "template.yaml", "hello-node", *option)
    found = platform.invoke(outputs["Function"], {"name": "you"}).json
    assert found["body"] == '{"message":"good evening you"}'
    stacks.delete("hello-node")


def test_a_worker_has_its_mappings_policies_and_destinations(
    stacks: Stacks, platform: Platform, copy: Copy
) -> None:
    template = copy("queue_worker") / "template.yaml"
    options = [
        item
        for pair in (f"Runtime={PYTHON}", f"QueueArn={QUEUE}", f"StreamArn={STREAM}")
        for item in ("--parameter", pair)
    ]
    outputs, _ = stacks.deploy(template, "worker", *options)
    client, iam = platform.client("lambda"), platform.client("iam")
    function = {"FunctionName": outputs["Function"]}
    found = client.get_function(**function)
    assert found["Concurrency"]["ReservedConcurrentExecutions"] == 2
    assert found["Configuration"]["DeadLetterConfig"] == {"TargetArn": QUEUE}
    config = client.get_function_event_invoke_config(**function, Qualifier="$LATEST")
    assert config["DestinationConfig"]["OnFailure"] == {"Destination": QUEUE}
    mappings = client.list_event_source_mappings(**function)["EventSourceMappings"]
    assert sorted(
        (item["EventSourceArn"], item["BatchSize"], item["State"]) for item in mappings
    ) == [
        (STREAM, 100, "Disabled"),
        (QUEUE, 5, "Enabled"),
    ]
    role = found["Configuration"]["Role"].rpartition("/")[2]
    policies = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert len(policies) == 4  # the poller's, the statement's, the dead letters', the destination's
    assert stacks.deploy(template, "worker", *options)[1] == []

    replace(template, "            BatchSize: 5\n", "")
    replace(template, "      ReservedConcurrentExecutions: 2\n", "")
    assert sorted(stacks.deploy(template, "worker", *options)[1]) == [
        "update AWS::Lambda::EventSourceMapping WorkerJobs",
        "update AWS::Lambda::Function Worker",
    ]
    assert "Concurrency" not in client.get_function(**function)
    stacks.delete("worker")


def test_a_function_behind_an_api(stacks: Stacks, platform: Platform, copy: Copy) -> None:
    template = copy("hello_api") / "template.yaml"
    url = stacks.deploy(template, "hello")[0]["Url"]
    api = url.removeprefix("https://").partition(".")[0]
    address = f"{platform.url}/_firelet/api/{api}/Prod"

    assert fetch(f"{address}/hello").body == b"hello"
    assert fetch(f"{address}/other").status == 403
    assert stacks.deploy(template, "hello")[1] == []
    stacks.delete("hello")
    assert fetch(f"{address}/hello").status == 403


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("schedule", "AWS::Events::Rule"),
        ("own_queue", "Jobs (AWS::SQS::Queue)"),
    ],
)
def test_an_application_that_needs_another_service_fails_by_name(
    stacks: Stacks, copy: Copy, name: str, types: str
) -> None:
    before = stacks.everything()
    template = copy(name) / "template.yaml"
    done = stacks.run("deploy", str(template), "--stack", "other", expect=1)
    assert "not supported, and so nothing was changed" in done.stderr
    assert types in done.stderr
    assert stacks.everything() == before


def test_what_sam_build_makes_is_deployed(stacks: Stacks, platform: Platform, copy: Copy) -> None:
    program = shutil.which("sam")
    if program is None:
        pytest.skip("sam is not on PATH")
    folder = copy("hello_python")
    done = subprocess.run(
        [program, "build", "--parameter-overrides", f"Runtime={PYTHON}"],
        cwd=folder,
        env={**clean_environment(), "SAM_CLI_TELEMETRY": "0", "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    built = folder / ".aws-sam" / "build" / "template.yaml"
    outputs, _ = stacks.deploy(built, "built", "--parameter", f"Runtime={PYTHON}")
    assert platform.invoke(outputs["Function"], {"name": "you"}).json == HELLO
    stacks.delete("built")
