"""FileSystemConfigs through boto3: a directory of the host that functions share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from running_platform import ACCOUNT, REGION, Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

ARN = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0"
UNMAPPED = ARN.replace("fsap-0", "fsap-1")
VPC = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
OWNER = 54_321
NOTE = """
import os
def handler(event, context):
    with open(event["path"], "a") as file:
        file.write(event["text"])
    return open(event["path"]).read()
"""


@dataclass(frozen=True)
class Shared:
    """A platform with a directory to share, and who deploys to it."""

    platform: Platform
    directory: Path
    deploy: Deployer

    def function(self, path: str) -> str:
        configs = [{"Arn": ARN, "LocalMountPath": path}]
        return self.deploy(NOTE, FileSystemConfigs=configs, VpcConfig=VPC)

    def append(self, function: str, path: str, text: str) -> Any:
        return self.platform.invoke(function, {"path": path, "text": text}).json


@pytest.fixture
def shared(make_platform: Callable[..., Platform], tmp_path: Path) -> Iterator[Shared]:
    directory = tmp_path / "shared"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, OWNER, OWNER)
    platform = make_platform(FIRELET_FILE_SYSTEMS=f"{ARN}={directory}")
    deployer = Deployer(platform)
    yield Shared(platform, directory, deployer)
    deployer.close()


def test_functions_and_environments_share_a_directory(shared: Shared) -> None:
    one, two = shared.function("/mnt/notes"), shared.function("/mnt/other")

    assert shared.append(one, "/mnt/notes/file", "a") == "a"
    assert shared.append(two, "/mnt/other/file", "b") == "ab"
    # Another configuration: another environment of the same function.
    shared.platform.client("lambda").update_function_configuration(FunctionName=one, Timeout=9)
    shared.deploy.settle(one)
    assert shared.append(one, "/mnt/notes/file", "c") == "abc"

    assert (shared.directory / "file").read_text() == "abc"
    assert (shared.directory / "file").stat().st_uid == shared.directory.stat().st_uid
    read = shared.platform.client("lambda").get_function_configuration(FunctionName=one)
    assert read["FileSystemConfigs"] == [{"Arn": ARN, "LocalMountPath": "/mnt/notes"}]


REFUSED: tuple[tuple[list[dict[str, str]], str, str], ...] = (
    (
        [{"Arn": UNMAPPED, "LocalMountPath": "/mnt/x"}],
        "InvalidParameterValueException",
        "Access point fsap-1123456789abcdef0 does not exist.",
    ),
    (
        [{"Arn": ARN, "LocalMountPath": "/mnt/x"}],
        "InvalidParameterValueException",
        f"Function must be configured to execute in a VPC to reference access point {ARN}. Please"
        " update the function configuration to include VPC subnets and security groups.",
    ),
    (
        [{"Arn": ARN, "LocalMountPath": "/mnt/.."}],
        "InvalidParameterValueException",
        "/mnt/.. is not a directory of /mnt",
    ),
    (
        [{"Arn": ARN, "LocalMountPath": "/etc/x"}],
        "ValidationException",
        "1 validation error detected: Value '/etc/x' at"
        " 'fileSystemConfigs.1.member.localMountPath' failed to satisfy constraint: Member must"
        " satisfy regular expression pattern: /mnt/[a-zA-Z0-9-_.]+",
    ),
    (
        [{"Arn": "arn:aws:s3:::x", "LocalMountPath": "/mnt/x"}],
        "ValidationException",
        "at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint",
    ),
    (
        [{"Arn": ARN, "LocalMountPath": f"/mnt/{name}"} for name in "xy"],
        "ValidationException",
        "at 'fileSystemConfigs' failed to satisfy constraint: Member must have length less than or"
        " equal to 1",
    ),
)


def test_what_cannot_be_mounted_is_refused(shared: Shared) -> None:
    for configs, code, sentence in REFUSED:
        with pytest.raises(ClientError) as caught:
            shared.deploy.create("refused", NOTE, FileSystemConfigs=configs)
        error = caught.value.response["Error"]
        assert error["Code"] == code
        assert sentence in error["Message"]


def test_a_function_stays_in_its_vpc_while_it_names_a_file_system(shared: Shared) -> None:
    name, client = shared.function("/mnt/notes"), shared.platform.client("lambda")
    nowhere: dict[str, list[str]] = {"SubnetIds": [], "SecurityGroupIds": []}
    with pytest.raises(ClientError) as caught:
        client.update_function_configuration(FunctionName=name, VpcConfig=nowhere)
    assert caught.value.response["Error"] == {
        "Code": "InvalidParameterValueException",
        "Message": (
            f"Function VPC configuration cannot be removed with access point {ARN} referenced."
        ),
    }
    client.update_function_configuration(FunctionName=name, VpcConfig=nowhere, FileSystemConfigs=[])


def test_worker_processes_mount_layers_and_file_systems_and_know_the_tenant(
    make_platform: Callable[..., Platform], tmp_path: Path
) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, OWNER, OWNER)
    platform = make_platform(FIRELET_WORKERS="2", FIRELET_FILE_SYSTEMS=f"{ARN}={directory}")
    layer = platform.client("lambda").publish_layer_version(
        LayerName="tools", Content={"ZipFile": pack({"python/tool.py": "WORD = 'tool'\n"})}
    )
    function = Deployer(platform)(
        "import tool\ndef handler(event, context):\n"
        "    open('/mnt/x/file', 'a').write(context.tenant_id)\n    return tool.WORD\n",
        Layers=[layer["LayerVersionArn"]],
        FileSystemConfigs=[{"Arn": ARN, "LocalMountPath": "/mnt/x"}],
        VpcConfig=VPC,
        TenancyConfig={"TenantIsolationMode": "PER_TENANT"},
    )
    assert platform.invoke(function, TenantId="blue").json == "tool"
    assert (directory / "file").read_text() == "blue"


def test_a_directory_that_went_away_fails_the_functions_that_mount_it(shared: Shared) -> None:
    shared.directory.rmdir()
    function = shared.function("/mnt/notes")
    other = shared.deploy("def handler(event, context):\n    return 'runs'\n")
    with pytest.raises(ClientError) as caught:
        shared.append(function, "/mnt/notes/file", "a")
    error = caught.value.response
    assert error["Error"]["Code"] == "EFSMountFailureException"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert shared.platform.invoke(other).json == "runs"
