"""Functions from container images, through boto3: created, invoked, updated, published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from image_layouts import (
    ARCHITECTURE,
    ImageParts,
    directory,
    entry,
    make_tar,
    program,
    write_layout,
)
from running_platform import BOOTSTRAP, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PROCESS = {"Entrypoint": ["/entry"], "Cmd": ["app.handler"], "WorkingDir": "/srv"}


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
