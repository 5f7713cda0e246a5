from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from firelet.store.documents import Delete, MemoryDocuments, Put
from unit.iam.catalogue import ACCOUNT, BASIC, TRUST, open_catalogue


class SlowDocuments(MemoryDocuments):
    """A disk that takes until ``go`` is set, and then may turn out to be full."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.is_full = False

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        self.begun.set()
        await self.go.wait()
        if self.is_full:
            raise OSError("disk full")
        await super().apply(changes)


async def test_a_change_whose_caller_goes_away_is_carried_out_to_its_end() -> None:
    documents = SlowDocuments()
    catalogue = open_catalogue(documents)
    documents.go.set()
    await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    documents.go.clear()
    documents.begun.clear()
    attaching = asyncio.create_task(catalogue.roles.attach(ACCOUNT, "worker", BASIC))
    await documents.begun.wait()
    attaching.cancel()
    # Another change must still wait for the first, or it would be made from what is out of date.
    tagging = asyncio.create_task(
        catalogue.roles.tag(ACCOUNT, "worker", [{"Key": "a", "Value": "b"}])
    )
    await asyncio.sleep(0)
    documents.go.set()
    with pytest.raises(asyncio.CancelledError):
        await attaching
    await tagging
    assert catalogue.roles.get(ACCOUNT, "worker").attached == (BASIC,)
    assert catalogue.policies.attachments(ACCOUNT, BASIC) == 1
    restarted = open_catalogue(documents)
    assert restarted.roles.get(ACCOUNT, "worker") == catalogue.roles.get(ACCOUNT, "worker")


async def test_a_change_that_the_disk_refuses_is_not_seen() -> None:
    documents = SlowDocuments()
    documents.go.set()
    documents.is_full = True
    catalogue = open_catalogue(documents)
    with pytest.raises(OSError, match="disk full"):
        await catalogue.roles.create(ACCOUNT, "worker", TRUST)
    assert catalogue.roles.of_account(ACCOUNT) == []
