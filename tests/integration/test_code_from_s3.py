"""Functions whose package lies in S3: a server with the one operation that is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from running_platform import Deployer, Platform, pack

pytest_plugins = ("platform_fixtures",)

_NO_KEY = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"""


class Bucket(BaseHTTPRequestHandler):
    """GetObject of a bucket named ``code``, path style."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self) -> None:
        body = self.objects.get(self.path.partition("?")[0])
        self.send_response(404 if body is None else 200)
        content = _NO_KEY if body is None else body
        self.send_header("Content-Length", str(len(content)))
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
    yield make_platform(FIRELET_S3_ENDPOINT=f"http://127.0.0.1:{server.server_port}")
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
