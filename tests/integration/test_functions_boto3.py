"""The life of a function as boto3 sees it: real client, real HTTP, SQLite; no sandboxes."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from firelet.control.registry import Registry
from firelet.frontend.aliases import AliasOperations
from firelet.frontend.codelink import PATH_PREFIX, CodeLinks
from firelet.frontend.concurrency import ConcurrencyOperations
from firelet.frontend.function_options import FunctionOptionOperations
from firelet.frontend.functions import FunctionOperations
from firelet.frontend.images import ImageIntake
from firelet.frontend.operations import Operations
from firelet.frontend.packages import PackageIntake
from firelet.frontend.router import Router
from firelet.frontend.s3source import S3CodeSource
from firelet.frontend.tags import TagOperations
from firelet.frontend.versions import VersionOperations
from firelet.store.blobs import BlobStore
from firelet.store.documents import SqliteDocuments
from firelet.wire.aws.model import load_services
from firelet.wire.http1 import HttpServer
from registry_parts import ROLE, ZIP, FakeActivator, FakeImages, make_zip


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[str]:
    documents = SqliteDocuments(tmp_path / "documents.db")
    blobs = BlobStore(tmp_path / "blobs")
    registry = Registry(documents, blobs, activator=FakeActivator())
    await registry.load()
    links = CodeLinks(b"k" * 32, blobs)
    operations = Operations()
    intake = PackageIntake(S3CodeSource(None))
    FunctionOperations(registry, intake, ImageIntake(FakeImages()), links).register(operations)
    for family in (
        VersionOperations,
        AliasOperations,
        TagOperations,
        ConcurrencyOperations,
        FunctionOptionOperations,
    ):
        family(registry).register(operations)
    router = Router(
        operations,
        load_services(["lambda"]),
        pages={PATH_PREFIX.encode(): links.page},
        is_strict=True,
    )
    server = HttpServer(router)
    host, port = await server.listen("127.0.0.1", 0)
    yield f"http://{host}:{port}"
    await server.close()
    await registry.close()
    await documents.close()


@pytest.fixture
async def client(endpoint: str) -> AsyncIterator[Any]:
    def make() -> Any:
        return boto3.session.Session().client(
            "lambda",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    client = await asyncio.to_thread(make)
    yield client
    client.close()


def deploy(client: Any, name: str = "greeter", **more: Any) -> Any:
    """Creates a function and waits for it, as tools do."""
    created = client.create_function(
        FunctionName=name,
        Runtime="python3.12",
        Role=ROLE,
        Handler="handler.handler",
        Code={"ZipFile": ZIP},
        **more,
    )
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    return created


async def test_a_function_lives_from_creation_to_deletion(client: Any) -> None:
    def live() -> None:
        created = deploy(
            client, Tags={"team": "blue"}, Environment={"Variables": {"STAGE": "beta"}}
        )
        assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert (created["State"], created["Version"]) == ("Pending", "$LATEST")
        client.update_function_code(FunctionName="greeter", ZipFile=make_zip({"x.py": "1"}))
        client.update_function_configuration(FunctionName="greeter", Timeout=60)
        client.get_waiter("function_updated_v2").wait(FunctionName="greeter")
        version = client.publish_version(FunctionName="greeter")
        assert (version["Version"], version["State"]) == ("1", "Active")
        client.get_waiter("published_version_active").wait(FunctionName="greeter", Qualifier="1")
        alias = client.create_alias(FunctionName="greeter", Name="live", FunctionVersion="1")
        found = client.get_function(FunctionName=alias["AliasArn"])
        assert found["Configuration"]["FunctionArn"] == alias["AliasArn"]
        assert found["Tags"] == {"team": "blue"}
        arn = created["FunctionArn"]
        client.tag_resource(Resource=arn, Tags={"a": "1"})
        client.untag_resource(Resource=arn, TagKeys=["team"])
        assert client.list_tags(Resource=arn)["Tags"] == {"a": "1"}
        client.put_function_concurrency(FunctionName="greeter", ReservedConcurrentExecutions=100)
        limits = client.get_account_settings()["AccountLimit"]
        assert limits["UnreservedConcurrentExecutions"] == 900
        with pytest.raises(ClientError, match="aliases reference it"):
            client.delete_function(FunctionName="greeter", Qualifier="1")
        deleted = client.delete_function(FunctionName="greeter")
        assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
        with pytest.raises(client.exceptions.ResourceNotFoundException):
            client.get_function(FunctionName="greeter")

    await asyncio.to_thread(live)


async def test_the_code_can_be_downloaded_by_its_link(client: Any) -> None:
    def download() -> bytes:
        deploy(client)
        location = client.get_function(FunctionName="greeter")["Code"]["Location"]
        with urllib.request.urlopen(location) as answer:
            content: bytes = answer.read()
        return content

    assert await asyncio.to_thread(download) == ZIP


async def test_pages_end(client: Any) -> None:
    def count() -> int:
        for number in range(7):
            deploy(client, f"f{number}")
        pages = client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 3})
        return sum(len(page["Functions"]) for page in pages)

    assert await asyncio.to_thread(count) == 7


async def test_errors_have_the_classes_of_the_sdk(client: Any) -> None:
    def fail() -> None:
        deploy(client)
        with pytest.raises(client.exceptions.ResourceConflictException, match="already exist"):
            deploy(client)
        with pytest.raises(client.exceptions.PreconditionFailedException):
            client.update_function_configuration(FunctionName="greeter", RevisionId="stale")
        with pytest.raises(client.exceptions.InvalidParameterValueException, match="unzip"):
            client.update_function_code(FunctionName="greeter", ZipFile=b"no zip")
        with pytest.raises(client.exceptions.InvalidParameterValueException, match="S3"):
            client.update_function_code(FunctionName="greeter", S3Bucket="bucket", S3Key="k")
        with pytest.raises(ClientError) as caught:
            client.update_function_configuration(FunctionName="greeter", Timeout=901)
        assert caught.value.response["Error"]["Code"] == "ValidationException"

    await asyncio.to_thread(fail)
