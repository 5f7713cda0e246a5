"""Functions choose what isolates them, on a host whose platform has no guest image for microVMs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from firelet.model.isolation import TAG
from running_platform import FIRELET, PYTHON, REGION, Deployer, Platform, clean_environment
from stack_runs import Stacks

pytest_plugins = ("platform_fixtures",)

MakePlatform = Callable[..., Platform]

# Every environment has another one.
BORN = "import uuid\nBORN = str(uuid.uuid4())\ndef handler(event, context):\n    return BORN\n"
MICROVM = {TAG: "microvm"}
MISSING = "/guest-images: make one with `firelet image build`."


@pytest.fixture(params=[0, 2], ids=["one process", "two workers"])
def small(request: pytest.FixtureRequest, make_platform: MakePlatform) -> Platform:
    """A platform of its own, of one process or with two workers."""
    return make_platform(FIRELET_WORKERS=str(request.param))


def arn_of(platform: Platform, name: str) -> str:
    found = platform.client("lambda").get_function_configuration(FunctionName=name)
    return str(found["FunctionArn"])


def refusal(call: Callable[..., Any], **parameters: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value


def test_a_function_whose_isolation_is_not_there_fails_until_it_asks_for_another(
    small: Platform,
) -> None:
    deploy = Deployer(small)
    client = small.client("lambda")
    name = deploy.name()
    deploy.create(name, BORN, Tags=MICROVM)
    failed = deploy.settle(name)
    assert (failed["State"], failed["StateReasonCode"]) == ("Failed", "InvalidConfiguration")
    assert MISSING in failed["StateReason"]
    assert client.get_function(FunctionName=name)["Tags"] == MICROVM
    refusal(small.invoke, name=name)

    client.untag_resource(Resource=arn_of(small, name), TagKeys=[TAG])
    assert deploy.settle(name)["State"] == "Active"
    assert small.invoke(name).json


def test_one_that_runs_does_not_go_on_with_less_than_it_asks_for(small: Platform) -> None:
    deploy = Deployer(small)
    client = small.client("lambda")
    name = deploy(BORN)
    born = small.invoke(name).json
    assert small.invoke(name).json == born

    client.tag_resource(Resource=arn_of(small, name), Tags=MICROVM)
    now = deploy.settle(name)
    assert (now["State"], now["LastUpdateStatus"]) == ("Active", "Failed")
    assert MISSING in now["LastUpdateStatusReason"]
    error = refusal(small.invoke, name=name)
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 502
    assert MISSING in error.response["Error"]["Message"]

    client.tag_resource(Resource=arn_of(small, name), Tags={TAG: "namespaces"})
    assert deploy.settle(name)["LastUpdateStatus"] == "Successful"
    again = small.invoke(name).json
    assert again != born
    # Said or not, it is another choice, and environments are those of the choice.
    client.untag_resource(Resource=arn_of(small, name), TagKeys=[TAG])
    deploy.settle(name)
    assert small.invoke(name).json not in (born, again)


def test_what_there_is_not_is_refused_by_every_way_to_tag(
    platform: Platform, deploy: Deployer
) -> None:
    client = platform.client("lambda")
    wrong = {TAG: "docker"}
    name = deploy.name()
    error = refusal(deploy.create, name=name, code=BORN, Tags=wrong)
    assert error.response["Error"]["Code"] == "InvalidParameterValueException"
    assert TAG in error.response["Error"]["Message"]

    arn = arn_of(platform, deploy(BORN))
    error = refusal(client.tag_resource, Resource=arn, Tags={"team": "red", **wrong})
    assert error.response["Error"]["Code"] == "InvalidParameterValueException"
    tagging = platform.client("resourcegroupstaggingapi")
    failed = tagging.tag_resources(ResourceARNList=[arn], Tags=wrong)["FailedResourcesMap"]
    assert TAG in failed[arn]["ErrorMessage"]
    assert client.list_tags(Resource=arn)["Tags"] == {}


def test_the_list_of_functions_says_what_each_asks_for(
    platform: Platform, deploy: Deployer
) -> None:
    plain = deploy(BORN)
    named = deploy(BORN, Tags={TAG: "namespaces"})
    listed = subprocess.run(
        [*FIRELET, "list", "--endpoint", platform.url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    cells = {row.split("\t")[0]: row.split("\t")[-1] for row in listed.splitlines()}
    assert (cells[plain], cells[named]) == ("-", "namespaces")


def test_a_deployment_says_it_and_leaves_it_when_it_says_nothing(
    small: Platform, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(BORN)
    client = small.client("lambda")

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*FIRELET, "deploy", str(tmp_path), "--name", "said", "--endpoint", small.url, *more],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def deploy(*more: str) -> dict[str, str]:
        done = run("--runtime", PYTHON, "--handler", "app.handler", *more)
        assert done.returncode == 0, done.stderr
        tags: dict[str, str] = client.list_tags(Resource=arn_of(small, "said"))["Tags"]
        return tags

    assert deploy() == {}
    assert deploy("--isolation", "namespaces") == {TAG: "namespaces"}
    assert deploy() == {TAG: "namespaces"}
    refused = run("--runtime", PYTHON, "--handler", "app.handler", "--isolation", "microvm")
    assert refused.returncode == 1
    assert MISSING in refused.stderr
    refused = run("--runtime", PYTHON, "--handler", "app.handler", "--isolation", "docker")
    assert refused.returncode == 1
    assert TAG in refused.stderr


def test_a_template_says_it_by_the_tags_of_its_function(platform: Platform, tmp_path: Path) -> None:
    pytest.importorskip("samtranslator", reason="the extra `sam` is missing")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text(BORN)
    stacks = Stacks(platform, tmp_path)
    template = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Greeter:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: src/, Handler: app.handler, Runtime: RUNTIME, Tags: TAGS}
Outputs:
  Arn: {Value: !GetAtt Greeter.Arn}
""".replace("RUNTIME", PYTHON)
    asked = template.replace("TAGS", f'{{"{TAG}": namespaces}}')
    outputs, _ = stacks.deploy(stacks.write(asked), "isolated")
    client = platform.client("lambda")
    born = platform.invoke(outputs["Arn"]).json
    assert client.list_tags(Resource=outputs["Arn"])["Tags"][TAG] == "namespaces"

    stacks.deploy(stacks.write(template.replace("TAGS", "{}")), "isolated")
    assert TAG not in client.list_tags(Resource=outputs["Arn"])["Tags"]
    assert platform.invoke(outputs["Arn"]).json != born

    wrong = template.replace("TAGS", f'{{"{TAG}": docker}}')
    refused = stacks.run("deploy", str(stacks.write(wrong)), "--stack", "isolated", expect=1)
    assert TAG in refused.stderr
    stacks.delete("isolated")


def test_a_platform_of_microvms_does_not_start_where_there_are_none(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*FIRELET, "up", "--port", "0", "--data-dir", str(tmp_path), "--isolation", "microvm"],
        env={**clean_environment(), "FIRELET_ACCEPT": "cgroups", "FIRELET_REGION": REGION},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert MISSING in ended.stderr


def test_the_doctor_says_what_microvms_lack(tmp_path: Path) -> None:
    said = subprocess.run(
        [*FIRELET, "doctor"],
        env={**clean_environment(), "FIRELET_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stdout
    rows = {row.split("\t")[0]: row for row in said.splitlines()}
    assert "functions that ask for microVMs do not run" in rows["microvm"]
    assert MISSING in rows["microvm"]
    assert "`firelet image build` makes one" in rows["guest images"]
