"""Documents that are encrypted on their way to the disk: functions, for their variables.

What it is: a ``DocumentStore`` around another one. The bodies of some kinds are sealed with
AES-256-GCM; kind and key of the document are authenticated with it, so that a body cannot stand in
for another one. What it is not: the keeping of the key (``store.keyfile``).

Source: NIST SP 800-38D; random 96-bit nonces are good for 2^32 messages under one key.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from firelet.model.errors import PlatformError
from firelet.store.documents import Delete, Put, SqliteDocuments

# The first byte of a sealed body. One that was written before there was a key is JSON, which
# begins otherwise.
_SEALED = b"\x01"
_NONCE_BYTES = 12


class SealedDocuments:
    """Implements ``DocumentStore`` over ``inner``, whose owner it is. ``kinds`` are sealed; call
    ``seal_old`` before the first ``load``."""

    def __init__(self, inner: SqliteDocuments, key: bytes, kinds: Collection[str]) -> None:
        self._inner = inner
        self._cipher = AESGCM(key)
        self._kinds = frozenset(kinds)

    async def seal_old(self) -> None:
        """Seals what an earlier firelet wrote in plain text, and leaves no trace of that text in
        the file. At start-up: it blocks."""
        old = [
            Put(kind, key, body)
            for kind in sorted(self._kinds)
            for key, body in self._inner.load(kind)
            if not body.startswith(_SEALED)
        ]
        if old:
            await self.apply(old)
            await self._inner.compact()

    def load(self, kind: str) -> list[tuple[str, bytes]]:
        """PlatformError when a document was sealed with another key, or damaged."""
        stored = self._inner.load(kind)
        if kind not in self._kinds:
            return stored
        return [(key, self._open(kind, key, body)) for key, body in stored]

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        await self._inner.apply([self._seal(change) for change in changes])

    async def close(self) -> None:
        await self._inner.close()

    def _seal(self, change: Put | Delete) -> Put | Delete:
        if isinstance(change, Delete) or change.kind not in self._kinds:
            return change
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, change.body, _context(change.kind, change.key))
        return Put(change.kind, change.key, _SEALED + nonce + sealed)

    def _open(self, kind: str, key: str, body: bytes) -> bytes:
        nonce, sealed = body[1 : 1 + _NONCE_BYTES], body[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, _context(kind, key))
        except (InvalidTag, ValueError):
            raise PlatformError(
                f"The record of {key} cannot be decrypted: the key file is not the one that it was"
                " written with, or the record is damaged."
            ) from None


def _context(kind: str, key: str) -> bytes:
    return f"{kind}\0{key}".encode()
