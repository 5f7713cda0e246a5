"""A directory of the host in machines and in sandboxes: ``python -m bench.shared_directory``.

Needs what ``bench.microvm`` needs. One function does the same work on files below ``/mnt`` in a
machine and in a sandbox of namespaces, and in the machine's own ``/tmp``; its times are of its own
clock, the median of several calls. What is read was written just before: it comes out of the host's
page cache, not from a disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import uvloop
from rich import box
from rich.console import Console
from rich.table import Table

from bench.machine_host import PIECE_BYTES, Found, make_version, open_host
from bench.microvm import begin
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionVersion
from firelet.model.invocation import Invocation
from firelet.worker.node import Node
from firelet.worker.slots import Slot

CALLS = 5
PIECES = 20 * 1024 * 1024 // PIECE_BYTES
COUNT = 100
_MOUNTED = "/mnt/shared"
_OWNER = 54_321  # anybody but root
_LABELS = ("write 20 MiB", "read 20 MiB", "stat", "make a file", "open a file", "remove a file")


async def measure(node: Node, version: FunctionVersion, place: str) -> list[float]:
    """Seconds of each kind of work, the first call left out. RuntimeError if one fails."""
    slot = await node.start(version)
    try:
        said = [await _call(slot, place) for _ in range(1 + CALLS)]
    finally:
        await slot.close()
    return [statistics.median(each) for each in zip(*said[1:], strict=True)]


async def _call(slot: Slot, place: str) -> list[float]:
    outcome = await slot.invoke(
        Invocation(
            request_id="bench",
            function=slot.version,
            invoked_arn="",
            payload=json.dumps([place, PIECES, COUNT]).encode(),
        )
    )
    if outcome.function_error is not None:
        raise RuntimeError(f"the function failed: {outcome.payload!r}")
    free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    slot.when_free(lambda _slot: free.set_result(None))
    await free
    return json.loads(outcome.payload)  # type: ignore[no-any-return]


async def run(found: Found, scratch: Path) -> list[list[float]]:
    """In a machine, in its own /tmp, in a sandbox of namespaces."""
    shared = scratch / "shared"
    shared.mkdir()
    if os.geteuid() == 0:
        os.chown(shared, _OWNER, _OWNER)
    version = make_version(
        f"python3.{sys.version_info.minor}", handler="app.files", mount_path=_MOUNTED
    )
    async with open_host(found, scratch, shared) as host:
        await host.node.activate(version)
        return [
            await measure(host.node, version, _MOUNTED),
            await measure(host.node, version, "/tmp"),
            await measure(host.namespaces, version, _MOUNTED),
        ]


def print_table(console: Console, columns: list[list[float]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("work", no_wrap=True)
    for heading in ("machine", "machine, /tmp", "namespaces"):
        table.add_column(heading, justify="right", no_wrap=True)
    for number, label in enumerate(_LABELS):
        table.add_row(label, *(_format(number, column[number]) for column in columns))
    console.print(table)


def _format(number: int, seconds: float) -> str:
    if number < 2:
        return f"{PIECES * PIECE_BYTES / 1e6 / seconds:,.1f} MB/s"
    return f"{seconds * 1e6 / COUNT:,.0f} us"


def main() -> None:
    """Parses the command line, measures, reports."""
    begun = begin("bench.shared_directory", __doc__, "shared directories")
    if begun is None:
        return
    console, found = begun
    with tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch:
        try:
            columns = uvloop.run(run(found, Path(scratch)))
        except PlatformError as error:
            sys.exit(f"shared directories: {error.message}")
    print_table(console, columns)
    console.print(f"load average at the end: {os.getloadavg()[0]:.2f}", highlight=False)


if __name__ == "__main__":
    main()
