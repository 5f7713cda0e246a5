from __future__ import annotations

from pathlib import Path

import pytest

import firelet.cli
from firelet.cli.guess import guess
from firelet.cli.package import open_package

FOLDER = Path(firelet.cli.__file__).parent / "demo_functions"


@pytest.mark.parametrize(
    ("name", "handler"),
    [
        ("greet.py", "greet.handler"),
        ("greet.mjs", "greet.handler"),
        ("fail.py", "fail.handler"),
        ("walls.py", "walls.handler"),
        ("bootstrap", "bootstrap"),
    ],
)
def test_a_demo_function_has_the_handler_that_the_demo_names(name: str, handler: str) -> None:
    assert guess(open_package(FOLDER / name), lambda: ()).handler == handler
