"""What the registry of functions asks of the rest of the platform, joined to who answers it.

Its ports are in ``control.registry``; behind them are the data plane, the manager of environments,
and the store of images. Made by ``standalone``.
"""

from __future__ import annotations

from pathlib import Path

from firelet.app.dataplane import DataPlane
from firelet.control.counting import Counting
from firelet.control.floor import FloorView
from firelet.control.manager import Manager
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.function import FunctionVersion
from firelet.store.blobs import BlobStore
from firelet.worker.images.store import ImageStore


class Activator:
    """Joins the data plane, which makes versions ready, and the manager, which holds
    environments."""

    def __init__(self, plane: DataPlane, manager: Manager, images: ImageStore) -> None:
        self._plane = plane
        self._manager = manager
        self._images = images
        self._activated: dict[tuple[str, str, str], dict[str, FunctionVersion]] = {}

    async def activate(self, version: FunctionVersion) -> None:
        """Code on disk, interpreter there, and one environment through INIT ahead of the first
        request; an INIT that takes longer than a moment goes on by itself."""
        if version.image is not None:
            await self._images.fetch(version.image)
        await self._plane.activate(version)
        key = version.function_key
        self._activated.setdefault(key, {})[version.version] = version
        if not version.is_per_tenant:
            await self._manager.warm(version, limits.INIT_WAIT_S)

    async def retire(self, function_key: tuple[str, str, str], version: str | None) -> None:
        """Ends what runs with another code or configuration than the one activated last."""
        if version is None:
            self._activated.pop(function_key, None)
        if version != LATEST:
            self._plane.retire(function_key, version)
        known = self._activated.get(function_key, {})
        self._manager.retire(function_key, version, known.get(version or ""))


class Provider:
    """Joins what provisioned concurrency needs: environments, and room to use them."""

    def __init__(self, manager: Manager, counting: Counting) -> None:
        self._manager = manager
        self._counting = counting

    def provide(self, version: FunctionVersion, count: int) -> None:
        """From now on; as many invocations of the version are never refused."""
        key = version.function_key
        self._counting.provide(key, version.version, count)
        self._manager.provide(version, count)

    def provided(self, version: FunctionVersion) -> FloorView:
        return self._manager.provided(version)


class Packages(BlobStore):
    """The blob store as the registry sees it: a package that nothing names any more goes, and
    with it what was extracted of it. Layers of images are in a store of their own."""

    def __init__(self, root: Path, plane: DataPlane, images: ImageStore) -> None:
        super().__init__(root)
        self._plane = plane
        self._images = images

    async def delete(self, digest: str) -> None:
        await self._plane.discard_code(digest)
        await super().delete(digest)
        await self._images.blobs.delete(digest)
