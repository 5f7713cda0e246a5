"""What tests of the registry and of the operations on functions are made from."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from firelet.control.configuration import Settings
from firelet.control.functions import NewFunction
from firelet.control.registry import Registry
from firelet.frontend.operations import Call
from firelet.model.function import FunctionKey, FunctionVersion
from firelet.model.image import Image, ImageLayer

ACCOUNT = "123456789012"
REGION = "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/lambda"
ACCESS_POINT = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0"
KEY: FunctionKey = (ACCOUNT, REGION, "greeter")
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:greeter"


class FakeActivator:
    """Activates at once; ``gate`` holds activations back, ``failures`` makes them fail."""

    def __init__(self) -> None:
        self.activated: list[FunctionVersion] = []
        self.retired: list[tuple[FunctionKey, str | None]] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def activate(self, version: FunctionVersion) -> None:
        await self.gate.wait()
        self.activated.append(version)
        if self.failures:
            raise self.failures.pop(0)

    async def retire(self, function_key: FunctionKey, version: str | None) -> None:
        self.retired.append((function_key, version))


def make_image(uri: str = "r.example/app:v1", digest: str = "a" * 64) -> Image:
    """An image of one layer, as it was found by its tag."""
    layer = ImageLayer(digest="b" * 64, size=3, diff="c" * 64)
    resolved = f"{uri.rpartition(':')[0]}@sha256:{digest}"
    return Image(uri=uri, resolved_uri=resolved, digest=digest, layers=(layer,))


class FakeImages:
    """Finds every image; ``digest`` is what tags stand for, ``fault`` keeps it from finding any."""

    def __init__(self) -> None:
        self.digest = "a" * 64
        self.fault: Exception | None = None
        self.asked: list[tuple[str, str]] = []

    async def resolve(self, uri: str, architecture: str) -> Image:
        self.asked.append((uri, architecture))
        if self.fault is not None:
            raise self.fault
        return make_image(uri, self.digest)


def make_zip(files: Mapping[str, str | bytes] | None = None) -> bytes:
    """A zip with these files, or with a handler."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files or {"handler.py": "def handler(e, c): return e\n"}).items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


ZIP = make_zip()
OTHER_ZIP = make_zip({"handler.py": "def handler(e, c): return 2\n"})


def new_function(
    key: FunctionKey = KEY,
    package: bytes = ZIP,
    *,
    publish: bool = False,
    tags: Mapping[str, str] | None = None,
    code_signing: str | None = None,
    **settings: Any,
) -> NewFunction:
    """A function to create, with what the service model requires."""
    given = {"role": ROLE, "runtime": "python3.12", "handler": "handler.handler", **settings}
    return NewFunction(
        key=key,
        settings=Settings(**given),
        package=package,
        publish=publish,
        tags=tags or {},
        code_signing=code_signing,
    )


async def settle(registry: Registry) -> None:
    """Lets every activation and clean-up end, however many follow each other."""
    await registry.close()


def make_call(operation: str, region: str = REGION, **params: Any) -> Call:
    """A call as the router makes it."""
    return Call(
        service="lambda",
        operation=operation,
        account=ACCOUNT,
        region=region,
        request_id="00000000-0000-4000-8000-000000000000",
        params=params,
        base_url="http://localhost:4566",
    )
