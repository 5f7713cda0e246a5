"""Deployment packages on their way in: from the request or from S3, checked before anything else.

What it is not: their storage (``control.packages``). Called by ``frontend.functions`` and
``frontend.layers``.

Source: docs.aws.amazon.com/lambda/latest/dg/configuration-self-managed-storage.html for packages
by reference; the sentence about versioning is firelet's own.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from firelet.model import limits
from firelet.model.errors import (
    InvalidParameterValue,
    RequestEntityTooLarge,
)
from firelet.model.function import S3Object
from firelet.worker.archive import check_archive

CODE_LACKS = "PublishTo"
_REFERENCE = "REFERENCE"  # of S3ObjectStorageMode; the other is COPY, the default


@dataclass(frozen=True, slots=True)
class Fetched:
    """An object of S3. ``version`` is None in a bucket that keeps no versions."""

    content: bytes
    version: str | None


@dataclass(frozen=True, slots=True)
class Package:
    """A zip that can be extracted; ``reference`` is the object it was given by reference to."""

    content: bytes
    reference: S3Object | None = None


class CodeSource(Protocol):
    """Where packages are that a request names by bucket and key."""

    async def fetch(self, bucket: str, key: str, version: str | None) -> Fetched:
        """The object. InvalidParameterValue with AWS's sentence when there is none."""


class PackageIntake:
    """Turns the code members of a request into a zip that can be extracted."""

    def __init__(self, source: CodeSource) -> None:
        self._source = source

    async def accept(self, code: Mapping[str, Any], verb: str) -> Package:
        """The zip that ``FunctionCode`` (or UpdateFunctionCode, which has the same members) gives
        or names. ``verb`` is "creating" or "updating", for the sentence.

        InvalidParameterValue, RequestEntityTooLarge.
        """
        if code.get("ImageUri"):
            raise InvalidParameterValue(
                f"Please don't provide ImageUri when {verb} a function with packageType Zip."
            )
        package = await self._read(code)
        await asyncio.to_thread(check_archive, io.BytesIO(package.content))
        return package

    async def _read(self, code: Mapping[str, Any]) -> Package:
        bucket, key = code.get("S3Bucket"), code.get("S3Key")
        is_reference = code.get("S3ObjectStorageMode") == _REFERENCE
        given: bytes | None = code.get("ZipFile")
        if given is not None:
            if bucket or key or code.get("S3ObjectVersion") or is_reference:
                raise InvalidParameterValue(
                    "Please do not provide other FunctionCode parameters when providing a ZipFile."
                )
            if len(given) > limits.CODE_ZIPPED_MAX_BYTES:
                raise RequestEntityTooLarge(
                    f"Zipped size must be smaller than {limits.CODE_ZIPPED_MAX_BYTES} bytes"
                )
            return Package(given)
        if not bucket or not key:
            raise InvalidParameterValue("Please provide a source for function code.")
        fetched = await self._source.fetch(bucket, key, code.get("S3ObjectVersion"))
        if not is_reference:
            return Package(fetched.content)
        if fetched.version is None:
            raise InvalidParameterValue(
                f"S3ObjectStorageMode {_REFERENCE} requires a bucket with versioning; {bucket} has"
                " none."
            )
        return Package(fetched.content, S3Object(bucket, key, fetched.version))
