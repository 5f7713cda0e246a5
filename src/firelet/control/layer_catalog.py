"""Every layer version of every account and region in memory, and its durable copy.

A change is in the store before it is in memory. What it is not: the rules about layers; those are
in ``control.layers``, which also holds the layer's lock around ``put`` and ``remove``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from firelet.model.layer import LayerKey, LayerVersion
from firelet.store.documents import Delete, DocumentStore, Put

_VERSION = "lambda.layer-version.v1"
_NUMBERING = "lambda.layer-numbering.v1"


class LayerCatalog:
    """All layer versions. ``load`` first."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._versions: defaultdict[LayerKey, dict[int, LayerVersion]] = defaultdict(dict)
        self._numbering: dict[LayerKey, int] = {}
        self._references: Counter[str] = Counter()

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread."""
        for text, body in self._documents.load(_NUMBERING):
            account, region, name = text.split("/")
            self._numbering[account, region, name] = msgspec.json.decode(body, type=int)
        for _, body in self._documents.load(_VERSION):
            self._enter(msgspec.json.decode(body, type=LayerVersion))

    def find(self, key: LayerKey, number: int) -> LayerVersion | None:
        return self._versions.get(key, {}).get(number)

    def versions(self, key: LayerKey) -> list[LayerVersion]:
        """The versions of one layer, newest first."""
        known = self._versions.get(key, {})
        return [known[number] for number in sorted(known, reverse=True)]

    def layers(self, account: str, region: str) -> list[LayerKey]:
        """The layers of one account and region that have versions, by name."""
        return sorted(key for key in self._versions if key[:2] == (account, region))

    def everything(self) -> Iterator[LayerVersion]:
        """All versions of all accounts and regions."""
        return (version for known in self._versions.values() for version in known.values())

    def next_number(self, key: LayerKey) -> int:
        """One more than the highest number that the layer has ever had."""
        return self._numbering.get(key, 1)

    def is_referenced(self, digest: str) -> bool:
        """Whether any layer version has this zip."""
        return self._references[digest] > 0

    async def put(self, version: LayerVersion) -> None:
        """Adds a version, or replaces the record of one."""
        following = max(self.next_number(version.key), version.number + 1)
        await self._documents.apply(
            [
                Put(_VERSION, _format_key(version), msgspec.json.encode(version)),
                Put(_NUMBERING, "/".join(version.key), msgspec.json.encode(following)),
            ]
        )
        self._numbering[version.key] = following
        self._leave(version)
        self._enter(version)

    async def remove(self, version: LayerVersion) -> None:
        """Removes a version; its number stays used."""
        await self._documents.apply([Delete(_VERSION, _format_key(version))])
        self._leave(version)

    def _enter(self, version: LayerVersion) -> None:
        self._versions[version.key][version.number] = version
        self._references[version.code.digest] += 1

    def _leave(self, version: LayerVersion) -> None:
        known = self._versions[version.key]
        before = known.pop(version.number, None)
        if before is not None:
            self._references[before.code.digest] -= 1
        if not known:
            del self._versions[version.key]


def _format_key(version: LayerVersion) -> str:
    return "/".join((*version.key, str(version.number)))
