"""A registry on fakes, by the stage that it has reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.control.registry import Registry
from firelet.store.blobs import BlobStore
from firelet.store.documents import MemoryDocuments
from registry_parts import KEY, FakeActivator, new_function, settle


@pytest.fixture
def documents() -> MemoryDocuments:
    return MemoryDocuments()


@pytest.fixture
async def published(documents: MemoryDocuments, tmp_path: Path) -> AsyncIterator[Registry]:
    """With the function ``greeter``, its version 1 and the alias ``live`` that points to it."""
    registry = Registry(
        documents,
        BlobStore(tmp_path / "blobs"),
        activator=FakeActivator(),
        clock=lambda: 1_795_417_200.0,
    )
    await registry.load()
    await registry.functions.create(new_function(publish=True))
    await settle(registry)
    await registry.aliases.create(KEY, "live", "1")
    yield registry
    await registry.close()
