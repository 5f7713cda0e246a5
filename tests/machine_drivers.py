"""The microVM driver in the hands of a test, put together as ``app/microvm`` does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from boxes import Packages
from firelet.sandbox import cgroups, rootfs, seccomp_profile
from firelet.sandbox.host import HostFacts
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.java import ensure_client
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.driver import MicrovmDriver, MicrovmSettings
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.runtime_disk import RuntimeDisk, ensure_runtime_disk
from guest_images import MachineRoom

MakeMicrovmDriver = Callable[..., MicrovmDriver]


def make_microvm_driver_of(
    host: HostFacts,
    packages: Packages,
    room: MachineRoom,
    runtime_disks: DiskStore,
    disks: DiskStore,
) -> MakeMicrovmDriver:
    """Makes drivers of emulated machines: those that QEMU runs where there is nothing else."""
    base = room.image.manifest.base
    assert base is not None
    profile = seccomp_profile.compile_profile()

    def runtime_disk(interpreter: Interpreter) -> RuntimeDisk:
        client = None
        if interpreter.family == "java":
            client = ensure_client(host.interpreters.values(), room.home / "clients")
        plan = rootfs.plan_root(interpreter, packages.root, is_rootless=False, java_client=client)
        return ensure_runtime_disk(interpreter, plan, base, runtime_disks)

    def make(
        gateway: NatGateway | None = None, file_systems: Mapping[str, Path] | None = None
    ) -> MicrovmDriver:
        has_tree = host.cgroup_version is not None and not host.is_rootless
        return MicrovmDriver(
            MicrovmSettings(
                directory=room.home,
                code_store=packages.root,
                image=room.image,
                is_emulated=True,
                make_vmm=lambda spec: QemuVmm(spec, has_kvm=False),
                profile=profile,
                gateway=gateway,
                file_systems=file_systems or {},
            ),
            host.interpreters,
            disks,
            runtime_disk,
            cgroups.open_tree(host.cgroup_version or 1, branch="machines") if has_tree else None,
        )

    return make
