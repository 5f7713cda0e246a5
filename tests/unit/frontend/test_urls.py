"""The configuration of function URLs: shapes, sentences, and whose an address is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from firelet.control.registry import Registry
from firelet.frontend.urls import UrlOperations
from firelet.model.arn import FunctionRef
from firelet.model.errors import FireletError, ResourceConflict, ResourceNotFound
from firelet.model.function_url import format_function_url
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from lambda_api import LambdaApi
from registry_parts import ACCOUNT, ARN, KEY, REGION, FakeActivator

CORS = {"AllowOrigins": ["https://example.com"], "AllowMethods": ["GET"], "MaxAge": 60}
GONE = "The resource you requested does not exist."


@pytest.fixture
def api(published: Registry) -> LambdaApi:
    return LambdaApi(published, UrlOperations)


def url_id(answer: Any) -> str:
    return str(answer["FunctionUrl"]).removeprefix("http://").partition(".")[0]


async def test_a_new_url_has_an_address_of_its_own_and_the_members_of_aws(api: LambdaApi) -> None:
    created = await api.call("CreateFunctionUrlConfig", AuthType="NONE")
    address = created.pop("FunctionUrl")
    assert re.fullmatch(
        rf"http://[a-z2-7]{{32}}\.lambda-url\.{REGION}\.localhost:4566/", address
    ), address
    assert created == {
        "FunctionArn": ARN,
        "AuthType": "NONE",
        "CreationTime": "2026-11-23T07:00:00.000000Z",
    }


async def test_reading_tells_the_invoke_mode_and_when_it_changed(api: LambdaApi) -> None:
    await api.call("CreateFunctionUrlConfig", AuthType="NONE", Cors=CORS)
    found = await api.call("GetFunctionUrlConfig")
    assert (found["InvokeMode"], found["Cors"]) == ("BUFFERED", CORS)
    assert found["LastModifiedTime"] == found["CreationTime"]


async def test_an_update_changes_what_it_names(api: LambdaApi) -> None:
    created = await api.call("CreateFunctionUrlConfig", AuthType="NONE", Cors=CORS)
    updated = await api.call("UpdateFunctionUrlConfig", InvokeMode="RESPONSE_STREAM")
    assert updated["FunctionUrl"] == created["FunctionUrl"]
    assert (updated["AuthType"], updated["Cors"]) == ("NONE", CORS)
    assert updated["InvokeMode"] == "RESPONSE_STREAM"
    bare = await api.call("UpdateFunctionUrlConfig", Cors={}, AuthType="AWS_IAM")
    assert "Cors" not in bare
    assert bare["AuthType"] == "AWS_IAM"


async def test_a_function_and_its_aliases_have_one_each(api: LambdaApi) -> None:
    await api.call("CreateFunctionUrlConfig", AuthType="NONE")
    await api.call("CreateFunctionUrlConfig", AuthType="NONE", Qualifier="live")
    pages = await api.pages("ListFunctionUrlConfigs", "FunctionUrlConfigs", MaxItems=1)
    assert [[item["FunctionArn"] for item in page] for page in pages] == [[ARN], [f"{ARN}:live"]]
    with pytest.raises(ResourceConflict) as caught:
        await api.call("CreateFunctionUrlConfig", AuthType="NONE", Qualifier="live")
    assert caught.value.message == (
        f"Failed to create function url config for [functionArn = {ARN}:live]. Error message: "
        " FunctionUrlConfig exists for this Lambda function"
    )


@pytest.mark.parametrize("operation", ["Create", "Get", "Update", "Delete"])
@pytest.mark.parametrize("qualifier", ["1", "$LATEST"])
async def test_versions_have_none(api: LambdaApi, operation: str, qualifier: str) -> None:
    params = {"AuthType": "NONE"} if operation == "Create" else {}
    with pytest.raises(FireletError) as caught:
        await api.call(f"{operation}FunctionUrlConfig", Qualifier=qualifier, **params)
    assert caught.value.message == (
        f"1 validation error detected: Value '{qualifier}' at 'qualifier' failed to satisfy"
        " constraint: Member must satisfy regular expression pattern:"
        r" ((?!^\d+$)^[0-9a-zA-Z-_]+$)"
    )


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        ("CreateFunctionUrlConfig", "Function does not exist"),
        ("UpdateFunctionUrlConfig", "Function does not exist"),
        ("GetFunctionUrlConfig", GONE),
        ("DeleteFunctionUrlConfig", GONE),
    ],
)
@pytest.mark.parametrize("name", [{"FunctionName": "nobody"}, {"Qualifier": "no"}])
async def test_what_is_not_there_is_told_as_aws_tells_it(
    api: LambdaApi, operation: str, sentence: str, name: dict[str, str]
) -> None:
    params = {"AuthType": "NONE"} if operation == "CreateFunctionUrlConfig" else {}
    with pytest.raises(ResourceNotFound) as caught:
        await api.call(operation, **name, **params)
    assert caught.value.message == sentence


@pytest.mark.parametrize("operation", ["Get", "Update", "Delete"])
async def test_a_function_without_a_url_has_none_to_change(api: LambdaApi, operation: str) -> None:
    with pytest.raises(ResourceNotFound) as caught:
        await api.call(f"{operation}FunctionUrlConfig")
    assert caught.value.message == GONE


async def test_an_address_is_found_until_it_is_deleted(api: LambdaApi, published: Registry) -> None:
    identity = url_id(await api.call("CreateFunctionUrlConfig", AuthType="NONE", Qualifier="live"))
    await api.call("UpdateFunctionUrlConfig", AuthType="AWS_IAM", Qualifier="live")
    found = published.urls.find(identity)
    assert found is not None
    assert found.url.auth_type == "AWS_IAM"
    assert found.ref == FunctionRef("greeter", "live", ACCOUNT, REGION)
    assert await api.call("DeleteFunctionUrlConfig", Qualifier="live") == 204
    assert published.urls.find(identity) is None


async def test_an_address_goes_with_its_alias_and_with_its_function(
    api: LambdaApi, published: Registry
) -> None:
    of_function = url_id(await api.call("CreateFunctionUrlConfig", AuthType="NONE"))
    of_alias = url_id(await api.call("CreateFunctionUrlConfig", AuthType="NONE", Qualifier="live"))
    await published.aliases.delete(KEY, "live")
    assert published.urls.find(of_alias) is None
    assert published.urls.find(of_function) is not None
    await published.functions.delete(KEY)
    assert published.urls.find(of_function) is None


async def test_addresses_survive_a_restart(
    api: LambdaApi, published: Registry, documents: MemoryDocuments, tmp_path: Path
) -> None:
    identity = url_id(await api.call("CreateFunctionUrlConfig", AuthType="NONE", Cors=CORS))
    again = Registry(documents, BlobStore(tmp_path / "blobs"), activator=FakeActivator())
    await again.load()
    assert again.urls.find(identity) == published.urls.find(identity)


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("http://127.0.0.1:4566", "http://x.lambda-url.us-east-1.localhost:4566/"),
        ("https://lambda.example.com", "https://x.lambda-url.us-east-1.localhost/"),
        ("http://[::1]:80", "http://x.lambda-url.us-east-1.localhost:80/"),
        ("http://[::1]", "http://x.lambda-url.us-east-1.localhost/"),
    ],
)
def test_an_address_has_the_port_by_which_the_platform_is_reached(
    origin: str, address: str
) -> None:
    assert format_function_url("x", "us-east-1", origin) == address
