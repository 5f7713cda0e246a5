"""Blobs: addressed by content, whole or absent."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.store.blobs import BlobStore


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def test_a_blob_is_found_by_the_digest_of_its_content(blobs: BlobStore) -> None:
    digest = await blobs.put(b"code")
    assert digest == hashlib.sha256(b"code").hexdigest()
    assert blobs.contains(digest)
    assert await blobs.read(digest) == b"code"
    assert blobs.path(digest).read_bytes() == b"code"


async def test_a_new_store_contains_nothing(blobs: BlobStore) -> None:
    assert not blobs.contains("0" * 64)
    await blobs.delete("0" * 64)
    with pytest.raises(PlatformError, match="cannot be read"):
        await blobs.read("0" * 64)


async def test_the_same_content_may_be_put_many_times_at_once(blobs: BlobStore) -> None:
    digests = await asyncio.gather(*(blobs.put(b"x" * 100_000) for _ in range(8)))
    assert len(set(digests)) == 1
    assert await blobs.read(digests[0]) == b"x" * 100_000


async def test_a_deleted_blob_is_gone_and_can_be_put_again(blobs: BlobStore) -> None:
    digest = await blobs.put(b"code")
    await blobs.delete(digest)
    assert not blobs.contains(digest)
    assert await blobs.put(b"code") == digest
    assert blobs.contains(digest)


async def test_other_users_can_read_a_blob(blobs: BlobStore) -> None:
    path = blobs.path(await blobs.put(b"code"))
    assert path.stat().st_mode & 0o777 == 0o644


async def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    (incoming / "half").write_bytes(b"co")
    await BlobStore(tmp_path).put(b"code")
    assert list(incoming.iterdir()) == []


async def test_a_blob_cut_short_is_written_again(blobs: BlobStore) -> None:
    digest = await blobs.put(b"code")
    blobs.path(digest).write_bytes(b"co")
    await blobs.put(b"code")
    assert await blobs.read(digest) == b"code"


async def test_damage_is_noticed_when_a_blob_is_read(blobs: BlobStore) -> None:
    digest = await blobs.put(b"code")
    blobs.path(digest).write_bytes(b"evil")
    with pytest.raises(PlatformError, match="is damaged"):
        await blobs.read(digest)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "0" * 63, "A" * 64, "0" * 64 + "/"])
def test_only_digests_address_blobs(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        blobs.path(digest)


async def test_a_place_that_cannot_be_written_is_a_platform_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlatformError, match="cannot be stored"):
        await BlobStore(tmp_path / "file" / "blobs").put(b"code")
