"""The stock of functions that the control plane is measured with."""

from __future__ import annotations

from pathlib import Path

from bench.stock import ACCOUNT, REGION, add_versions, fill, load_registry
from bench.wire import parse_answer

from firelet.control.activation import is_unfinished


async def test_a_stock_has_functions_that_nothing_is_left_to_do_for(tmp_path: Path) -> None:
    await fill(tmp_path / "data", 25)
    async with load_registry(tmp_path / "data") as registry:
        functions = list(registry.functions.all(ACCOUNT, REGION))
        assert [f.latest.name for f in functions] == [f"stock-{n:05}" for n in range(25)]
        versions = [v for f in functions for v in (f.latest, *f.versions.values())]
        assert len(versions) == 28
        assert not any(map(is_unfinished, versions))
        assert [f.latest.name for f in functions if f.aliases and f.policies] == [
            "stock-00000",
            "stock-00010",
            "stock-00020",
        ]


async def test_each_version_of_the_stock_is_published_and_timed(tmp_path: Path) -> None:
    took_s = await add_versions(tmp_path / "data", 3)
    assert len(took_s) == 3
    assert min(took_s) > 0
    async with load_registry(tmp_path / "data") as registry:
        (function,) = registry.functions.all(ACCOUNT, REGION)
        assert list(function.versions) == ["1", "2", "3"]


def test_an_answer_without_content_ends_with_its_head() -> None:
    head = b"HTTP/1.1 204 No Content\r\nDate: now\r\n\r\n"
    answer = parse_answer(head + b"HTTP/1.1")
    assert answer is not None
    assert (answer.is_success, answer.body, answer.size) == (True, b"", len(head))
    assert parse_answer(head[:-1]) is None
