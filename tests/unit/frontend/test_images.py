"""Operations on functions from images, as far as the API goes: what is asked, stored, refused."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from firelet.control.image_functions import check_not_signed
from firelet.control.registry import Registry
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.functions import FunctionOperations
from firelet.frontend.images import ImageIntake
from firelet.frontend.operations import Operations
from firelet.frontend.packages import PackageIntake
from firelet.frontend.s3source import S3CodeSource
from firelet.frontend.versions import VersionOperations
from firelet.model.errors import (
    AccessDenied,
    FireletError,
    ImageFault,
    InvalidParameterValue,
    PlatformError,
)
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from firelet.worker.images.errors import (
    BadImage,
    ImageAccessDenied,
    ImageNotFound,
    RegistryFailed,
    UnsupportedImage,
)
from firelet.worker.images.store import ImageNameInvalid
from registry_parts import ROLE, FakeActivator, FakeImages, make_call, make_zip, settle

URI = "r.example/app:v1"
NAME = "greeter"


class Api:
    """Calls operations as the router would."""

    def __init__(self, registry: Registry, images: FakeImages, links: CodeLinks) -> None:
        self._operations = Operations()
        intake = PackageIntake(S3CodeSource(None))
        for family in (
            FunctionOperations(registry, intake, ImageIntake(images), links),
            VersionOperations(registry),
        ):
            family.register(self._operations)

    async def call(self, operation: str, **params: Any) -> Any:
        handler = self._operations.find("lambda", operation)
        assert handler is not None
        return await handler(make_call(operation, FunctionName=NAME, **params))

    async def create(self, **params: Any) -> Any:
        given = {"PackageType": "Image", "Code": {"ImageUri": URI}, "Role": ROLE, **params}
        return await self.call("CreateFunction", **given)


@pytest.fixture
def activator() -> FakeActivator:
    return FakeActivator()


@pytest.fixture
async def registry(tmp_path: Path, activator: FakeActivator) -> AsyncIterator[Registry]:
    registry = Registry(MemoryDocuments(), BlobStore(tmp_path / "blobs"), activator=activator)
    await registry.load()
    yield registry
    await registry.close()


@pytest.fixture
def images() -> FakeImages:
    return FakeImages()


@pytest.fixture
def api(registry: Registry, images: FakeImages, tmp_path: Path) -> Api:
    links = CodeLinks(b"k" * 32, BlobStore(tmp_path / "blobs"), clock=time.time)
    return Api(registry, images, links)


async def test_the_image_is_looked_up_for_the_function_s_architecture(
    api: Api, images: FakeImages, registry: Registry
) -> None:
    await api.create(Architectures=["arm64"])
    await settle(registry)
    await api.call("UpdateFunctionCode", ImageUri="r.example/app:v2")
    await settle(registry)
    await api.call("UpdateFunctionCode", ImageUri=URI, Architectures=["x86_64"])
    await settle(registry)
    found = await api.call("GetFunctionConfiguration")
    assert found["Architectures"] == ["x86_64"]
    assert images.asked == [(URI, "arm64"), ("r.example/app:v2", "arm64"), (URI, "x86_64")]


async def test_a_digest_is_published_once(api: Api, images: FakeImages, registry: Registry) -> None:
    await api.create(Publish=True)
    await settle(registry)
    assert (await api.call("PublishVersion"))["Version"] == "1"
    images.digest = "d" * 64
    await api.call("UpdateFunctionCode", ImageUri=URI)
    await settle(registry)
    published = await api.call("PublishVersion")
    assert (published["Version"], published["CodeSha256"]) == ("2", "d" * 64)


FAULTS: list[tuple[ImageFault, type[FireletError], str]] = [
    (ImageNotFound("x"), InvalidParameterValue, f"Source image {URI} does not exist. Provide a"),
    (UnsupportedImage("x"), InvalidParameterValue, "The image manifest, config or layer media"),
    (ImageAccessDenied("x"), AccessDenied, "Lambda does not have permission to access the ECR"),
    (RegistryFailed("x"), PlatformError, f"The source image {URI} cannot be looked up: x."),
    (ImageNameInvalid("x"), InvalidParameterValue, f"Source image {URI} is not valid. Provide"),
    (BadImage("x"), InvalidParameterValue, f"Source image {URI} is not in order: x."),
]


@pytest.mark.parametrize(("fault", "error", "sentence"), FAULTS)
async def test_what_is_wrong_with_an_image_is_told_and_nothing_is_created(
    api: Api, images: FakeImages, fault: ImageFault, error: type[FireletError], sentence: str
) -> None:
    images.fault = fault
    with pytest.raises(error) as caught:
        await api.create()
    assert caught.value.message.startswith(sentence)
    images.fault = None
    await api.create()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (BadImage("x"), "InvalidImage"),
        (ImageNotFound("x"), "ImageDeleted"),
        (ImageAccessDenied("x"), "ImageAccessDenied"),
        (RegistryFailed("x"), "InternalError"),
    ],
)
async def test_a_function_whose_layers_cannot_be_had_has_failed(
    api: Api, registry: Registry, activator: FakeActivator, fault: ImageFault, reason: str
) -> None:
    activator.failures.append(fault)
    await api.create()
    await settle(registry)
    found = await api.call("GetFunctionConfiguration")
    assert (found["State"], found["StateReasonCode"]) == ("Failed", reason)


@pytest.mark.parametrize(
    "code",
    [{}, {"ZipFile": make_zip()}, {"ImageUri": URI, "ZipFile": make_zip()}, {"S3Bucket": "b"}],
)
async def test_an_image_is_named_and_nothing_else(api: Api, code: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterValue, match=r"^Please provide ImageUri when creating"):
        await api.create(Code=code)


def test_images_are_not_signed() -> None:
    check_not_signed(None)
    with pytest.raises(InvalidParameterValue, match="Code signing is not supported"):
        check_not_signed("arn")


async def test_image_settings_have_a_size(api: Api) -> None:
    with pytest.raises(InvalidParameterValue, match="ImageConfig must not be larger than 16384"):
        await api.create(ImageConfig={"Command": ["x" * 1_000] * 17})
    await api.create(ImageConfig={"Command": ["x" * 1_000] * 16})


async def test_an_image_has_no_size_and_no_runtime(api: Api) -> None:
    created = await api.create()
    assert created["CodeSize"] == 0
    assert not {"Runtime", "Handler", "RuntimeVersionConfig", "Layers"} & set(created)


async def test_layers_that_arrive_after_their_function_is_gone_go_too(
    tmp_path: Path, activator: FakeActivator
) -> None:
    deleted: list[str] = []

    class Blobs(BlobStore):
        async def delete(self, digest: str) -> None:
            deleted.append(digest)

    blobs = Blobs(tmp_path / "blobs")
    registry = Registry(MemoryDocuments(), blobs, activator=activator)
    await registry.load()
    api = Api(registry, FakeImages(), CodeLinks(b"k" * 32, blobs, clock=time.time))
    activator.gate.clear()
    await api.create()
    await api.call("DeleteFunction")
    assert deleted == []
    activator.gate.set()
    await settle(registry)
    assert "b" * 64 in deleted
    await registry.close()
