"""Sealed documents: nothing readable on the disk, nothing exchanged, nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.store.documents import Delete, Put, SqliteDocuments
from firelet.store.sealed import SealedDocuments

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SECRET = b'{"password": "correct horse battery staple"}'
PLAIN = b'{"name": "red"}'


def opened(path: Path, key: bytes = KEY) -> SealedDocuments:
    return SealedDocuments(SqliteDocuments(path / "db"), key, ("secret",))


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in path.iterdir())


async def test_what_is_sealed_comes_back_and_is_not_on_the_disk(tmp_path: Path) -> None:
    documents = opened(tmp_path)
    await documents.apply([Put("secret", "a", SECRET), Put("plain", "a", PLAIN)])
    for _ in range(2):
        assert documents.load("secret") == [("a", SECRET)]
        assert documents.load("plain") == [("a", PLAIN)]
        on_disk = bytes_on_disk(tmp_path)
        assert SECRET not in on_disk
        assert b"battery" not in on_disk
        assert PLAIN in on_disk
        await documents.close()
        documents = opened(tmp_path)
    await documents.apply([Delete("secret", "a")])
    assert documents.load("secret") == []
    await documents.close()


async def test_the_same_text_is_never_sealed_twice_in_the_same_way(tmp_path: Path) -> None:
    documents = opened(tmp_path)
    await documents.apply([Put("secret", name, SECRET) for name in "ab"])
    await documents.close()
    inner = SqliteDocuments(tmp_path / "db")
    (_, first), (_, second) = inner.load("secret")
    await inner.close()
    assert first != second


async def test_another_key_opens_nothing(tmp_path: Path) -> None:
    documents = opened(tmp_path)
    await documents.apply([Put("secret", "account/region/name", SECRET)])
    await documents.close()
    documents = opened(tmp_path, OTHER_KEY)
    await documents.seal_old()
    with pytest.raises(PlatformError, match=r"^The record of account/region/name cannot be decr"):
        documents.load("secret")
    await documents.close()


async def test_a_record_cannot_stand_in_for_another(tmp_path: Path) -> None:
    documents = opened(tmp_path)
    await documents.apply([Put("secret", "a", SECRET)])
    await documents.close()
    inner = SqliteDocuments(tmp_path / "db")
    ((_, sealed),) = inner.load("secret")
    await inner.apply([Put("secret", "b", sealed)])
    await inner.close()
    documents = opened(tmp_path)
    with pytest.raises(PlatformError, match=r"^The record of b cannot be decrypted"):
        documents.load("secret")
    await documents.close()


async def test_old_records_are_sealed_and_leave_no_trace(tmp_path: Path) -> None:
    inner = SqliteDocuments(tmp_path / "db")
    await inner.apply([Put("secret", str(number), SECRET) for number in range(50)])
    await inner.apply([Put("plain", "a", PLAIN)])
    await inner.close()
    assert SECRET in bytes_on_disk(tmp_path)

    documents = opened(tmp_path)
    await documents.seal_old()
    assert b"battery" not in bytes_on_disk(tmp_path)
    assert [body for _, body in documents.load("secret")] == [SECRET] * 50
    assert documents.load("plain") == [("a", PLAIN)]
    await documents.close()
    assert b"battery" not in bytes_on_disk(tmp_path)


@pytest.mark.parametrize("body", [b"\x01", b"\x01short", b"\x01" + b"x" * 60])
async def test_a_damaged_record_is_told(tmp_path: Path, body: bytes) -> None:
    inner = SqliteDocuments(tmp_path / "db")
    await inner.apply([Put("secret", "a", body)])
    await inner.close()
    documents = opened(tmp_path)
    with pytest.raises(PlatformError, match="cannot be decrypted"):
        documents.load("secret")
    await documents.close()
