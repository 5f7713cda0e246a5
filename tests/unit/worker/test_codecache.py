"""The code cache: once, whole, shared, and swept."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest

from firelet.model.errors import InvalidParameterValue, PlatformError
from firelet.worker import codecache
from firelet.worker.archive import extract_archive
from firelet.worker.codecache import CodeCache
from registry_parts import make_zip


class Zips:
    """Zips in one directory, by digest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir()

    def path(self, digest: str) -> Path:
        return self._root / digest

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.path(digest).write_bytes(data)
        return digest


@pytest.fixture
def zips(tmp_path: Path) -> Zips:
    return Zips(tmp_path / "zips")


@pytest.fixture
async def cache(tmp_path: Path, zips: Zips) -> CodeCache:
    cache = CodeCache(tmp_path / "code", zips)
    await cache.open()
    return cache


async def test_code_is_extracted_under_its_digest(cache: CodeCache, zips: Zips) -> None:
    digest = zips.add(make_zip({"a/b.py": "x"}))
    path = await cache.ensure(digest)
    assert path == cache.path(digest)
    assert path.name == digest
    assert (path / "a/b.py").read_text() == "x"
    assert path.stat().st_mode & 0o777 == 0o755


async def test_many_who_want_the_same_code_cause_one_extraction(
    cache: CodeCache, zips: Zips, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def count(source: object, destination: Path) -> None:
        calls.append(destination)
        extract_archive(source, destination)  # type: ignore[arg-type]

    monkeypatch.setattr(codecache, "extract_archive", count)
    digest = zips.add(make_zip())
    paths = await asyncio.gather(*(cache.ensure(digest) for _ in range(20)))
    await cache.ensure(digest)
    assert len(set(paths)) == 1
    assert len(calls) == 1


async def test_a_caller_that_gives_up_leaves_the_extraction_to_the_others(
    cache: CodeCache, zips: Zips
) -> None:
    digest = zips.add(make_zip())
    first = asyncio.create_task(cache.ensure(digest))
    second = asyncio.create_task(cache.ensure(digest))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second / "handler.py").is_file()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_restart_uses_what_is_there_and_sweeps_what_is_half_there(
    cache: CodeCache, zips: Zips, tmp_path: Path
) -> None:
    digest = zips.add(make_zip())
    path = await cache.ensure(digest)
    zips.path(digest).unlink()
    half = tmp_path / "code" / ".unfinished-1234"
    half.mkdir()
    (half / "file").write_text("x")
    again = CodeCache(tmp_path / "code", zips)
    await again.open()
    assert await again.ensure(digest) == path
    assert not half.exists()


async def test_a_bad_archive_and_a_missing_one_leave_nothing(
    cache: CodeCache, zips: Zips, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameterValue):
        await cache.ensure(zips.add(b"no zip"))
    with pytest.raises(PlatformError):
        await cache.ensure("0" * 64)
    assert list((tmp_path / "code").iterdir()) == []


async def test_a_failure_is_not_remembered(cache: CodeCache, zips: Zips) -> None:
    data = make_zip()
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(PlatformError):
        await cache.ensure(digest)
    zips.add(data)
    assert (await cache.ensure(digest)).is_dir()


async def test_discarded_code_is_gone_and_can_come_back(cache: CodeCache, zips: Zips) -> None:
    digest = zips.add(make_zip())
    path = await cache.ensure(digest)
    await cache.discard(digest)
    await cache.discard(digest)
    assert not path.exists()
    assert list(path.parent.iterdir()) == []
    assert (await cache.ensure(digest)).is_dir()


async def test_a_sweep_leaves_what_is_needed(cache: CodeCache, zips: Zips) -> None:
    kept = await cache.ensure(zips.add(make_zip()))
    gone = await cache.ensure(zips.add(make_zip({"old.py": ""})))
    await cache.sweep(lambda digest: digest == kept.name)
    assert kept.is_dir()
    assert not gone.exists()


async def test_copies_of_code_go_before_it_and_who_wants_it_again_waits(
    tmp_path: Path, zips: Zips
) -> None:
    digest = zips.add(make_zip())
    path = tmp_path / "code" / digest
    begun, may_end = threading.Event(), threading.Event()
    was_there: list[bool] = []

    class Copies:
        def discard(self, digest: str) -> None:
            was_there.append(path.is_dir())
            begun.set()
            assert may_end.wait(10)

    cache = CodeCache(tmp_path / "code", zips, copies=Copies())
    await cache.open()
    await cache.ensure(digest)
    removal = asyncio.create_task(cache.discard(digest))
    await asyncio.to_thread(begun.wait)
    again = asyncio.create_task(cache.ensure(digest))
    await asyncio.sleep(0)
    assert not again.done()
    may_end.set()
    await removal
    assert (await again).is_dir()
    assert was_there == [True]


@pytest.mark.parametrize("digest", ["", "..", "../" + "0" * 61, "A" * 64, "0" * 63])
async def test_what_is_no_digest_is_no_path(cache: CodeCache, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        cache.path(digest)
