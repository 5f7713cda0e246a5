"""Deployment packages on their way in: from the request or from S3, checked before anything else.

What it is not: their storage (``control.packages``). Called by ``frontend.functions``.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from typing import Any, Protocol

from firelet.model import limits
from firelet.model.errors import (
    InvalidParameterValue,
    NotYetImplemented,
    RequestEntityTooLarge,
)
from firelet.worker.archive import check_archive

STORAGE_LACKS = "S3ObjectStorageMode REFERENCE"
CODE_LACKS = f"container images; {STORAGE_LACKS}, PublishTo"


class CodeSource(Protocol):
    """Where packages are that a request names by bucket and key."""

    async def fetch(self, bucket: str, key: str, version: str | None) -> bytes:
        """The object's bytes. InvalidParameterValue with AWS's sentence when there are none."""


class PackageIntake:
    """Turns the code members of a request into a zip that can be extracted."""

    def __init__(self, source: CodeSource) -> None:
        self._source = source

    async def accept(self, code: Mapping[str, Any], verb: str) -> bytes:
        """The zip that ``FunctionCode`` (or UpdateFunctionCode, which has the same members) gives
        or names. ``verb`` is "creating" or "updating", for the sentence.

        InvalidParameterValue, RequestEntityTooLarge.
        """
        if code.get("ImageUri"):
            raise InvalidParameterValue(
                f"Please don't provide ImageUri when {verb} a function with packageType Zip."
            )
        if code.get("S3ObjectStorageMode", "COPY") != "COPY":
            raise NotYetImplemented(f"{STORAGE_LACKS} is not served yet.")
        package = await self._read(code)
        await asyncio.to_thread(check_archive, io.BytesIO(package))
        return package

    async def _read(self, code: Mapping[str, Any]) -> bytes:
        bucket, key = code.get("S3Bucket"), code.get("S3Key")
        given: bytes | None = code.get("ZipFile")
        if given is not None:
            if bucket or key or code.get("S3ObjectVersion"):
                raise InvalidParameterValue(
                    "Please do not provide other FunctionCode parameters when providing a ZipFile."
                )
            if len(given) > limits.CODE_ZIPPED_MAX_BYTES:
                raise RequestEntityTooLarge(
                    f"Zipped size must be smaller than {limits.CODE_ZIPPED_MAX_BYTES} bytes"
                )
            return given
        if not bucket or not key:
            raise InvalidParameterValue("Please provide a source for function code.")
        return await self._source.fetch(bucket, key, code.get("S3ObjectVersion"))
