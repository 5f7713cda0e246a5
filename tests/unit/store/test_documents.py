"""The contract of document stores, and what only the one on disk promises."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.model.errors import PlatformError
from firelet.store.documents import Delete, DocumentStore, MemoryDocuments, Put, SqliteDocuments
from firelet.store.sealed import SealedDocuments


class DocumentStoreContract:
    """What every document store does."""

    @pytest.fixture
    def documents(self, tmp_path: Path) -> DocumentStore:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    async def closed(self, documents: DocumentStore) -> AsyncIterator[None]:
        yield
        await documents.close()

    async def test_a_new_store_is_empty(self, documents: DocumentStore) -> None:
        assert documents.load("function") == []

    async def test_documents_come_back_by_kind_in_the_order_of_their_keys(
        self, documents: DocumentStore
    ) -> None:
        await documents.apply(
            [Put("function", "b", b"2"), Put("function", "a", b"1"), Put("role", "a", b"3")]
        )
        assert documents.load("function") == [("a", b"1"), ("b", b"2")]
        assert documents.load("role") == [("a", b"3")]

    async def test_a_put_replaces_and_a_delete_removes(self, documents: DocumentStore) -> None:
        await documents.apply([Put("k", "a", b"old"), Put("k", "b", b"x")])
        await documents.apply([Put("k", "a", b"new"), Delete("k", "b"), Delete("k", "unknown")])
        assert documents.load("k") == [("a", b"new")]

    async def test_changes_apply_in_the_order_in_which_they_are_given(
        self, documents: DocumentStore
    ) -> None:
        await documents.apply([Put("k", "a", b"1"), Delete("k", "a"), Put("k", "a", b"2")])
        assert documents.load("k") == [("a", b"2")]

    async def test_all_changes_of_a_call_are_made_or_none(self, documents: DocumentStore) -> None:
        await documents.apply([Put("k", "a", b"before")])
        with pytest.raises(UnicodeEncodeError):
            await documents.apply([Put("k", "a", b"after"), Put("k", "\ud800", b"")])
        assert documents.load("k") == [("a", b"before")]

    async def test_calls_at_the_same_time_keep_their_order(self, documents: DocumentStore) -> None:
        await asyncio.gather(
            *(documents.apply([Put("k", "a", str(n).encode())]) for n in range(100))
        )
        assert documents.load("k") == [("a", b"99")]

    async def test_a_call_that_fails_does_not_harm_those_beside_it(
        self, documents: DocumentStore
    ) -> None:
        outcomes = await asyncio.gather(
            documents.apply([Put("k", "a", b"1")]),
            documents.apply([Put("k", "b", b"2"), Put("k", "\ud800", b"")]),
            documents.apply([Put("k", "c", b"3")]),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            UnicodeEncodeError,
            type(None),
        ]
        assert documents.load("k") == [("a", b"1"), ("c", b"3")]

    async def test_an_empty_body_is_a_body(self, documents: DocumentStore) -> None:
        await documents.apply([Put("k", "a", b"")])
        assert documents.load("k") == [("a", b"")]


class TestMemoryDocuments(DocumentStoreContract):
    @pytest.fixture
    def documents(self, tmp_path: Path) -> DocumentStore:
        return MemoryDocuments()


class TestSqliteDocuments(DocumentStoreContract):
    @pytest.fixture
    def documents(self, tmp_path: Path) -> DocumentStore:
        return SqliteDocuments(tmp_path / "data" / "documents.db")


class TestSealedDocuments(DocumentStoreContract):
    @pytest.fixture
    def documents(self, tmp_path: Path) -> DocumentStore:
        return SealedDocuments(
            SqliteDocuments(tmp_path / "documents.db"), b"k" * 32, ("function", "k")
        )


async def test_documents_survive_a_restart(tmp_path: Path) -> None:
    first = SqliteDocuments(tmp_path / "d.db")
    await first.apply([Put("k", "a", b"1")])
    await first.close()
    second = SqliteDocuments(tmp_path / "d.db")
    assert second.load("k") == [("a", b"1")]
    await second.close()


async def test_a_file_that_is_no_database_is_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "d.db").write_bytes(b"this is not a database, but long enough to be one" * 100)
    documents = SqliteDocuments(tmp_path / "d.db")
    with pytest.raises(PlatformError, match="is damaged"):
        documents.load("k")
    with pytest.raises(PlatformError, match="is damaged"):
        await documents.apply([Put("k", "a", b"")])
    await documents.close()


async def test_a_damaged_page_is_reported_and_not_read(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    documents = SqliteDocuments(path)
    await documents.apply([Put("k", str(n), b"x" * 500) for n in range(200)])
    await documents.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    documents = SqliteDocuments(path)
    with pytest.raises(PlatformError, match="is damaged"):
        documents.load("k")
    await documents.close()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.close()
    before = path.read_bytes()
    documents = SqliteDocuments(path)
    with pytest.raises(PlatformError, match="belongs to another program"):
        documents.load("k")
    await documents.close()
    assert path.read_bytes() == before


async def test_a_database_of_a_newer_firelet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    documents = SqliteDocuments(path)
    documents.load("k")
    await documents.close()
    newer = sqlite3.connect(path)
    newer.execute("UPDATE firelet_schema SET version = 99")
    newer.commit()
    newer.close()
    documents = SqliteDocuments(path)
    with pytest.raises(PlatformError, match="schema version 99"):
        documents.load("k")
    await documents.close()


async def test_a_closed_store_refuses_changes(tmp_path: Path) -> None:
    documents = SqliteDocuments(tmp_path / "d.db")
    await documents.close()
    await documents.close()
    with pytest.raises(PlatformError, match="is closed"):
        await documents.apply([Put("k", "a", b"")])
