"""Code from an S3-compatible endpoint, by way of the real client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from firelet.frontend.packages import Fetched
from firelet.frontend.s3source import S3CodeSource
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import S3Object
from firelet.wire.http1 import HttpServer, Request, Response


class FakeS3:
    """One bucket with one object, path style."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path.startswith(b"/forbidden/"):
            return _error(403, "AccessDenied", "Access Denied")
        if request.path.startswith(b"/busy/"):
            return _error(503, "SlowDown", "Please reduce your request rate.")
        if not request.path.startswith(b"/code/"):
            return _error(404, "NoSuchBucket", "The specified bucket does not exist")
        if request.path != b"/code/a/b%20c.zip":
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        return Response(200, b"zip bytes", ((b"content-type", b"application/zip"),))


def _error(status: int, code: str, message: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return Response(status, body, ((b"content-type", b"application/xml"),))


@pytest.fixture
def s3() -> FakeS3:
    return FakeS3()


@pytest.fixture
async def endpoint(s3: FakeS3) -> AsyncIterator[str]:
    server = HttpServer(s3)
    host, port = await server.listen("127.0.0.1", 0)
    yield f"http://{host}:{port}"
    await server.close()


async def test_an_object_is_fetched_unsigned_without_credentials(endpoint: str, s3: FakeS3) -> None:
    source = S3CodeSource(endpoint)
    assert await source.fetch("code", "a/b c.zip", None) == Fetched(b"zip bytes", None)
    assert b"authorization" not in s3.requests[0].headers


async def test_an_object_is_fetched_signed_and_by_version_with_credentials(
    endpoint: str, s3: FakeS3
) -> None:
    source = S3CodeSource(endpoint, access_key="id", secret_key="secret")
    await source.fetch("code", "a/b c.zip", "7")
    assert b"Credential=id/" in s3.requests[0].headers[b"authorization"]
    assert s3.requests[0].query == b"versionId=7"


@pytest.mark.parametrize(
    ("bucket", "code", "message"),
    [
        ("nope", "NoSuchBucket", "The specified bucket does not exist"),
        ("code", "NoSuchKey", "The specified key does not exist."),
    ],
)
async def test_what_is_missing_has_the_sentence_of_aws(
    endpoint: str, bucket: str, code: str, message: str
) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        await S3CodeSource(endpoint).fetch(bucket, "none", None)
    assert caught.value.message == (
        f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
    )


async def test_an_object_over_the_limit_is_not_read_to_its_end(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CODE_UNZIPPED_MAX_BYTES", 4)
    with pytest.raises(InvalidParameterValue, match="must be smaller than 4 bytes"):
        await S3CodeSource(endpoint).fetch("code", "a/b c.zip", None)


async def test_an_endpoint_that_is_not_there_or_not_configured_is_said_to_be() -> None:
    with pytest.raises(InvalidParameterValue, match="No S3 endpoint is configured"):
        await S3CodeSource(None).fetch("code", "key", None)
    with pytest.raises(InvalidParameterValue, match="ServiceUnavailable"):
        await S3CodeSource("http://127.0.0.1:9").fetch("code", "key", None)


async def test_an_object_is_looked_for_without_being_fetched(endpoint: str, s3: FakeS3) -> None:
    await S3CodeSource(endpoint).check(S3Object("code", "a/b c.zip", "7"))
    (request,) = s3.requests
    assert request.headers[b"range"] == b"bytes=0-0"
    assert request.query == b"versionId=7"


@pytest.mark.parametrize(
    ("bucket", "code"),
    [("code", "NoSuchKey"), ("other", "NoSuchBucket"), ("forbidden", "AccessDenied")],
)
async def test_an_object_that_cannot_be_read_is_lost(endpoint: str, bucket: str, code: str) -> None:
    with pytest.raises(InvalidParameterValue, match=f"S3 Error Code: {code}. S3 Error Message: "):
        await S3CodeSource(endpoint).check(S3Object(bucket, "none.zip", "7"))


async def test_an_endpoint_that_does_not_answer_loses_nothing(endpoint: str, s3: FakeS3) -> None:
    await S3CodeSource(endpoint).check(S3Object("busy", "none.zip", "7"))
    assert s3.requests
    await S3CodeSource("http://127.0.0.1:1").check(S3Object("code", "none.zip", "7"))
    await S3CodeSource(None).check(S3Object("code", "none.zip", "7"))
