"""Functions from container images, through boto3: created, invoked, updated, published."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from extension_layers import SHELL
from image_layouts import (
    ARCHITECTURE,
    ImageParts,
    directory,
    entry,
    make_tar,
    program,
    write_layout,
)
from loopback_registry import LoopbackRegistry, credentials_for
from running_platform import (
    ACCOUNT,
    BOOTSTRAP,
    FIRELET,
    REGION,
    Deployer,
    Platform,
    clean_environment,
    wait_until,
)

pytest_plugins = ("platform_fixtures",)

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PROCESS = {"Entrypoint": ["/entry"], "Cmd": ["app.handler"], "WorkingDir": "/srv"}
# Answers with what it was started with and in.
ECHO = BOOTSTRAP.replace(
    '\\"handler\\": \\"$_HANDLER\\"',
    '\\"handler\\": \\"$_HANDLER\\", \\"arguments\\": \\"$*\\", \\"directory\\": \\"$PWD\\",'
    ' \\"own\\": \\"$OWN\\", \\"path\\": \\"$PATH\\", \\"kind\\": \\"$AWS_EXECUTION_ENV\\"',
)


def shell_layer(*more: Any, entry_text: str = BOOTSTRAP) -> bytes:
    """Bash, and a runtime client in it that answers with its event and its handler."""
    return make_tar(
        [
            *program("/bin/bash"),
            directory("srv"),
            entry("entry", entry_text, mode=0o755),
            *more,
        ]
    )


@dataclass(frozen=True)
class Images:
    """A platform that finds images in a directory, and who deploys them."""

    platform: Platform
    directory: Path
    deploy: Deployer

    def put(self, repository: str, tag: str, image: ImageParts) -> str:
        """Stores an image; the digest of its manifest."""
        digest, blobs = image.blobs()
        write_layout(self.directory / repository, tag, digest, blobs)
        return digest

    def create(self, uri: str, **options: Any) -> Any:
        return self.platform.client("lambda").create_function(
            FunctionName=self.deploy.name("image"),
            PackageType="Image",
            Code={"ImageUri": uri},
            Role=self.platform.make_role(),
            Architectures=[ARCHITECTURE],
            **options,
        )

    def function(self, uri: str, **options: Any) -> str:
        """The name of a function that is ready."""
        name = self.create(uri, **options)["FunctionName"]
        self.deploy.settle(name)
        return str(name)


@pytest.fixture
def images(make_platform: Callable[..., Platform], tmp_path: Path) -> Iterator[Images]:
    where = tmp_path / "layouts"
    where.mkdir()
    platform = make_platform(FIRELET_IMAGES=f"{REGISTRY}={where}")
    deployer = Deployer(platform)
    yield Images(platform, where, deployer)
    deployer.close()


def test_an_image_is_created_described_and_invoked(images: Images) -> None:
    digest = images.put("greeter", "v1", ImageParts([shell_layer()], PROCESS))
    uri = f"{REGISTRY}/greeter:v1"
    created = images.create(uri, MemorySize=256)
    name = created["FunctionName"]

    assert created["PackageType"] == "Image"
    assert created["CodeSha256"] == digest
    assert created["CodeSize"] == 0
    assert "Runtime" not in created
    assert "Handler" not in created
    assert created["State"] == "Pending"
    assert images.deploy.settle(name)["State"] == "Active"
    answer = images.platform.invoke(name, {"n": 1})
    assert answer.json == {"got": {"n": 1}, "handler": "app.handler"}
    found = images.platform.client("lambda").get_function(FunctionName=name)
    assert found["Code"] == {
        "RepositoryType": "ECR",
        "ImageUri": uri,
        "ResolvedImageUri": f"{REGISTRY}/greeter@sha256:{digest}",
    }


def test_the_function_s_configuration_goes_over_the_image_s(images: Images) -> None:
    config = {**PROCESS, "Env": ["OWN=image", "PATH=/bin:/image"]}
    layer = shell_layer(entry("other", ECHO, mode=0o755), directory("elsewhere"), entry_text=ECHO)
    images.put("app", "v1", ImageParts([layer], config))
    client = images.platform.client("lambda")
    name = images.function(f"{REGISTRY}/app:v1")

    def seen() -> Any:
        images.deploy.settle(name)
        return images.platform.invoke(name).json

    assert seen() == {
        "got": None,
        "handler": "app.handler",
        "arguments": "app.handler",
        "directory": "/srv",
        "own": "image",
        "path": "/bin:/image",
        "kind": "AWS_Lambda_Image",
    }
    changed = {"EntryPoint": ["/other"], "Command": ["a", "b"], "WorkingDirectory": "/elsewhere"}
    answer = client.update_function_configuration(
        FunctionName=name, ImageConfig=changed, Environment={"Variables": {"OWN": "function"}}
    )
    assert answer["ImageConfigResponse"] == {"ImageConfig": changed}
    found = seen()
    assert (found["handler"], found["arguments"]) == ("a", "a b")
    assert (found["directory"], found["own"]) == ("/elsewhere", "function")
    answer = client.update_function_configuration(FunctionName=name, ImageConfig={})
    assert "ImageConfigResponse" not in answer
    assert seen()["directory"] == "/srv"


FAILURES = [
    (
        {"EntryPoint": ["/nowhere", "x"]},
        "Runtime.InvalidEntrypoint",
        "fork/exec /nowhere: no such file or directory",
    ),
    ({"EntryPoint": ["/text"]}, "Runtime.InvalidEntrypoint", "fork/exec /text: permission denied"),
    (
        {"EntryPoint": ["tool"]},
        "Runtime.InvalidEntrypoint",
        'exec: "tool": executable file not found in $PATH',
    ),
    (
        {"WorkingDirectory": "/nowhere"},
        "Runtime.InvalidWorkingDir",
        "chdir /nowhere: no such file or directory",
    ),
]


def test_a_process_that_cannot_be_started_is_told_as_aws_does(images: Images) -> None:
    images.put("app", "v1", ImageParts([shell_layer(entry("text", "x"))], PROCESS))
    for config, error_type, sentence in FAILURES:
        name = images.function(f"{REGISTRY}/app:v1", ImageConfig=config)
        answer = images.platform.invoke(name, LogType="Tail")
        assert answer.error == "Unhandled"
        assert answer.json["errorType"] == error_type
        assert answer.json["errorMessage"] == f"RequestId: {answer.request_id} Error: {sentence}"
        launch = f"IMAGE\tLaunch error: {sentence}\tEntrypoint: ["
        assert launch in answer.log
        assert f"Status: error\tError Type: {error_type}" in answer.log


def test_an_image_without_a_process_has_no_entry_point(images: Images) -> None:
    images.put("app", "v1", ImageParts([shell_layer()]))
    answer = images.platform.invoke(images.function(f"{REGISTRY}/app:v1"))
    assert answer.json["errorType"] == "Runtime.InvalidEntrypoint"


def test_a_function_keeps_its_image_until_it_is_updated(images: Images) -> None:
    uri = f"{REGISTRY}/app:v1"
    one = images.put("app", "v1", ImageParts([shell_layer()], {**PROCESS, "Cmd": ["one"]}))
    client = images.platform.client("lambda")
    name = images.function(uri, Publish=True)
    two = images.put("app", "v1", ImageParts([shell_layer()], {**PROCESS, "Cmd": ["two"]}))

    assert images.platform.invoke(name).json["handler"] == "one"
    updated = client.update_function_code(FunctionName=name, ImageUri=uri, DryRun=True)
    assert updated["CodeSha256"] == two
    assert client.get_function_configuration(FunctionName=name)["CodeSha256"] == one
    updated = client.update_function_code(FunctionName=name, ImageUri=uri)
    assert updated["CodeSha256"] == two
    images.deploy.settle(name)
    published = client.publish_version(FunctionName=name, CodeSha256=two)
    assert (published["Version"], published["CodeSha256"]) == ("2", two)
    images.deploy.settle(name)
    assert images.platform.invoke(name).json["handler"] == "two"
    assert images.platform.invoke(f"{name}:1").json["handler"] == "one"
    assert images.platform.invoke(f"{name}:2").json["handler"] == "two"


def test_images_survive_a_restart_and_a_kill(images: Images) -> None:
    images.put("app", "v1", ImageParts([shell_layer()], PROCESS))
    name = images.function(f"{REGISTRY}/app:v1")
    shutil.rmtree(images.directory / "app")
    for end in (images.platform.stop, images.platform.kill):
        end()
        images.platform.start()
        assert images.platform.invoke(name, 1).json["got"] == 1


def test_layers_are_shared_and_go_with_their_last_user(images: Images) -> None:
    base, own = shell_layer(), [make_tar([entry(f"own{number}", "")]) for number in range(2)]
    for number in range(2):
        parts = ImageParts([base, own[number]], PROCESS)
        images.put(f"app{number}", "v1", parts)
    one, two = (images.function(f"{REGISTRY}/app{number}:v1") for number in range(2))
    blobs = images.platform.data_dir / "images" / "blobs"

    def kept() -> tuple[int, int]:
        stored = [path for path in blobs.rglob("*") if len(path.name) == 64]
        return len(stored), len(list((images.platform.data_dir / "code").iterdir()))

    client = images.platform.client("lambda")
    assert kept() == (3, 3)
    client.delete_function(FunctionName=one)
    wait_until(lambda: kept() == (2, 2), "the layer of one image alone is gone")
    assert images.platform.invoke(two, 1).json["got"] == 1
    client.delete_function(FunctionName=two)
    wait_until(lambda: kept() == (0, 0), "no layer is left")


def test_extensions_of_an_image_take_part(images: Images) -> None:
    layer = shell_layer(
        directory("opt"),
        directory("opt/extensions"),
        entry("opt/extensions/in-shell", SHELL, mode=0o755),
    )
    images.put("watched", "v1", ImageParts([layer], PROCESS))
    name = images.function(f"{REGISTRY}/watched:v1", MemorySize=256)
    answer = images.platform.invoke(name, {"n": 1}, LogType="Tail")
    assert answer.json["got"] == {"n": 1}
    assert f"shell got INVOKE {answer.request_id}\n" in answer.log


def test_worker_processes_run_images(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    platform = make_platform(FIRELET_IMAGES=f"{REGISTRY}={tmp_path}", FIRELET_WORKERS="2")
    deployer = Deployer(platform)
    images = Images(platform, tmp_path, deployer)
    images.put("app", "v1", ImageParts([shell_layer(entry("text", "x"))], PROCESS))
    good = images.function(f"{REGISTRY}/app:v1")
    bad = images.function(f"{REGISTRY}/app:v1", ImageConfig={"EntryPoint": ["/text"]})
    assert platform.invoke(good, 1).json["got"] == 1
    assert platform.invoke(bad).json["errorType"] == "Runtime.InvalidEntrypoint"
    deployer.close()


def test_an_image_has_the_file_systems_of_its_function(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    arn = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0"
    shared = tmp_path / "shared"
    shared.mkdir()
    if os.geteuid() == 0:
        os.chown(shared, 54_321, 54_321)
    platform = make_platform(
        FIRELET_IMAGES=f"{REGISTRY}={tmp_path}", FIRELET_FILE_SYSTEMS=f"{arn}={shared}"
    )
    deployer = Deployer(platform)
    images = Images(platform, tmp_path, deployer)
    writing = BOOTSTRAP.replace("while true; do", "echo written > /mnt/here/note\nwhile true; do")
    images.put("app", "v1", ImageParts([shell_layer(entry_text=writing)], PROCESS))
    configs = [{"Arn": arn, "LocalMountPath": "/mnt/here"}]
    network = {"SubnetIds": ["subnet-0"], "SecurityGroupIds": ["sg-0"]}
    name = images.function(f"{REGISTRY}/app:v1", FileSystemConfigs=configs, VpcConfig=network)
    assert platform.invoke(name, 1).json["got"] == 1
    assert (shared / "note").read_text() == "written\n"
    deployer.close()


def error_of(call: Callable[..., Any], **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_what_aws_refuses_is_refused(images: Images) -> None:
    images.put("app", "v1", ImageParts([shell_layer()], PROCESS))
    images.put("old", "v1", ImageParts([shell_layer()], manifest={"mediaType": "text/plain"}))
    uri = f"{REGISTRY}/app:v1"
    invalid = "InvalidParameterValueException"
    together = "Please don't provide Handler or Runtime or Layer when the intended function"
    for options, sentence in (
        ({"uri": "app:v1"}, "Source image app:v1 is not valid. Provide a valid source image"),
        ({"uri": "evil.example/app:v1"}, "Source image evil.example/app:v1 is not valid."),
        ({"uri": f"{REGISTRY}/app:v2"}, f"Source image {REGISTRY}/app:v2 does not exist."),
        ({"uri": f"{REGISTRY}/old:v1"}, "The image manifest, config or layer media type for the"),
        ({"uri": ""}, "Please provide ImageUri when creating a function with packageType Image."),
        ({"Handler": "a.b"}, together),
        ({"Runtime": "python3.12"}, together),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, "SnapStart is not supported"),
    ):
        code, message = error_of(lambda **o: images.create(o.pop("uri", uri), **o), **options)
        assert code == invalid, options
        assert message.startswith(sentence), options

    client = images.platform.client("lambda")
    name, zipped = images.function(uri), images.deploy("def handler(e, c): return 1")
    for call, params, sentence in (
        (client.update_function_configuration, {"Handler": "a.b"}, together),
        (client.update_function_code, {"ZipFile": b"x"}, "Please provide ImageUri when updating"),
    ):
        code, message = error_of(call, FunctionName=name, **params)
        assert code == invalid
        assert message.startswith(sentence)
    for call, params, sentence in (
        (
            client.update_function_configuration,
            {"ImageConfig": {"Command": ["x"]}},
            "Please don't provide ImageConfig",
        ),
        (
            client.update_function_code,
            {"ImageUri": uri},
            "Please don't provide ImageUri when updating a function with packageType Zip.",
        ),
    ):
        code, message = error_of(call, FunctionName=zipped, **params)
        assert code == invalid
        assert message.startswith(sentence)
    assert images.platform.invoke(name, 1).json["got"] == 1
    assert images.platform.invoke(zipped).json == 1


def test_an_image_that_cannot_be_made_ready_fails_alone(images: Images) -> None:
    hostile = make_tar([*program("/bin/bash"), entry("../../outside", "x")])
    images.put("hostile", "v1", ImageParts([hostile], PROCESS))
    images.put("good", "v1", ImageParts([shell_layer()], PROCESS))
    digest = images.put("gone", "v1", ImageParts([make_tar([entry("only", "here")])], PROCESS))
    store = images.directory / "gone/blobs/sha256"
    for path in store.iterdir():
        if path.read_bytes()[:2] == b"\x1f\x8b":
            path.unlink()
    good = images.function(f"{REGISTRY}/good:v1")

    for repository, reason in (("hostile", "InvalidImage"), ("gone", "ImageDeleted")):
        name = images.create(f"{REGISTRY}/{repository}:v1")["FunctionName"]
        found = images.deploy.settle(name)
        assert (found["State"], found["StateReasonCode"]) == ("Failed", reason)
    assert images.platform.invoke(good, 1).json["got"] == 1
    assert not list(images.platform.data_dir.rglob("outside"))
    # An update that fails leaves the function with what it had.
    client = images.platform.client("lambda")
    client.update_function_code(FunctionName=good, ImageUri=f"{REGISTRY}/gone@sha256:{digest}")
    found = images.deploy.settle(good)
    assert found["LastUpdateStatusReasonCode"] == "ImageDeleted"
    assert images.platform.invoke(good, 2).json["got"] == 2


def test_a_stop_breaks_off_what_is_fetched_and_the_next_start_goes_on(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    registry = LoopbackRegistry()
    stalled, over = threading.Event(), threading.Event()

    def stall(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        stalled.set()
        over.wait(60)

    try:
        digest, blobs = ImageParts([shell_layer()], PROCESS).blobs()
        registry.put("app", "v1", digest, blobs)
        layer = list(blobs)[-1]
        registry.answers[f"/v2/app/blobs/sha256:{layer}"] = stall
        platform = make_platform(FIRELET_IMAGE_CLIENT="http")
        deployer = Deployer(platform)
        images = Images(platform, tmp_path, deployer)
        name = images.create(f"{registry.host}/app:v1")["FunctionName"]
        assert stalled.wait(30)
        assert platform.stop() == 0
        registry.answers.clear()
        platform.start()
        assert deployer.settle(name)["State"] == "Active"
        assert platform.invoke(name, 1).json["got"] == 1
        deployer.close()
    finally:
        over.set()
        registry.close()


def test_images_come_from_a_registry_that_wants_a_login(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    registry = LoopbackRegistry("bearer")
    try:
        registry.put("team/app", "v1", *ImageParts([shell_layer()], PROCESS).blobs())
        credentials = tmp_path / "config.json"
        credentials.write_text(credentials_for(registry.host))
        platform = make_platform(
            FIRELET_IMAGES=f"{REGISTRY}/team=http://{registry.host}/team",
            FIRELET_REGISTRY_CREDENTIALS=str(credentials),
            FIRELET_IMAGE_CLIENT="http",
        )
        deployer = Deployer(platform)
        images = Images(platform, tmp_path, deployer)
        for uri in (f"{REGISTRY}/team/app:v1", f"{registry.host}/team/app:v1"):
            assert platform.invoke(images.function(uri), 1).json["got"] == 1
        assert registry.asked_for("/token")
        credentials.unlink()
        credentials.write_text("{}")
        code, message = error_of(images.create, uri=f"{registry.host}/team/app:v1")
        assert code == "AccessDeniedException"
        assert "does not have permission to access the ECR image" in message
        deployer.close()
    finally:
        registry.close()


TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Tag: {{Type: String, Default: v1}}
Resources:
  Greeter:
    Type: AWS::Serverless::Function
    Properties:
      PackageType: Image
      ImageUri: !Sub "{registry}/app:${{Tag}}"
      Architectures: [{architecture}]
      ImageConfig: {{Command: [from.template]}}
Outputs:
  Name: {{Value: !Ref Greeter}}
"""


def test_a_template_deploys_an_image(images: Images, tmp_path: Path) -> None:
    pytest.importorskip("samtranslator", reason="the extra `sam` is missing")
    for tag in ("v1", "v2"):
        layers = [shell_layer(), make_tar([entry(tag, "")])]
        images.put("app", tag, ImageParts(layers, PROCESS))
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE.format(registry=REGISTRY, architecture=ARCHITECTURE))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*FIRELET, *arguments, "--endpoint", images.platform.url],
            env={**clean_environment(), "XDG_STATE_HOME": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    client = images.platform.client("lambda")
    _, name = run("deploy", str(template), "--stack", "one").split()
    assert images.platform.invoke(name, 1).json == {"got": 1, "handler": "from.template"}
    run("deploy", str(template), "--stack", "one", "--parameter", "Tag=v2")
    assert client.get_function(FunctionName=name)["Code"]["ImageUri"] == f"{REGISTRY}/app:v2"
    without = "\n".join(x for x in template.read_text().splitlines() if "ImageConfig" not in x)
    template.write_text(without)
    run("deploy", str(template), "--stack", "one", "--parameter", "Tag=v2")
    assert images.platform.invoke(name, 1).json == {"got": 1, "handler": "app.handler"}
    run("delete", "--stack", "one")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=name)
