"""Functions whose package lies in S3: a server with the one operation that is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from running_platform import Deployer, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

_NO_KEY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"""


class Bucket(BaseHTTPRequestHandler):
    """GetObject of a bucket named ``code``, path style. Below ``versioned`` objects have versions,
    of which there is one."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        body = self.objects.get(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        content = _NO_KEY if body is None else body
        self.send_header("Content-Length", str(len(content)))
        if "/versioned/" in self.path:
            self.send_header("x-amz-version-id", "v1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Nothing is to be printed."""


@pytest.fixture
def platform_with_s3(make_platform: Callable[..., Platform]) -> Iterator[Platform]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Bucket.objects["/code/dir/app.zip"] = pack(
        {"app.py": "def handler(event, context):\n    return 'from s3'\n"}
    )
    Bucket.objects["/code/versioned/app.zip"] = pack(
        {"app.py": "import layered\ndef handler(event, context):\n    return layered.ONE\n"}
    )
    Bucket.objects["/code/versioned/layer.zip"] = pack({"python/layered.py": "ONE = 'one'"})
    yield make_platform(
        FIRELET_S3_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        FIRELET_REFERENCE_LOOK_EVERY_S="0.1",
    )
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_package_is_fetched_from_s3_once_and_kept(platform_with_s3: Platform) -> None:
    deploy, client = Deployer(platform_with_s3), platform_with_s3.client("lambda")
    name = deploy.name()
    source = {"S3Bucket": "code", "S3Key": "dir/app.zip"}

    deploy.create(name, "", Code=source)
    deploy.settle(name)

    assert platform_with_s3.invoke(name).json == "from s3"
    Bucket.objects["/code/dir/app.zip"] = pack(
        {"app.py": "def handler(event, context):\n    return 'newer'\n"}
    )
    assert platform_with_s3.invoke(name).json == "from s3"
    client.update_function_code(FunctionName=name, **source)
    deploy.settle(name)
    assert platform_with_s3.invoke(name).json == "newer"


def test_a_key_that_is_not_there_is_told_in_the_words_of_aws(platform_with_s3: Platform) -> None:
    deploy, client = Deployer(platform_with_s3), platform_with_s3.client("lambda")

    with pytest.raises(client.exceptions.InvalidParameterValueException) as caught:
        deploy.create(deploy.name(), "", Code={"S3Bucket": "code", "S3Key": "none.zip"})

    assert caught.value.response["Error"]["Message"] == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message:"
        " The specified key does not exist."
    )


def by_reference(key: str) -> dict[str, str]:
    return {"S3Bucket": "code", "S3Key": key, "S3ObjectStorageMode": "REFERENCE"}


def resolved(key: str) -> dict[str, dict[str, str]]:
    return {"ResolvedS3Object": {"S3Bucket": "code", "S3Key": key, "S3ObjectVersion": "v1"}}


def test_code_by_reference_is_named_by_its_object_and_takes_no_code_storage(
    platform_with_s3: Platform,
) -> None:
    """Source: recorded answers of the first users of the service's self-managed code storage."""
    deploy, client = Deployer(platform_with_s3), platform_with_s3.client("lambda")
    name = deploy.name()

    def stored() -> int:
        return int(client.get_account_settings()["AccountUsage"]["TotalCodeSize"])

    def location() -> dict[str, Any]:
        return dict(client.get_function(FunctionName=name)["Code"])

    content = by_reference("versioned/layer.zip")
    layer = client.publish_layer_version(LayerName="referred", Content=content)
    assert set(layer["Content"]) == {"CodeSha256", "CodeSize", "ResolvedS3Object"}
    assert layer["Content"].items() >= resolved("versioned/layer.zip").items()
    deploy.create(
        name, "", Code=by_reference("versioned/app.zip"), Layers=[layer["LayerVersionArn"]]
    )
    deploy.settle(name)

    assert platform_with_s3.invoke(name).json == "one"
    assert location() == {"RepositoryType": "S3", **resolved("versioned/app.zip")}
    assert stored() == 0
    size = client.get_function_configuration(FunctionName=name)["CodeSize"]
    assert size == len(Bucket.objects["/code/versioned/app.zip"])

    client.publish_version(FunctionName=name)
    assert stored() == 0
    # Whoever does not say REFERENCE again says COPY.
    client.update_function_code(FunctionName=name, S3Bucket="code", S3Key="versioned/app.zip")
    deploy.settle(name)
    assert set(location()) == {"RepositoryType", "Location"}
    assert stored() == size
    client.update_function_code(FunctionName=name, **by_reference("versioned/app.zip"))
    deploy.settle(name)
    assert stored() == 0

    platform_with_s3.stop()
    platform_with_s3.start()
    assert platform_with_s3.invoke(name, client=platform_with_s3.client("lambda")).json == "one"
    again = platform_with_s3.client("lambda").get_function(FunctionName=name)["Code"]
    assert again == {"RepositoryType": "S3", **resolved("versioned/app.zip")}


def test_a_reference_needs_a_version_and_no_zip_file(platform_with_s3: Platform) -> None:
    deploy, client = Deployer(platform_with_s3), platform_with_s3.client("lambda")

    with pytest.raises(
        client.exceptions.InvalidParameterValueException, match="requires a bucket with versioning"
    ):
        deploy.create(deploy.name(), "", Code=by_reference("dir/app.zip"))
    with pytest.raises(
        client.exceptions.InvalidParameterValueException,
        match="Please do not provide other FunctionCode parameters when providing a ZipFile",
    ):
        deploy.create(deploy.name(), "", Code={"ZipFile": b"x", "S3ObjectStorageMode": "REFERENCE"})


def test_a_function_is_inactive_while_its_object_is_lost(platform_with_s3: Platform) -> None:
    """Source: the guide's page on self-managed code storage, "Function lifecycle"."""
    deploy, client = Deployer(platform_with_s3), platform_with_s3.client("lambda")
    name, path = deploy.name(), "/code/versioned/app.zip"
    Bucket.objects[path] = pack({"app.py": "def handler(event, context):\n    return 1\n"})
    deploy.create(name, "", Code=by_reference("versioned/app.zip"))
    deploy.settle(name)

    def configuration() -> dict[str, Any]:
        return dict(client.get_function_configuration(FunctionName=name))

    package = Bucket.objects.pop(path)
    wait_until(lambda: configuration()["State"] == "Inactive", "its object is missed")
    assert configuration()["StateReason"] == (
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message:"
        " The specified key does not exist."
    )
    with pytest.raises(client.exceptions.ResourceConflictException, match="state: Inactive"):
        client.invoke(FunctionName=name)
    with pytest.raises(client.exceptions.InvalidParameterValueException, match="NoSuchKey"):
        client.update_function_configuration(FunctionName=name, Timeout=5)

    Bucket.objects[path] = package
    client.update_function_configuration(FunctionName=name, Timeout=5)
    deploy.settle(name)
    assert (configuration()["State"], platform_with_s3.invoke(name).json) == ("Active", 1)
