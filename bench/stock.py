"""A data directory with many functions in it, filled through the registry.

It is the platform's own registry on the platform's own stores, without workers: nothing is started
for these functions, neither now nor when a platform finds them active. Each takes the two commits
that CreateFunction takes; many at a time share them. ``load_registry`` is what a platform does
with such a directory before it serves; ``python -m bench.stock DIRECTORY`` measures it alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.functions import MEMORY_MIB, PYTHON, Source
from firelet.control import records
from firelet.control.configuration import Settings
from firelet.control.functions import NewFunction
from firelet.control.registry import Registry
from firelet.model.function import FunctionKey, FunctionVersion
from firelet.model.permission import Permission
from firelet.store.blobs import BlobStore
from firelet.store.documents import SqliteDocuments
from firelet.store.keyfile import load_key
from firelet.store.sealed import SealedDocuments

ACCOUNT = "000000000000"
REGION = "us-east-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/bench"
_PACKAGES = 50  # so many zips are shared by all functions
_AT_ONCE = 200
_PUBLISHED_EACH = 10  # every tenth function has a version, an alias and a policy


class _Nothing:
    """An activator without workers."""

    async def activate(self, version: FunctionVersion) -> None:
        """The version is ready."""

    async def retire(self, function_key: FunctionKey, version: str | None) -> None:
        """There is nothing to end."""


@asynccontextmanager
async def load_registry(data: Path) -> AsyncIterator[Registry]:
    """The registry of a data directory that no platform is using."""
    data.mkdir(exist_ok=True)
    documents = SealedDocuments(
        SqliteDocuments(data / "metadata.db"),
        load_key(data / "environment.key"),
        (records.FUNCTION, records.VERSION),
    )
    await documents.seal_old()
    registry = Registry(documents, BlobStore(data / "blobs"), activator=_Nothing())
    await registry.load()
    try:
        yield registry
    finally:
        await registry.close()
        await documents.close()


async def fill(data: Path, count: int) -> None:
    """Makes ``count`` functions, ``stock-00000`` and so on."""
    packages = [Source("app.py", f"def no_op(e, c): return {i}\n").zip() for i in range(_PACKAGES)]
    async with load_registry(data) as registry:
        await _at_once(
            _make(registry, number, packages[number % _PACKAGES]) for number in range(count)
        )


async def add_versions(data: Path, count: int) -> list[float]:
    """Makes a function with so many published versions; seconds that each took, in order."""
    took_s = []
    async with load_registry(data) as registry:
        name = "versions"
        key = (ACCOUNT, REGION, name)
        package = Source("app.py", "def no_op(e, c): return None\n").zip()
        await registry.functions.create(
            NewFunction(key=key, settings=_settings(name), package=package)
        )
        for number in range(count):
            began = time.perf_counter()
            settings = Settings(description=f"version {number + 1}")
            await registry.functions.update_configuration(key, settings, None)
            await registry.versions.publish(key)
            took_s.append(time.perf_counter() - began)
    return took_s


def _settings(name: str) -> Settings:
    return Settings(
        role=ROLE,
        runtime=PYTHON,
        handler="app.no_op",
        memory_mib=MEMORY_MIB,
        description=f"function {name} of the stock",
        environment={"STAGE": "production", "TABLE": f"table-of-{name}", "LEVEL": "info"},
    )


async def _make(registry: Registry, number: int, package: bytes) -> None:
    name = f"stock-{number:05}"
    key = (ACCOUNT, REGION, name)
    tags = {"team": f"team-{number % 40}", "cost-centre": str(number % 7)}
    await registry.functions.create(
        NewFunction(key=key, settings=_settings(name), package=package, tags=tags)
    )
    if number % _PUBLISHED_EACH == 0:
        version = await registry.versions.publish(key)
        await registry.aliases.create(key, "live", version.version)
        permission = Permission(
            statement_id="bucket", action="lambda:InvokeFunction", principal="s3.amazonaws.com"
        )
        await registry.policies.add(key, "live", permission, None)


async def _at_once(work: Iterable[Awaitable[None]]) -> None:
    """Some of them at a time, so that they share commits."""
    waiting = iter(work)

    async def take() -> None:
        for item in waiting:
            await item

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(take())


async def _measure_load(data: Path) -> float:
    began = time.perf_counter()
    async with load_registry(data):
        return time.perf_counter() - began


if __name__ == "__main__":
    print(asyncio.run(_measure_load(Path(sys.argv[1]))))
