"""What environments have from their start to their end, wherever they are made: a session of
their role, and a hold on the extracted package.

A package that no function wants any more goes when the last environment that holds it has ended.
Used by the node, and by ``app`` in front of several worker processes, which share the directory.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firelet.model.function import FunctionVersion
from firelet.runtime.credentials import SessionCredentials
from firelet.worker.role_session import RoleSession


class CodeStore(Protocol):
    """Where packages lie extracted, one directory per digest."""

    async def ensure(self, digest: str) -> Path:
        """The directory of a package, extracted now if it was not."""

    async def discard(self, digest: str) -> None:
        """Removes the directory."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One environment's. ``end`` is called once, when it has ended or was not made after all."""

    credentials: RoleSession
    end: Callable[[], None]


class Custody:
    """``credentials`` are issued for each environment and revoked, by access key, at its end."""

    def __init__(
        self,
        code: CodeStore,
        credentials: Callable[[FunctionVersion], SessionCredentials],
        revoke: Callable[[str], None],
    ) -> None:
        self._code = code
        self._credentials = credentials
        self._revoke = revoke
        self._held: Counter[str] = Counter()
        self._unwanted: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def prepare(self, version: FunctionVersion) -> None:
        """Its code and its layers are on disk when this returns."""
        self._unwanted.difference_update(version.digests)
        for digest in version.digests:
            await self._code.ensure(digest)

    def admit(self, version: FunctionVersion) -> Stay:
        """For an environment that is about to be made."""
        digests = version.digests
        credentials = RoleSession(version, self._credentials, self._revoke)
        self._held.update(digests)
        self._unwanted.difference_update(digests)
        return Stay(credentials, lambda: self._let_go(digests, credentials))

    async def discard(self, digest: str) -> None:
        """No function wants this package any more; it goes when no environment holds it."""
        self._unwanted.add(digest)
        await self._remove_unwanted(digest)

    async def close(self) -> None:
        """Waits for removals that are under way."""
        await asyncio.gather(*self._removals)

    def _let_go(self, digests: tuple[str, ...], credentials: RoleSession) -> None:
        credentials.close()
        self._held.subtract(digests)
        for digest in set(digests):
            if digest in self._unwanted and not self._held[digest]:
                task = asyncio.create_task(self._remove_unwanted(digest))
                self._removals.add(task)
                task.add_done_callback(self._removals.discard)

    async def _remove_unwanted(self, digest: str) -> None:
        if digest in self._unwanted and not self._held[digest]:
            self._unwanted.discard(digest)
            del self._held[digest]
            await self._code.discard(digest)
