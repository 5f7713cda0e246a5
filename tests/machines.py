"""The microVM driver with machines of ``fake_vmm``: what it is given, without disks and images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from fake_vmm import FakeHost
from firelet.model.errors import PlatformError
from firelet.sandbox.cgroups import Cgroup, CgroupTree, Limits
from firelet.sandbox.driver import SandboxSpec
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.microvm.disk_store import Disk, DiskStore
from firelet.sandbox.microvm.driver import MicrovmDriver, MicrovmSettings
from firelet.sandbox.microvm.image import GuestImage, Manifest
from firelet.sandbox.microvm.runtime_disk import RuntimeDisk
from firelet.sandbox.rootfs import RootPlan
from firelet.sandbox.seccomp_profile import Profile

RUNTIME = "python3.13"
PLAN = RootPlan((), (), (), (), (), "/var/lang/bin/python3.13", is_rootless=False)


def disk(name: str) -> Disk:
    return Disk(name, Path("/nowhere", name), f"digest of {name}", 1024)


def spec(**changes: Any) -> SandboxSpec:
    given = {"runtime": RUNTIME, "code": "c" * 64, "memory_mib": 128, "tmp_mib": 512}
    return SandboxSpec(**{**given, **changes})


class FakeDisks:
    """Stands for ``DiskStore``. ``failure`` is what it raises."""

    failure: Exception | None = None

    def package(self, digests: Sequence[str], _store: Path) -> Disk:
        if self.failure is not None:
            raise self.failure
        return disk("package-" + "-".join(digests))

    def image(self, digests: Sequence[str], _store: Path) -> Disk:
        return disk("image-" + "-".join(digests))

    def empty(self) -> Disk:
        return disk("empty")

    def sweep(self, _is_needed: object) -> None:
        """There is nothing to be removed."""


@dataclass
class FakeGroup:
    """Stands for the control groups of one machine, of version 1: what is frozen cannot end."""

    limits: list[Limits] = field(default_factory=list)
    procs_fds: list[int] = field(default_factory=list)
    vcpus: list[float | None] = field(default_factory=list)
    memory_mib: int = 8
    is_frozen: bool = False
    is_removed: bool = False

    def set_limits(self, wanted: Limits) -> None:
        self.limits.append(wanted)

    def set_vcpus(self, vcpus: float | None) -> None:
        self.vcpus.append(vcpus)

    def freeze(self) -> None:
        self.is_frozen = True

    def thaw(self) -> None:
        self.is_frozen = False

    def memory_bytes(self) -> int:
        return self.memory_mib * 2**20

    def remove(self) -> None:
        assert not self.is_frozen
        assert not self.is_removed
        self.is_removed = True


class FakeTree:
    """Stands for ``CgroupTree``. ``failure`` is what it raises."""

    def __init__(self) -> None:
        self.groups: list[FakeGroup] = []
        self.failure: Exception | None = None

    def create(self, _name: str) -> Cgroup:
        if self.failure is not None:
            raise self.failure
        self.groups.append(FakeGroup())
        return cast(Cgroup, self.groups[-1])

    def close(self) -> None:
        assert all(group.is_removed for group in self.groups)


@dataclass
class Bench:
    """Makes drivers over one data directory."""

    root: Path
    host: FakeHost
    tree: FakeTree | None = None
    disks: FakeDisks = field(default_factory=FakeDisks)
    runtime_disk_failure: PlatformError | None = None
    file_systems: dict[str, Path] = field(default_factory=dict)

    def driver(self, image_digest: str = "d") -> MicrovmDriver:
        manifest = Manifest(
            release="6.1", python="/usr/bin/python3", kernel="k", vmlinux="v", initrd="i"
        )
        image = GuestImage(
            digest=image_digest,
            manifest=manifest,
            kernel=Path("/nowhere/kernel"),
            vmlinux=Path("/nowhere/vmlinux"),
            initrd=Path("/nowhere/initrd"),
            base=disk("base"),
        )
        return MicrovmDriver(
            MicrovmSettings(
                directory=self.root,
                code_store=Path("/nowhere/code"),
                image=image,
                is_emulated=True,
                make_vmm=self.host.make,
                profile=Profile(inherited=None, final=b""),
                file_systems=self.file_systems,
            ),
            {RUNTIME: Interpreter(RUNTIME, "python", Path("/opt/python"), "bin/python3.13")},
            cast(DiskStore, self.disks),
            self._runtime_disk,
            cast(CgroupTree, self.tree),
        )

    def _runtime_disk(self, interpreter: Interpreter) -> RuntimeDisk:
        if self.runtime_disk_failure is not None:
            raise self.runtime_disk_failure
        return RuntimeDisk(disk(f"runtime-{interpreter.runtime}"), PLAN)

    def templates(self) -> list[str]:
        """The names of those that are kept, unfinished ones included."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in (self.root / "templates").iterdir())
        return []

    def homes(self) -> list[str]:
        """The directories of machines that are there."""
        return sorted(path.name for path in (self.root / "machines").glob("*/*"))
