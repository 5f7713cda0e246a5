"""Deployment packages from an S3-compatible endpoint. The adapter of ``packages.CodeSource``.

Only the endpoint that firelet was configured with is ever asked. Made by ``app``.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from firelet.frontend.packages import Fetched
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue

_CHUNK = 1 << 20
_DEFAULT_REGION = "us-east-1"


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
            fault = error.response.get("Error", {})
            code = str(fault.get("Code", "Unknown"))
            raise _failed(code, str(fault.get("Message", ""))) from error
        except BotoCoreError as error:
            raise _failed("ServiceUnavailable", str(error)) from error

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


def _failed(code: str, message: str) -> InvalidParameterValue:
    return InvalidParameterValue(
        f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
    )
