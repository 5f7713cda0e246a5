"""Layers through boto3: all nine operations, and functions that run with them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from firelet.model.runtimes import supports_snap_start
from firelet.sandbox.interpreters import discover
from running_platform import (
    ACCOUNT,
    BOOTSTRAP,
    LINK,
    PYTHON,
    REGION,
    Deployer,
    Platform,
    archive_of,
    pack,
    wait_until,
)

pytest_plugins = ("platform_fixtures",)

NODES = sorted(name for name in discover() if name.startswith("nodejs"))
STRANGER = "999999999999"
NOTHING = "def handler(event, context):\n    return None\n"
numbers = itertools.count(1)

Publish = Callable[..., Any]


@pytest.fixture
def name() -> str:
    """A layer that no other test has."""
    return f"layer-{next(numbers)}-{uuid.uuid4().hex[:6]}"


@pytest.fixture
def publish(lambda_client: Any, name: str) -> Publish:
    """Publishes a version of a layer; the answer."""

    def publish(files: dict[str, str] | bytes, **options: Any) -> Any:
        given = {"LayerName": name, **options}
        content = files if isinstance(files, bytes) else pack(files)
        return lambda_client.publish_layer_version(Content={"ZipFile": content}, **given)

    return publish


def arn_of(name: str, number: int | None = None, *, account: str = ACCOUNT) -> str:
    arn = f"arn:aws:lambda:{REGION}:{account}:layer:{name}"
    return arn if number is None else f"{arn}:{number}"


def bare(answer: Any) -> Any:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def refusal(call: Callable[..., Any], **params: Any) -> tuple[str, int, str]:
    """Code, status and sentence of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response
    return (
        error["Error"]["Code"],
        error["ResponseMetadata"]["HTTPStatusCode"],
        error["Error"]["Message"],
    )


class TestOperations:
    def test_a_version_is_published_read_listed_and_deleted(
        self, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        package = pack({"python/tool.py": "X = 1\n"})
        published = bare(publish(package))
        content = published.pop("Content")
        location = content.pop("Location")
        digest = base64.b64encode(hashlib.sha256(package).digest()).decode()
        assert content == {"CodeSha256": digest, "CodeSize": len(package)}
        with urllib.request.urlopen(location) as response:
            assert response.read() == package
        listed = {
            "LayerVersionArn": arn_of(name, 1),
            "Version": 1,
            "Description": "",
            "CreatedDate": published["CreatedDate"],
        }
        assert published == {"LayerArn": arn_of(name), **listed}
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", published["CreatedDate"]
        )

        for found in (
            lambda_client.get_layer_version(LayerName=name, VersionNumber=1),
            lambda_client.get_layer_version(LayerName=arn_of(name), VersionNumber=1),
            lambda_client.get_layer_version_by_arn(Arn=arn_of(name, 1)),
        ):
            assert found["Content"].pop("Location").startswith("http://")
            assert bare(found) == {"Content": content, "LayerArn": arn_of(name), **listed}
        versions = lambda_client.list_layer_versions(LayerName=name)
        assert bare(versions) == {"LayerVersions": [listed]}

        for _ in range(2):
            answer = lambda_client.delete_layer_version(LayerName=name, VersionNumber=1)
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
        assert bare(lambda_client.list_layer_versions(LayerName=name)) == {"LayerVersions": []}
        assert publish(package)["Version"] == 2

    def test_what_a_version_says_of_itself_is_returned_and_filtered_by(
        self, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        said: dict[str, Any] = {
            "Description": "tools",
            "LicenseInfo": "MIT",
            "CompatibleRuntimes": ["python3.12", "python3.13"],
            "CompatibleArchitectures": ["x86_64", "arm64"],
        }
        publish({"a": "1"}, **said)
        publish({"a": "2"}, CompatibleRuntimes=["nodejs22.x"])
        read = bare(lambda_client.get_layer_version(LayerName=name, VersionNumber=1))
        assert {key: read[key] for key in said} == said

        def found(**filters: str) -> list[int]:
            answer = lambda_client.list_layer_versions(LayerName=name, **filters)
            versions = [version["Version"] for version in answer["LayerVersions"]]
            layers = lambda_client.get_paginator("list_layers").paginate(**filters)
            latest = [
                layer["LatestMatchingVersion"]["Version"]
                for page in layers
                for layer in page["Layers"]
                if layer["LayerName"] == name and layer["LayerArn"] == arn_of(name)
            ]
            assert latest == versions[:1]
            return versions

        assert found() == [2, 1]
        assert found(CompatibleRuntime="python3.13") == [1]
        assert found(CompatibleRuntime="nodejs22.x") == [2]
        assert found(CompatibleArchitecture="arm64") == [1]
        assert found(CompatibleRuntime="nodejs22.x", CompatibleArchitecture="arm64") == []

    def test_lists_come_in_pages(self, lambda_client: Any, publish: Publish, name: str) -> None:
        for text in "abcde":
            publish({"a": text})
            publish({"a": text}, LayerName=f"{name}-{text}")
        pages = lambda_client.get_paginator("list_layer_versions").paginate(
            LayerName=name, PaginationConfig={"PageSize": 2}
        )
        sizes, found = [], []
        for page in pages:
            sizes.append(len(page["LayerVersions"]))
            found += [version["Version"] for version in page["LayerVersions"]]
        assert (sizes, found) == ([2, 2, 1], [5, 4, 3, 2, 1])
        pages = lambda_client.get_paginator("list_layers").paginate(
            PaginationConfig={"PageSize": 2}
        )
        names = [layer["LayerName"] for page in pages for layer in page["Layers"]]
        assert names == sorted(names)
        assert [one for one in names if one.startswith(name)] == [
            name, *(f"{name}-{text}" for text in "abcde")
        ]  # fmt: skip

    def test_what_is_not_there_is_told_in_aws_s_words(
        self, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        publish({"a": "1"})
        missing = ("ResourceNotFoundException", 404, "The resource you requested does not exist.")
        client = lambda_client
        assert refusal(client.get_layer_version, LayerName=name, VersionNumber=2) == missing
        assert refusal(client.get_layer_version, LayerName="none", VersionNumber=1) == missing
        assert refusal(client.get_layer_version_by_arn, Arn=arn_of(name, 9)) == missing
        for call in (client.get_layer_version, client.delete_layer_version):
            assert refusal(call, LayerName=name, VersionNumber=0) == (
                "InvalidParameterValueException",
                400,
                "Layer Version Cannot be less than 1",
            )
        for call, more in (
            (client.get_layer_version_policy, {}),
            (client.remove_layer_version_permission, {"StatementId": "s1"}),
        ):
            assert refusal(call, LayerName=name, VersionNumber=2, **more) == (
                "ResourceNotFoundException",
                404,
                f"Layer version {arn_of(name, 2)} does not exist.",
            )
        assert bare(client.list_layer_versions(LayerName="none")) == {"LayerVersions": []}

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ({"ZipFile": b"not a zip"}, "Could not unzip uploaded file."),
            ({"ZipFile": b""}, "Uploaded file must be a non-empty zip"),
            ({}, "Please provide a source for function code."),
        ],
    )
    def test_content_that_is_no_zip_is_refused(
        self, lambda_client: Any, name: str, content: Any, sentence: str
    ) -> None:
        code, status, message = refusal(
            lambda_client.publish_layer_version, LayerName=name, Content=content
        )
        assert (code, status) == ("InvalidParameterValueException", 400)
        assert message.startswith(sentence)

    @pytest.mark.parametrize(
        "entry",
        [
            ("opt", b"/etc", LINK),
            ("python/x", b"../../etc", LINK),
            ("../../etc/cron.d/x", b"x", 0),
            ("/etc/x", b"x", 0),
        ],
    )
    def test_a_layer_that_points_outside_is_refused(
        self, publish: Publish, lambda_client: Any, name: str, entry: tuple[str, bytes, int]
    ) -> None:
        assert refusal(publish, files=archive_of(("a", b"x", 0), entry)) == (
            "InvalidParameterValueException",
            400,
            "Could not unzip uploaded file. Please check your file, then try to upload again.",
        )
        assert lambda_client.list_layer_versions(LayerName=name)["LayerVersions"] == []


class TestPolicies:
    def test_statements_are_added_read_and_removed(
        self, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        publish({"a": "1"})
        at = {"LayerName": name, "VersionNumber": 1}
        action = {"Action": "lambda:GetLayerVersion"}
        client = lambda_client
        assert refusal(client.get_layer_version_policy, **at) == (
            "ResourceNotFoundException",
            404,
            "No policy is associated with the given resource.",
        )
        first = client.add_layer_version_permission(**at, **action, StatementId="s1", Principal="*")
        assert first["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert first["Statement"] == (
            '{"Sid":"s1","Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion",'
            f'"Resource":"{arn_of(name, 1)}"}}'
        )
        stale = "6b1e8d5a-0000-4000-8000-000000000000"
        guard = (
            "PreconditionFailedException",
            412,
            "The Revision Id provided does not match the latest Revision Id. Call the"
            " GetLayerPolicy API to retrieve the latest Revision Id",
        )
        add = client.add_layer_version_permission
        given = {**at, **action, "Principal": STRANGER}
        assert refusal(add, **given, StatementId="s2", RevisionId=stale) == guard
        assert refusal(add, **given, StatementId="s1")[:2] == ("ResourceConflictException", 409)
        second = add(**given, StatementId="s2", RevisionId=first["RevisionId"])
        policy = client.get_layer_version_policy(**at)
        assert policy["RevisionId"] == second["RevisionId"] != first["RevisionId"]
        assert policy["Policy"] == (
            '{"Version":"2012-10-17","Id":"default","Statement":'
            f"[{first['Statement']},{second['Statement']}]}}"
        )
        principals = [one["Principal"] for one in json.loads(policy["Policy"])["Statement"]]
        assert principals == ["*", {"AWS": f"arn:aws:iam::{STRANGER}:root"}]

        remove = client.remove_layer_version_permission
        assert refusal(remove, **at, StatementId="s1", RevisionId=stale) == guard
        assert refusal(remove, **at, StatementId="s3") == (
            "ResourceNotFoundException",
            404,
            "Statement s3 is not found in resource policy.",
        )
        answer = remove(**at, StatementId="s1", RevisionId=second["RevisionId"])
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204

    def test_only_reading_can_be_allowed(
        self, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        publish({"a": "1"})
        code, status, message = refusal(
            lambda_client.add_layer_version_permission,
            LayerName=name,
            VersionNumber=1,
            StatementId="s1",
            Action="*",
            Principal="*",
        )
        assert (code, status) == ("ValidationException", 400)
        assert message == (
            "1 validation error detected: Value '*' at 'action' failed to satisfy constraint:"
            " Member must satisfy regular expression pattern: lambda:GetLayerVersion"
        )

    def test_another_account_uses_a_layer_with_permission_only(
        self, platform: Platform, lambda_client: Any, publish: Publish, name: str
    ) -> None:
        publish({"python/shared.py": "WORD = 'shared'\n"})
        theirs = platform.client("lambda", account=STRANGER)
        function = {
            "FunctionName": name,
            "Runtime": PYTHON,
            "Handler": "app.handler",
            "Role": platform.make_role(account=STRANGER),
            "Code": {
                "ZipFile": pack({"app.py": "import shared\ndef handler(e, c): return shared.WORD"})
            },
            "Layers": [arn_of(name, 1)],
        }
        denied = (
            "AccessDeniedException",
            403,
            f"User: arn:aws:iam::{STRANGER}:root is not authorized to perform:"
            f" lambda:GetLayerVersion on resource: {arn_of(name, 1)} because no resource-based"
            " policy allows the lambda:GetLayerVersion action",
        )
        assert refusal(theirs.create_function, **function) == denied
        assert refusal(theirs.get_layer_version_by_arn, Arn=arn_of(name, 1)) == denied
        lambda_client.add_layer_version_permission(
            LayerName=name,
            VersionNumber=1,
            StatementId="them",
            Action="lambda:GetLayerVersion",
            Principal=STRANGER,
        )
        assert theirs.get_layer_version_by_arn(Arn=arn_of(name, 1))["Version"] == 1
        code, *_ = refusal(theirs.delete_layer_version, LayerName=arn_of(name), VersionNumber=1)
        assert code == "AccessDeniedException"
        theirs.create_function(**function)
        try:
            theirs.get_waiter("function_active_v2").wait(FunctionName=name)
            assert platform.invoke(name, client=theirs).json == "shared"
        finally:
            theirs.delete_function(FunctionName=name)


class TestConfiguration:
    def test_a_function_shows_its_layers(
        self, lambda_client: Any, deploy: Deployer, publish: Publish, name: str
    ) -> None:
        size = publish({"a": "1"})["Content"]["CodeSize"]
        function = deploy(NOTHING, Layers=[arn_of(name, 1)])
        shown = [{"Arn": arn_of(name, 1), "CodeSize": size}]
        read = lambda_client.get_function_configuration(FunctionName=function)
        assert read["Layers"] == shown
        lambda_client.delete_layer_version(LayerName=name, VersionNumber=1)
        read = lambda_client.get_function_configuration(FunctionName=function)
        assert read["Layers"] == shown
        updated = lambda_client.update_function_configuration(FunctionName=function, Layers=[])
        assert "Layers" not in updated

    def test_layers_that_a_function_cannot_have_are_refused(
        self, lambda_client: Any, deploy: Deployer, publish: Publish, name: str
    ) -> None:
        for _ in range(2):
            publish({"a": "1"})
        function = deploy(NOTHING)
        update = lambda_client.update_function_configuration
        elsewhere = arn_of(name, 1).replace(REGION, "eu-west-1")
        for layers, sentence in (
            ([arn_of(name, 9)], f"Layer version {arn_of(name, 9)} does not exist."),
            ([arn_of(name, 0)], "Layer Version Cannot be less than 1"),
            ([arn_of(name, 1)] * 6, "Cannot reference more than 5 layers."),
            (
                [arn_of(name, 1), arn_of(name, 2)],
                "Two different versions of the same layer are not allowed to be referenced in the"
                f" same function. {arn_of(name, 1)} and {arn_of(name, 2)} are versions of the same"
                " layer.",
            ),
            (
                [elsewhere],
                "Layers are not in the same region as the function. Layers are expected to be in"
                f" region {REGION}.",
            ),
        ):
            found = refusal(update, FunctionName=function, Layers=layers)
            assert found == ("InvalidParameterValueException", 400, sentence)
        code, _, message = refusal(update, FunctionName=function, Layers=[arn_of(name)])
        assert code == "ValidationException"
        assert message.startswith(
            f"1 validation error detected: Value '[{arn_of(name)}]' at 'layers' failed to satisfy"
            " constraint: Member must satisfy constraint: [Member must have length less than or"
            " equal to 2048, Member must have length greater than or equal to 1, Member must"
            " satisfy regular expression pattern: "
        )


class TestRunning:
    def test_a_python_function_imports_from_its_layers(
        self, deploy: Deployer, platform: Platform, publish: Publish, name: str
    ) -> None:
        publish(
            {
                "python/plain.py": "WHO = 'first'\n",
                "python/both.py": "WHO = 'first'\n",
                f"python/lib/{PYTHON}/site-packages/site.py": "never imported\n",
                f"python/lib/{PYTHON}/site-packages/packed/__init__.py": "WHO = 'site'\n",
                "data/text": "first",
            }
        )
        publish(
            {"python/both.py": "WHO = 'second'\n", "data/text": "second"}, LayerName=f"{name}-2"
        )
        function = deploy(
            "import both, packed, plain\n"
            "def handler(event, context):\n"
            "    text = open('/opt/data/text').read()\n"
            "    return [plain.WHO, both.WHO, packed.WHO, text]\n",
            Layers=[arn_of(name, 1), arn_of(f"{name}-2", 1)],
        )
        assert platform.invoke(function).json == ["first", "second", "site", "second"]
        platform.client("lambda").update_function_configuration(
            FunctionName=function, Layers=[arn_of(f"{name}-2", 1), arn_of(name, 1)]
        )
        deploy.settle(function)
        assert platform.invoke(function).json == ["first", "first", "site", "first"]

    def test_programs_and_libraries_of_a_layer_are_found(
        self, deploy: Deployer, platform: Platform, publish: Publish, name: str
    ) -> None:
        library = find_library()
        package = pack(
            {"bin/greet": "#!/bin/sh\necho hello from $0\n", "lib/libfromlayer.so": library},
            executable=("bin/greet",),
        )
        publish(package)
        function = deploy(
            "import ctypes, subprocess\n"
            "def handler(event, context):\n"
            "    ctypes.CDLL('libfromlayer.so')\n"
            "    return subprocess.check_output(['greet'], text=True)\n",
            Layers=[arn_of(name, 1)],
        )
        assert platform.invoke(function).json == "hello from /opt/bin/greet\n"

    @pytest.mark.skipif(not NODES, reason="there is no node on PATH")
    def test_a_node_function_requires_from_its_layers(
        self, deploy: Deployer, platform: Platform, publish: Publish, name: str
    ) -> None:
        runtime = NODES[-1]
        major = runtime.removeprefix("nodejs").partition(".")[0]
        publish({"nodejs/node_modules/plain/index.js": "exports.who = 'plain'"})
        publish(
            {f"nodejs/node{major}/node_modules/exact/index.js": "exports.who = 'exact'"},
            LayerName=f"{name}-2",
        )
        function = deploy(
            {
                "app.js": "const plain = require('plain'), exact = require('exact')\n"
                "exports.handler = async () => [plain.who, exact.who]\n"
            },
            Runtime=runtime,
            Layers=[arn_of(name, 1), arn_of(f"{name}-2", 1)],
        )
        assert platform.invoke(function).json == ["plain", "exact"]

    def test_clones_of_a_snapshot_have_the_layers(
        self,
        deploy: Deployer,
        platform: Platform,
        lambda_client: Any,
        publish: Publish,
        name: str,
    ) -> None:
        runtimes = [one for one in discover() if supports_snap_start(one) and one[:6] == "python"]
        if not runtimes:
            pytest.skip("this host has no Python that SnapStart is for")
        publish({"python/early.py": "WHO = 'early'\n", "text": "first"})
        publish({"python/late.py": "WHO = 'late'\n", "text": "second"}, LayerName=f"{name}-2")
        function = deploy(
            "import early\ndef handler(event, context):\n    import late\n"
            "    return [early.WHO, late.WHO, open('/opt/text').read()]\n",
            Runtime=runtimes[-1],
            SnapStart={"ApplyOn": "PublishedVersions"},
            Layers=[arn_of(name, 1), arn_of(f"{name}-2", 1)],
        )
        version = lambda_client.publish_version(FunctionName=function)["Version"]
        waiter = lambda_client.get_waiter("published_version_active")
        waiter.wait(FunctionName=function, Qualifier=version)
        answer = platform.invoke(function, Qualifier=version)
        assert answer.json == ["early", "late", "second"]

    def test_a_custom_runtime_can_be_a_layer(
        self, deploy: Deployer, platform: Platform, publish: Publish, name: str
    ) -> None:
        publish(pack({"bootstrap": BOOTSTRAP}, executable=("bootstrap",)))
        function = deploy(
            {"data": "x"}, Runtime="provided.al2023", Handler="own", Layers=[arn_of(name, 1)]
        )
        assert platform.invoke(function, 5).json == {"got": 5, "handler": "own"}


def find_library() -> bytes:
    """Some small shared library that depends on nothing but the C library."""
    for name in ("libnss_files.so.2", "libutil.so.1", "libdl.so.2"):
        for path in sorted(Path("/usr/lib").glob(f"**/{name}")):
            return path.read_bytes()
    pytest.skip("no small library of the C library is installed")


TOOL = pack({"python/tool.py": "WORD = 'tool'\n"})
USES_TOOL = "import tool\ndef handler(event, context):\n    return tool.WORD\n"


def places_of(platform: Platform, package: bytes) -> tuple[Path, Path]:
    """Where a package lies extracted, and where it is kept."""
    digest = hashlib.sha256(package).hexdigest()
    blob = platform.data_dir / "blobs" / digest[:2] / digest[2:4] / digest
    return platform.data_dir / "code" / digest, blob


def test_a_deleted_layer_lives_as_long_as_a_function_needs_it(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform()
    client, deploy = platform.client("lambda"), Deployer(platform)
    layer = client.publish_layer_version(LayerName="tools", Content={"ZipFile": TOOL})
    function = deploy(USES_TOOL, Layers=[layer["LayerVersionArn"]])
    extracted, blob = places_of(platform, TOOL)

    client.delete_layer_version(LayerName="tools", VersionNumber=1)
    platform.stop()
    platform.start()
    client = platform.client("lambda")
    assert platform.invoke(function).json == "tool"
    assert (extracted.is_dir(), blob.is_file()) == (True, True)

    client.delete_function(FunctionName=function)
    wait_until(lambda: not extracted.exists() and not blob.exists(), "the code is gone")


def test_a_layer_that_no_function_has_is_kept_as_its_zip_alone(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform()
    client, deploy = platform.client("lambda"), Deployer(platform)
    layer = client.publish_layer_version(LayerName="tools", Content={"ZipFile": TOOL})
    client.delete_function(FunctionName=deploy(USES_TOOL, Layers=[layer["LayerVersionArn"]]))
    extracted, blob = places_of(platform, TOOL)

    platform.stop()
    platform.start()
    assert (extracted.exists(), blob.is_file()) == (False, True)
    deploy = Deployer(platform)
    assert platform.invoke(deploy(USES_TOOL, Layers=[layer["LayerVersionArn"]])).json == "tool"
