from __future__ import annotations

from pathlib import Path

import pytest

from firelet.cli.failure import CliError
from firelet.cli.guess import Guess, guess, newest
from firelet.cli.package import Package, open_package

HOST = ("python3.9", "python3.13", "python3.10", "nodejs20.x", "nodejs22.x", "provided.al2023")


def package_of(tmp_path: Path, **files: str) -> Package:
    for name, text in files.items():
        (tmp_path / name.replace("__", ".")).write_text(text)
    return open_package(tmp_path)


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        (
            {"lambda_function__py": "def lambda_handler(e, c): ..."},
            "lambda_function.lambda_handler",
        ),
        ({"main__py": "def handler(e, c): ..."}, "main.handler"),
        ({"app__py": "def handler(e, c): ..."}, "app.handler"),
        ({"orders__py": "def handler(e, c): ..."}, "orders.handler"),
        ({"app__py": "handler = make()"}, "app.handler"),
        ({"app__py": "from orders import run as handler"}, "app.handler"),
        (
            {
                "app__py": "def handler(e, c): ...",
                "lambda_function__py": "def lambda_handler(e, c): ...",
            },
            "lambda_function.lambda_handler",
        ),
        (
            {"main__py": "def unrelated(): ...", "zoo__py": "def handler(e, c): ..."},
            "zoo.handler",
        ),
    ],
)
def test_a_python_handler_is_found_by_its_definition(
    tmp_path: Path, files: dict[str, str], handler: str
) -> None:
    found = guess(package_of(tmp_path, **files), lambda: HOST)
    assert found == Guess("python3.13", handler)


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index__mjs": "export const handler = async () => 1"}, "index.handler"),
        ({"index__js": "exports.handler = async () => 1"}, "index.handler"),
        ({"app__mjs": "export async function handler() {}"}, "app.handler"),
        ({"job__mjs": "const handler = 1; export { handler }"}, "job.handler"),
    ],
)
def test_a_node_handler_is_found_by_its_export(
    tmp_path: Path, files: dict[str, str], handler: str
) -> None:
    assert guess(package_of(tmp_path, **files), lambda: HOST) == Guess("nodejs22.x", handler)


def test_a_bootstrap_brings_its_own_runtime(tmp_path: Path) -> None:
    package = package_of(tmp_path, bootstrap="#!/bin/sh", main__py="def handler(e, c): ...")
    assert guess(package, lambda: ()) == Guess("provided.al2023", "bootstrap")


def test_of_a_platform_that_is_not_known_a_common_runtime_is_assumed(tmp_path: Path) -> None:
    package = package_of(tmp_path, main__py="def handler(e, c): ...")
    assert guess(package, lambda: ()).runtime == "python3.12"


@pytest.mark.parametrize(
    "files", [{"main__py": "x = 1"}, {"main__py": "def handler(:"}, {"readme__txt": "handler"}]
)
def test_without_a_handler_the_flags_are_named(tmp_path: Path, files: dict[str, str]) -> None:
    with pytest.raises(CliError, match="--runtime and --handler"):
        guess(package_of(tmp_path, **files), lambda: HOST)


def test_the_newest_runtime_is_the_one_with_the_highest_number() -> None:
    assert newest("python", HOST) == "python3.13"
    assert newest("python", ["python3.99"]) is None
    assert newest("nodejs", []) is None
