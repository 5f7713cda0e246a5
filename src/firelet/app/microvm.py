"""The microVM driver of one process that makes sandboxes, put together.

What it is: the guest image, the disks, the program that runs machines and the driver, joined.
Called by ``app/driver`` when the first function wants a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from firelet.model.errors import IsolationMissing
from firelet.sandbox import cgroups, rootfs
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.java import ensure_client
from firelet.sandbox.microvm.choice import VmmChoice, VmmKind
from firelet.sandbox.microvm.config import Egress
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.driver import SLOTS, MicrovmDriver, MicrovmSettings
from firelet.sandbox.microvm.egress import (
    TRANSIT,
    NatGateway,
    NetworkRefused,
    TransitTaken,
)
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.image import GuestImage, ImageStore
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.offer import MicrovmOffer
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.runtime_disk import RUNTIME_KIND, RuntimeDisk, ensure_runtime_disk
from firelet.sandbox.microvm.templates import UNUSED_S
from firelet.sandbox.microvm.vmm import Vmm, VmSpec
from firelet.sandbox.seccomp_profile import compile_profile

_HOME = "microvm"  # below the data directory
_BRANCH = "machines"
_MACHINES_GROUP = 1_899_999_999  # below the users of sandboxes
_TRANSIT_PREFIX = 20  # 1,024 machines for each of 16 processes
_RESOLVERS = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmParts:
    """``code_store`` is that of extracted packages, in the data directory, ``disks`` those that are
    made of them; ``images`` the directory of guest images; ``egress`` and ``resolver`` are as in
    ``MicrovmConfig``; ``file_systems`` are directories that functions may share, by ARN."""

    code_store: Path
    disks: DiskStore
    images: Path
    egress: Egress
    resolver: IPv4Address | None
    cgroup_version: int | None
    interpreters: Mapping[str, Interpreter]
    file_systems: Mapping[str, Path] = field(default_factory=dict)


def open_disks(data_dir: Path) -> DiskStore:
    """The disks of a data directory, which several processes may have open."""
    return DiskStore(data_dir / _HOME / "disks")


def tidy_disks(disks: DiskStore) -> None:
    """Before any process uses them: removes what a crash left unfinished, and the disks of runtimes
    that are of the past. Those of code go with the code."""
    disks.clear_unfinished()
    disks.remove_unused(RUNTIME_KIND, UNUSED_S)


async def open_driver(parts: MicrovmParts, offer: MicrovmOffer) -> MicrovmDriver:
    """By what the host offers. IsolationMissing when that is not enough, ImageDamaged."""
    offer.check()
    assert offer.image is not None
    image = await asyncio.to_thread(ImageStore(parts.images).load, offer.image.digest)
    profile = await asyncio.to_thread(compile_profile)
    home = parts.code_store.parent / _HOME
    tree = janitor = resolver = gateway = None
    with contextlib.ExitStack() as undo:
        if parts.egress is Egress.NAT:
            resolver, gateway = await asyncio.to_thread(_open_way_out, parts.resolver)
            undo.callback(gateway.close)
        if parts.cgroup_version is not None:
            tree = await asyncio.to_thread(cgroups.open_tree, parts.cgroup_version, branch=_BRANCH)
            janitor = Janitor(cgroups.owner_name())
        settings = MicrovmSettings(
            directory=home,
            code_store=parts.code_store,
            image=image,
            is_emulated=offer.choice.kind is VmmKind.QEMU_EMULATED,
            opens_taps=offer.choice.kind is VmmKind.FIRECRACKER,
            make_vmm=vmm_maker(offer.choice),
            profile=profile,
            gateway=gateway,
            file_systems=parts.file_systems,
        )
        maker = _RuntimeDisks(parts, image, resolver)
        driver = MicrovmDriver(settings, parts.interpreters, parts.disks, maker.of, tree, janitor)
        undo.pop_all()  # the driver closes it
    try:
        await driver.open()
    except BaseException:
        await driver.close()
        raise
    return driver


def vmm_maker(choice: VmmChoice) -> Callable[[VmSpec], Vmm]:
    """How a machine is made that has not been started."""
    assert choice.program is not None
    if choice.kind is VmmKind.FIRECRACKER:
        return functools.partial(_make_firecracker, Path(choice.program), choice.jailer)
    return functools.partial(
        QemuVmm, has_kvm=choice.kind is VmmKind.QEMU_KVM, program=choice.program
    )


def _make_firecracker(program: Path, jailer: str | None, spec: VmSpec) -> Vmm:
    """In a jail, which only root can make. All machines have one group, which no other process is
    in: they read the same snapshots."""
    if jailer is None:
        return FirecrackerVmm(spec, program=program, slots=SLOTS)
    assert spec.user is not None, "a jailer is chosen for root alone, who gives machines users"
    network = None if spec.nic is None else spec.nic.namespace
    policy = JailPolicy(uid=spec.user, gid=_MACHINES_GROUP, network=network)
    return FirecrackerVmm(spec, program=program, policy=policy, jailer=jailer, slots=SLOTS)


def open_gateway(resolver: IPv4Address) -> NatGateway:
    """The way out of this process's machines, with a part of the transit network of its own.
    NetworkRefused."""
    for transit in TRANSIT.subnets(new_prefix=_TRANSIT_PREFIX):
        gateway = NatGateway(transit=transit, allowed=(IPv4Network(resolver),))
        try:
            gateway.open()
        except TransitTaken:
            continue
        return gateway
    raise NetworkRefused(f"Every part of {TRANSIT} is some platform's already.")


def find_resolver(text: str) -> IPv4Address:
    """The first name server of a resolv.conf that a guest can reach. NetworkRefused."""
    for word in re.findall(r"^nameserver\s+([0-9.]+)\s*$", text, re.MULTILINE):
        address = IPv4Address(word)
        if not address.is_loopback:
            return address
    raise NetworkRefused(
        f"{_RESOLVERS} names no server that guests can reach: set microvm_resolver."
    )


def _open_way_out(resolver: IPv4Address | None) -> tuple[IPv4Address, NatGateway]:
    """The name server that guests ask, and the way to it. IsolationMissing."""
    try:
        resolver = resolver or find_resolver(_RESOLVERS.read_text())
        return resolver, open_gateway(resolver)
    except (NetworkRefused, OSError, ValueError) as error:
        raise IsolationMissing(f"microVMs cannot have a way out: {error}") from error


class _RuntimeDisks:
    """The disk of each runtime. Blocks."""

    def __init__(
        self,
        parts: MicrovmParts,
        image: GuestImage,
        resolver: IPv4Address | None,
    ) -> None:
        self._parts = parts
        self._image = image
        self._resolver = None if resolver is None else str(resolver)

    def of(self, interpreter: Interpreter) -> RuntimeDisk:
        parts = self._parts
        client = None
        if interpreter.family == "java":
            store = parts.code_store.parent / "clients"
            client = ensure_client(parts.interpreters.values(), store)
        plan = rootfs.plan_root(
            interpreter,
            parts.code_store,
            is_rootless=False,
            java_client=client,
            resolver=self._resolver,
        )
        base = self._image.manifest.base
        assert base is not None
        return ensure_runtime_disk(interpreter, plan, base, parts.disks)
