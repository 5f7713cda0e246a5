"""A registry on fakes, by the stage that it has reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.control.registry import Registry
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import ACCESS_POINT, FakeActivator, new_function, settle


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def activator() -> FakeActivator:
    return FakeActivator()


@pytest.fixture
async def registry(
    documents: MemoryDocuments, blobs: BlobStore, activator: FakeActivator
) -> AsyncIterator[Registry]:
    """Loaded and empty."""
    registry = Registry(
        documents,
        blobs,
        activator=activator,
        clock=lambda: 1_795_417_200.0,
        file_systems=[ACCESS_POINT],
        update_wait_s=0.0,
        answer_wait_s=0.0,
    )
    await registry.load()
    yield registry
    activator.gate.set()
    await registry.close()


@pytest.fixture
async def deployed(registry: Registry) -> Registry:
    """With the function ``greeter``, active."""
    await registry.functions.create(new_function())
    await settle(registry)
    return registry
