"""The microVM driver: each sandbox is a machine of its own.

What it is: ``SandboxDriver`` by restoring machines that were put to rest. What it is not: a way to
run machines (``qemu``, ``firecracker_vmm``) nor what is in them (``image``, ``runtime_disk``).

A start restores the embryo of its runtime and size (``templates``) with the function's files in its
slots, and tells it its function. With SnapStart, a machine is put to rest after INIT: whatever its
runtime is, for a machine is at rest as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from firelet.model.errors import InvalidRuntime, PlatformError, SandboxEnded
from firelet.sandbox.cgroups import CgroupTree, owner_name
from firelet.sandbox.driver import Sandbox, SandboxSpec
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.janitor import Janitor
from firelet.sandbox.microvm import machine_sizes
from firelet.sandbox.microvm.directory_server import mount_failure
from firelet.sandbox.microvm.disk_store import Disk, DiskStore
from firelet.sandbox.microvm.egress import NatGateway
from firelet.sandbox.microvm.image import GuestImage
from firelet.sandbox.microvm.machine_sandbox import MachineSandbox
from firelet.sandbox.microvm.machine_snapshot import MachineClone, MachineSnapshot
from firelet.sandbox.microvm.network import MachineNetwork
from firelet.sandbox.microvm.runtime_disk import RuntimeDisk
from firelet.sandbox.microvm.templates import CLOSED, Size, Template, Templates
from firelet.sandbox.microvm.vmm import Drive, Vmm, VmmEnded, VmmRefused, VmSnapshot, VmSpec
from firelet.sandbox.seccomp_profile import Profile
from firelet.sandbox.uids import UidRange

log = logging.getLogger(__name__)

SLOTS = (2, 3)  # the numbers of the disks that are another function's in each machine

M = TypeVar("M", bound=MachineSandbox)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicrovmSettings:
    """What the driver is told by the configuration and by what was found on the host.

    ``directory`` is for templates and running machines; ``make_vmm`` makes a machine that has not
    been started, of the kind that was chosen, which ``opens_taps`` by itself or gets them open.
    With a ``gateway``, which the driver closes, machines have a network. ``file_systems`` are
    directories of the host that functions may share, by ARN.
    """

    directory: Path
    code_store: Path
    image: GuestImage
    is_emulated: bool
    opens_taps: bool = False
    make_vmm: Callable[[VmSpec], Vmm]
    gateway: NatGateway | None = None
    profile: Profile
    file_systems: Mapping[str, Path] = field(default_factory=dict)


class MicrovmDriver:
    """Owns the machines, the templates and the cgroup tree, which is None where the operator has
    accepted to run without; the janitor cleans that up after a crash. ``runtime_disk`` blocks, as
    ``disks`` does. PlatformError for a guest image that functions cannot run in."""

    def __init__(
        self,
        settings: MicrovmSettings,
        interpreters: Mapping[str, Interpreter],
        disks: DiskStore,
        runtime_disk: Callable[[Interpreter], RuntimeDisk],
        cgroups: CgroupTree | None,
        janitor: Janitor | None = None,
    ) -> None:
        self._settings = settings
        self._interpreters = interpreters
        self._disks = disks
        self._runtime_disk = runtime_disk
        self._cgroups = cgroups
        self._janitor = janitor
        self._uids = UidRange()
        self._has_users = os.geteuid() == 0
        self._machines: set[MachineSandbox] = set()
        self._expecting: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._homes = settings.directory / "machines" / owner_name()
        image = settings.image
        if image.base is None:
            raise PlatformError(f"The guest image {image.digest} has no base system.")
        self._base = image.base
        self._templates = Templates(
            settings.directory / "templates",
            image.digest,
            settings.profile,
            self._make_first,
            runtime_disk,
            self._base,
            disks.empty,
            settings.gateway is not None,
        )

    async def open(self) -> None:
        """Machines start with the first function; what a crash has left goes now."""
        await asyncio.to_thread(self._clear)
        if self._has_users:
            self._uids.open()
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.start)

    def expect(self, runtime: str) -> None:
        """Makes the disk of that runtime, in the background. Its embryo has to wait until it is
        known how large the functions are."""
        interpreter = self._interpreters.get(runtime)
        if interpreter is None:
            return  # whoever asks for it is told
        task = asyncio.create_task(self._expect(interpreter))
        self._expecting.add(task)
        task.add_done_callback(self._expecting.discard)

    async def create(self, spec: SandboxSpec) -> MachineSandbox:
        """A machine with the function's files, which waits for its runtime to be started."""
        return await self._restore_embryo(MachineSandbox, spec)

    async def create_snapshot(self, spec: SandboxSpec) -> MachineSnapshot:
        """A machine with memory of its own, so that it can be put to rest again."""
        assert not spec.file_systems, "AWS has no SnapStart for functions with file systems"
        return await self._restore_embryo(MachineSnapshot, spec)

    async def seal(self, snapshot: Sandbox) -> None:
        assert isinstance(snapshot, MachineSnapshot)
        await snapshot.seal()

    async def clone(self, snapshot: Sandbox, spec: SandboxSpec) -> MachineClone:
        """One more machine of a snapshot that this driver has made."""
        assert isinstance(snapshot, MachineSnapshot)
        if snapshot.at_rest is None:
            raise PlatformError("The snapshot is not at rest.")
        return await self._restore(MachineClone, snapshot.at_rest, snapshot.drives, spec)

    async def close(self) -> None:
        """Ends all machines. Embryos stay at rest, for the next time. Whoever is about to get a
        machine hears of it."""
        self._is_closed = True
        for task in self._expecting:
            task.cancel()
        await asyncio.gather(*self._expecting, return_exceptions=True)
        await self._templates.close()
        stops = [machine.stop() for machine in list(self._machines)]
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(outcome, BaseException):
                # All else is still to be given back.
                log.error("machine not stopped", exc_info=outcome)
        await asyncio.to_thread(shutil.rmtree, self._homes, ignore_errors=True)
        if self._settings.gateway is not None:
            await asyncio.to_thread(self._settings.gateway.close)
        self._uids.close()
        if self._cgroups is not None:
            await asyncio.to_thread(self._cgroups.close)
        if self._janitor is not None:
            await asyncio.to_thread(self._janitor.stop)

    async def _restore_embryo(self, kind: type[M], spec: SandboxSpec) -> M:
        interpreter, slots = await self._prepare(spec)
        shared: Sequence[Path] = ()
        if spec.file_systems:
            shared = await asyncio.to_thread(self._find_directories, spec)
        size = self._size(spec)
        template = await self._templates.of(interpreter, size)
        try:
            return await self._make_of(kind, template, slots, spec, shared)
        except (VmmEnded, VmmRefused, SandboxEnded) as error:
            if self._is_closed:
                raise
            # Most likely it is damaged, or of another time: a fresh one, and only one, is tried.
            log.warning("machine not restored runtime=%s: %s", spec.runtime, error.message)
            await self._templates.give_up(template)
        template = await self._templates.of(interpreter, size)
        return await self._make_of(kind, template, slots, spec, shared)

    async def _make_of(
        self,
        kind: type[M],
        template: Template,
        slots: tuple[Disk, Disk],
        spec: SandboxSpec,
        shared: Sequence[Path],
    ) -> M:
        machine = await self._restore(kind, template.snapshot, (*template.drives, *slots), spec)
        try:
            await machine.assign(spec, shared)
        except BaseException:
            await machine.stop()
            raise
        return machine

    async def _restore(
        self, kind: type[M], snapshot: VmSnapshot, drives: tuple[Disk, ...], spec: SandboxSpec
    ) -> M:
        limits = machine_sizes.drive_limits(spec.memory_mib)
        machine = await self._make_machine(
            kind,
            self._size(spec),
            drives,
            [Drive(disk.path, *limits) for disk in drives],
            self._settings.gateway,
        )
        try:
            await machine.restore(snapshot)
            await machine.resume()
            machine.attach()  # a vsock's stream is there only now
            machine.begin_awakening()
        except BaseException:
            await machine.stop()
            raise
        return machine

    async def _prepare(self, spec: SandboxSpec) -> tuple[Interpreter, tuple[Disk, Disk]]:
        """What runs it, and what is in its slots."""
        interpreter = self._interpreters.get(spec.runtime)
        if interpreter is None:
            raise InvalidRuntime(f"This host has no interpreter for {spec.runtime}.")
        store = self._settings.code_store
        if spec.image:
            code = await asyncio.to_thread(self._disks.image, spec.image, store)
        else:
            code = await asyncio.to_thread(self._disks.package, [spec.code], store)
        if not spec.layers:
            return interpreter, (code, await asyncio.to_thread(self._disks.empty))
        return interpreter, (code, await asyncio.to_thread(self._disks.package, spec.layers, store))

    def _find_directories(self, spec: SandboxSpec) -> list[Path]:
        """Those of this host behind its access points. FileSystemMountFailure. Blocks."""
        found = [self._settings.file_systems.get(arn) for arn, _ in spec.file_systems]
        directories = [path for path in found if path is not None and path.is_dir()]
        if len(directories) < len(found):
            raise mount_failure(os.strerror(errno.ENOENT))
        return directories

    def _size(self, spec: SandboxSpec) -> Size:
        memory = machine_sizes.machine_memory_mib(spec.memory_mib)
        vcpus = machine_sizes.machine_vcpus(
            memory, os.cpu_count() or 1, is_emulated=self._settings.is_emulated
        )
        return Size(memory, vcpus)

    async def _make_first(self, size: Size, drives: tuple[Disk, ...]) -> MachineSandbox:
        """For a template, which has no function that it could be limited by."""
        as_fast_as_can_be = [Drive(disk.path) for disk in drives]
        return await self._make_machine(MachineSandbox, size, drives, as_fast_as_can_be, None)

    async def _make_machine(
        self,
        kind: type[M],
        size: Size,
        disks: tuple[Disk, ...],
        drives: Sequence[Drive],
        egress: NatGateway | None,
    ) -> M:
        """One that has not been started. Its directory, its control groups, its user of the host
        and its network are its own; ``egress`` is the way out of that."""
        identity = uuid.uuid4().hex
        directory = self._homes / identity
        image = self._settings.image
        if self._is_closed:
            raise PlatformError(CLOSED)
        with contextlib.ExitStack() as undo:
            # Not in a thread, which a cancelled caller would leave behind with a new directory.
            directory.mkdir(parents=True, mode=0o700)
            undo.callback(shutil.rmtree, directory)
            cgroup = None
            if self._cgroups is not None:
                cgroup = self._cgroups.create(identity)
                undo.callback(cgroup.remove)
                cgroup.set_limits(machine_sizes.limits_of(size.memory_mib))
            user = None
            if self._has_users:
                user = self._uids.take()
                undo.callback(self._uids.give_back, user)
            network = None
            if self._settings.gateway is not None:
                owner = user if self._settings.opens_taps else None
                network = MachineNetwork(egress=egress, owner=owner)
                undo.callback(network.close)
                await network.open()
            vmm = self._settings.make_vmm(
                VmSpec(
                    kernel=image.vmlinux,  # unpacked: a tenth of an emulated boot
                    initrd=image.initrd,
                    image=image.digest,
                    memory_mib=size.memory_mib,
                    directory=directory,
                    vcpus=size.vcpus,
                    drives=tuple(drives),
                    nic=None if network is None else network.nic,
                    has_balloon=True,
                    has_own_memory=kind is MachineSnapshot,
                    cgroup_files=() if cgroup is None else tuple(cgroup.procs_fds),
                    user=user,
                )
            )
            if self._is_closed:  # meanwhile
                raise PlatformError(CLOSED)
            machine = kind(identity, vmm, directory, cgroup, self._on_stopped)
            undo.pop_all()
        machine.drives, machine.user, machine.network = disks, user, network
        if self._settings.is_emulated:
            machine.cpu_factor = machine_sizes.EMULATION_FACTOR
        self._machines.add(machine)
        return machine

    def _on_stopped(self, machine: MachineSandbox) -> None:
        self._machines.discard(machine)
        if machine.user is not None:
            self._uids.give_back(machine.user)

    async def _expect(self, interpreter: Interpreter) -> None:
        try:
            await asyncio.to_thread(self._runtime_disk, interpreter)
        except PlatformError as error:
            # The first function of the runtime meets the same error, and reports it.
            log.warning("disk not made runtime=%s: %s", interpreter.runtime, error.message)

    def _clear(self) -> None:
        """Directories of machines of processes that are no more, disks of code that is no more,
        and embryos that nobody has wanted for long."""
        self._templates.sweep()
        self._disks.sweep(lambda digest: (self._settings.code_store / digest).is_dir())
        root = self._homes.parent
        self._homes.mkdir(parents=True, exist_ok=True)
        for home in root.iterdir():
            if not _is_alive(home.name):
                shutil.rmtree(home, ignore_errors=True)


def _is_alive(owner: str) -> bool:
    """Whether the process that has this ``owner_name`` is there; another may have its number."""
    try:
        return owner_name(int(owner.partition("-")[0])) == owner
    except (OSError, ValueError):
        return False
