"""AWS's own runtime interface client for Python, unmodified, as the entry point of an image.

The image has a Python of its own, which is the host's, copied: nothing of it is seen by bind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distributions import distribution_files, native_modules
from image_layouts import (
    ARCHITECTURE,
    ImageParts,
    directory,
    entry,
    libraries,
    make_tar,
    tree,
    write_layout,
)
from running_platform import Deployer, Platform

pytest_plugins = ("platform_fixtures",)

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
# Not wanted in an image; the first three are half of the library.
LEFT_OUT = ("test", "site-packages", "dist-packages", "ensurepip", "idlelib", "lib2to3", "tkinter")
CODE = """
import os, ssl, sys, sqlite3
n = 0
def handler(event, context):
    global n
    n += 1
    if event == "raise":
        raise LookupError("as told")
    if event == "big":
        return "x" * 7_000_000
    print("from the client of aws")
    return {
        "n": n,
        "event": event,
        "function": context.function_name,
        "arn": context.invoked_function_arn,
        "handler": os.environ["_HANDLER"],
        "python": sys.executable,
        "root": sorted(os.listdir("/")),
        "has_time": context.get_remaining_time_in_millis() > 0,
    }
"""


def python_layer() -> bytes:
    """The interpreter at /usr/local with its library, and the shared libraries of both."""
    prefix = Path(sys.base_prefix)
    executable, library = prefix / "bin" / VERSION, prefix / "lib" / VERSION
    entries = [entry("usr/local/bin/python3", executable.read_bytes(), mode=0o755)]
    for part in sorted(library.iterdir()):
        if part.name not in LEFT_OUT:
            entries += tree(part, place=f"usr/local/lib/{VERSION}/{part.name}")
    modules = (library / "lib-dynload").glob("*.so")
    entries += libraries(executable, *modules, *native_modules("awslambdaric"))
    return make_tar([item for item in entries if "__pycache__" not in item[0].name])


@pytest.fixture(scope="module")
def image() -> ImageParts:
    task = [
        directory("var/task"),
        entry("var/task/app.py", CODE),
        *(
            entry(f"var/task/{path}", data)
            for name in ("awslambdaric", "snapshot-restore-py", "simplejson")
            for path, data in distribution_files(name).items()
        ),
    ]
    config = {
        "Entrypoint": ["python3", "-m", "awslambdaric"],
        "Cmd": ["app.handler"],
        "WorkingDir": "/var/task",
        "Env": ["PATH=/usr/local/bin"],
    }
    return ImageParts([python_layer(), make_tar(task)], config, compress=False)


@pytest.fixture
def function(
    make_platform: Callable[..., Platform], tmp_path: Path, image: ImageParts
) -> Iterator[tuple[Platform, str]]:
    digest, blobs = image.blobs()
    write_layout(tmp_path / "images" / "app", "v1", digest, blobs)
    platform = make_platform(FIRELET_IMAGES=f"{REGISTRY}={tmp_path / 'images'}")
    deployer = Deployer(platform)
    name = deployer.name("ric")
    platform.client("lambda").create_function(
        FunctionName=name,
        PackageType="Image",
        Code={"ImageUri": f"{REGISTRY}/app:v1"},
        Role=platform.make_role(),
        Architectures=[ARCHITECTURE],
        MemorySize=512,
        Timeout=20,
    )
    assert deployer.settle(name)["State"] == "Active"
    yield platform, name
    deployer.close()


def test_the_client_of_aws_serves_a_function_from_an_image(
    function: tuple[Platform, str],
) -> None:
    platform, name = function
    for number in (1, 2):
        answer = platform.invoke(name, {"a": number}, LogType="Tail")
        assert answer.error is None, answer.log
        found = answer.json
        assert (found["n"], found["event"]) == (number, {"a": number})
        assert found["function"] == name
        assert found["arn"].endswith(f":function:{name}")
        assert found["handler"] == "app.handler"
        assert found["python"] == "/usr/local/bin/python3"
        assert found["has_time"]
        assert "work" not in found["root"]
        assert "from the client of aws" in answer.log


def test_what_it_reports_of_errors_arrives(function: tuple[Platform, str]) -> None:
    platform, name = function
    answer = platform.invoke(name, "raise")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "LookupError"
    assert answer.json["errorMessage"] == "as told"
    answer = platform.invoke(name, "big")
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Function.ResponseSizeTooLarge"
    client = platform.client("lambda")
    client.update_function_configuration(FunctionName=name, ImageConfig={"Command": ["gone.x"]})
    client.get_waiter("function_updated_v2").wait(FunctionName=name)
    answer = platform.invoke(name)
    assert answer.json["errorType"] == "Runtime.ImportModuleError"
