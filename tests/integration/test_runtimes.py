"""Every runtime that this host has, through boto3."""

from __future__ import annotations

import pytest

from firelet.sandbox.interpreters import discover
from running_platform import BOOTSTRAP, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

RUNTIMES = sorted(discover())
PYTHONS = [name for name in RUNTIMES if name.startswith("python")]
NODES = [name for name in RUNTIMES if name.startswith("nodejs")]


@pytest.fixture(params=PYTHONS)
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=NODES or [None])
def node(request: pytest.FixtureRequest) -> str:
    if request.param is None:
        pytest.skip("there is no node on PATH")
    return str(request.param)


def test_a_python_function_runs_on_the_version_that_it_asked_for(
    deploy: Deployer, platform: Platform, python: str
) -> None:
    name = deploy(
        "import sys\ndef handler(event, context):\n"
        "    return [event, sys.version_info[:2], sys.prefix]\n",
        Runtime=python,
    )

    major, minor = python.removeprefix("python").split(".")
    assert platform.invoke(name, "in").json == ["in", [int(major), int(minor)], "/var/lang"]


def test_a_python_function_finds_its_code_then_layers_then_the_sdk(
    deploy: Deployer, platform: Platform, python: str
) -> None:
    name = deploy("import sys\ndef handler(event, context):\n    return sys.path\n", Runtime=python)

    path = platform.invoke(name).json

    layers = [f"/opt/python/lib/{python}/site-packages", "/opt/python"]
    wanted = ["/var/task", *layers, "/var/runtime"]
    assert [item for item in path if item in wanted] == wanted
    assert path[0] == "/var/task"
    assert not [item for item in path if "client" in item], "firelet's own modules are not in view"


def test_boto3_is_there_and_nothing_else_of_the_host(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "import importlib.util, boto3, botocore\n"
        "def handler(event, context):\n"
        "    names = ('pytest', 'msgspec', 'uvloop', 'typer')\n"
        "    return [boto3.__file__, [n for n in names if importlib.util.find_spec(n)]]\n",
        Timeout=20,
        MemorySize=512,
    )

    assert platform.invoke(name).json == ["/var/runtime/boto3/__init__.py", []]


def test_modules_and_packages_of_the_function_are_importable(
    deploy: Deployer, platform: Platform, python: str
) -> None:
    name = deploy(
        {
            "src/entry.py": "from lib.deep import value\nimport top\n"
            "def handler(event, context):\n    return [value, top.value]\n",
            "lib/__init__.py": "",
            "lib/deep.py": "value = 'deep'\n",
            "top.py": "value = 'top'\n",
        },
        Runtime=python,
        Handler="src/entry.handler",
    )

    assert platform.invoke(name).json == ["deep", "top"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("app.js", "exports.handler = async (event, context) => [event, context.functionName];"),
        (
            "app.mjs",
            "const name = await Promise.resolve(1);\n"
            "export const handler = async (event, context) => [event, context.functionName];",
        ),
        (
            "app.cjs",
            "exports.handler = (event, context, done) =>\n"
            "  done(null, [event, context.functionName]);",
        ),
    ],
)
def test_a_node_function_of_each_module_kind_answers(
    deploy: Deployer, platform: Platform, node: str, file: str, source: str
) -> None:
    name = deploy({file: source}, Runtime=node, Timeout=20)

    answer = platform.invoke(name, {"a": 1}, LogType="Tail")

    assert answer.json == [{"a": 1}, name], answer.log


def test_a_node_error_has_its_name_message_and_trace(
    deploy: Deployer, platform: Platform, node: str
) -> None:
    name = deploy(
        {"app.js": "exports.handler = async () => { throw new RangeError('too far'); };"},
        Runtime=node,
        Timeout=20,
    )

    answer = platform.invoke(name)

    assert answer.error == "Unhandled"
    assert (answer.json["errorType"], answer.json["errorMessage"]) == ("RangeError", "too far")
    assert answer.json["trace"][0] == "RangeError: too far"


def test_a_bootstrap_of_ones_own_speaks_the_runtime_api(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        {"bootstrap": BOOTSTRAP},
        executable=("bootstrap",),
        Runtime="provided.al2023",
        Handler="any.thing",
        Timeout=10,
    )

    answers = [platform.invoke(name, [number], LogType="Tail") for number in range(3)]

    assert [(answer.error, answer.json) for answer in answers] == [
        (None, {"got": [number], "handler": "any.thing"}) for number in range(3)
    ], answers[0].log


def test_the_executable_bit_of_a_zip_entry_is_kept(deploy: Deployer, platform: Platform) -> None:
    name = deploy({"bootstrap": BOOTSTRAP}, Runtime="provided.al2023", Handler="x")

    answer = platform.invoke(name)

    assert answer.error == "Unhandled"
    assert answer.json["errorType"] in ("Runtime.ExitError", "Runtime.InvalidEntrypoint")


def test_an_exec_wrapper_starts_the_runtime(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        {
            "app.py": "import os\ndef handler(event, context):\n    return os.environ['WRAPPED']\n",
            "wrapper": '#!/bin/bash\nexport WRAPPED=yes\nexec "$@"\n',
        },
        executable=("wrapper",),
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrapper"}},
        Timeout=10,
    )

    assert platform.invoke(name).json == "yes"


LOOK_AROUND = """
import os, resource, socket
def can_write(path):
    try:
        open(path, 'w').close()
    except OSError:
        return False
    return True
def handler(event, context):
    return {
        'is_root': os.getuid() == 0,
        'directory': os.getcwd(),
        'writable': [path for path in ('/tmp/x', '/var/task/x', '/opt/x', '/x') if can_write(path)],
        'files': os.listdir('/var/task'),
        'open_files': resource.getrlimit(resource.RLIMIT_NOFILE),
        'processes': len([name for name in os.listdir('/proc') if name.isdigit()]),
        'interfaces': [name for _, name in socket.if_nameindex()],
    }
"""


def test_the_sandbox_is_that_of_lambda(deploy: Deployer, platform: Platform) -> None:
    assert platform.invoke(deploy(LOOK_AROUND)).json == {
        "is_root": False,
        "directory": "/var/task",
        "writable": ["/tmp/x"],
        "files": ["app.py"],
        "open_files": [1024, 1024],
        "processes": 2,
        "interfaces": ["lo"],
    }
