"""A platform with sandboxes in several states, made to be killed. Run by ``test_crash``.

Arguments: the code store, and ``janitor`` or ``alone``. Prints its owner's name when all stands.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from firelet.sandbox import cgroups, seccomp_profile
from firelet.sandbox.driver import RuntimeStart, SandboxSpec
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import discover
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.namespaces import NamespacesDriver, NamespacesSettings


async def main(code_store: Path, digest: str, has_janitor: bool) -> None:
    version = cgroups.find_version()
    assert version is not None
    driver = NamespacesDriver(
        NamespacesSettings(
            code_store=code_store,
            is_rootless=False,
            profile=seccomp_profile.compile_profile(),
            snapshot_profile=seccomp_profile.compile_snapshot_profile(may_join=False),
            embryos=Bounds(1, 1),
        ),
        discover(),
        cgroups.open_tree(version),
        Janitor(cgroups.owner_name()) if has_janitor else None,
    )
    await driver.open()
    spec = SandboxSpec(runtime="provided.al2023", code=digest, memory_mib=128, tmp_mib=16)
    busy, frozen = [await driver.create(spec) for _ in range(2)]
    for sandbox in (busy, frozen):
        sandbox.start_runtime(
            RuntimeStart(
                environment={"PATH": "/usr/bin:/bin"},
                arguments=("/bin/sh", "-c", "setsid sleep 1000 & while true; do :; done"),
                name="shell",
            )
        )
    await asyncio.sleep(0.2)  # so that there is something to freeze
    frozen.freeze()
    print(cgroups.owner_name(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "janitor"))
