"""Deployment packages from an S3-compatible endpoint. The adapter of ``packages.CodeSource`` and of
``control.references.SourceObjects``.

Only the endpoint that firelet was configured with is ever asked. Made by ``app``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from firelet.frontend.packages import Fetched
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import S3Object

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_DEFAULT_REGION = "us-east-1"
_LOST = (403, 404, 405)  # 405: this version is the mark of a deletion


class S3CodeSource:
    """``endpoint_url`` None: there is no S3, and every fetch says so. Without credentials the
    requests are not signed; the host's own AWS credentials are never used."""

    def __init__(
        self,
        endpoint_url: str | None,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        region: str = _DEFAULT_REGION,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._client: Any = None
        self._making = threading.Lock()

    async def fetch(self, bucket: str, key: str, version: str | None) -> Fetched:
        """The object, of at most the unzipped limit: a zip is not larger than what it holds."""
        if self._endpoint_url is None:
            raise _failed(
                "NoEndpoint",
                "No S3 endpoint is configured for firelet to fetch code from; set s3_endpoint.",
            )
        return await asyncio.to_thread(self._fetch, bucket, key, version)

    def _fetch(self, bucket: str, key: str, version: str | None) -> Fetched:
        # Imported on first use: importing botocore takes longer than firelet takes to start.
        from botocore.exceptions import BotoCoreError, ClientError

        request = {"Bucket": bucket, "Key": key}
        if version is not None:
            request["VersionId"] = version
        try:
            answer = self._open_client().get_object(**request)
            with answer["Body"] as body:
                return Fetched(_read_limited(body), _parse_version(answer.get("VersionId")))
        except ClientError as error:
            raise _refused(error.response) from error
        except BotoCoreError as error:
            raise _failed("ServiceUnavailable", str(error)) from error

    async def check(self, reference: S3Object) -> None:
        """InvalidParameterValue when the object is gone or may not be read; an endpoint that does
        not answer is no reason to think so."""
        if self._endpoint_url is not None:
            await asyncio.to_thread(self._check, reference)

    def _check(self, reference: S3Object) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._open_client().get_object(
                Bucket=reference.bucket,
                Key=reference.key,
                VersionId=reference.version,
                Range="bytes=0-0",
            )
            answer["Body"].close()
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in _LOST:
                raise _refused(error.response) from error
            log.warning("source object not checked %s: %s", reference, error)
        except BotoCoreError as error:
            log.warning("source object not checked %s: %s", reference, error)

    def _open_client(self) -> Any:
        with self._making:
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _make_client(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        options: dict[str, Any] = {} if self._access_key else {"signature_version": UNSIGNED}
        config = Config(
            s3={"addressing_style": "path"},
            connect_timeout=limits.SOURCE_TIMEOUT_S,
            read_timeout=limits.SOURCE_TIMEOUT_S,
            retries={"total_max_attempts": 2},
            **options,
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self._endpoint_url,
            region_name=self._region,
            aws_access_key_id=self._access_key,
            aws_secret_access_key=self._secret_key,
            config=config,
        )


def _read_limited(body: Any) -> bytes:
    """All of a stream, unless it is longer than any package may be."""
    chunks: list[bytes] = []
    left = limits.CODE_UNZIPPED_MAX_BYTES
    while chunk := body.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise InvalidParameterValue(
                f"Unzipped size must be smaller than {limits.CODE_UNZIPPED_MAX_BYTES} bytes"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _parse_version(text: str | None) -> str | None:
    """S3 calls what was written before versioning was enabled ``null``: the next write replaces
    it."""
    return None if text in (None, "null") else text


def _refused(response: Any) -> InvalidParameterValue:
    fault = response.get("Error", {})
    return _failed(str(fault.get("Code", "Unknown")), str(fault.get("Message", "")))


def _failed(code: str, message: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
    )
