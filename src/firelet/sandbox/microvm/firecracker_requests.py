"""What a machine is in the words of Firecracker's API. Pure.

Every name of a file is relative to the directory where Firecracker starts, which is the root of its
jail or a directory of its own: a snapshot holds the names of its disks and of its socket, and so
it can be restored in any directory that has files of those names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from firelet.guest.vm_port import VSOCK_OPTION
from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm.vmm import Drive, Nic, VmmError, VmSpec

API_SOCKET = "api.socket"
VSOCK = "vsock.socket"
LOG, METRICS = "log", "metrics"
KERNEL, INITRD = "kernel", "initrd"
# Of a snapshot that is restored, and of one that is made.
STATE, MEMORY = "state", "memory"
NEW_STATE, NEW_MEMORY = "new-state", "new-memory"
INTERFACE = "eth0"
# The first that is not reserved (vsock(7)). All machines may have it: none shares its socket.
GUEST_CID = 3
GUEST_PORT = 1024

# The guest's pid 1 ends the machine by a restart, which Firecracker sees at the keyboard's
# controller; the rest spares the kernel the search for keyboards, mice and further serial ports.
KERNEL_OPTIONS = (
    f"{VSOCK_OPTION}{GUEST_PORT} console=ttyS0 quiet panic=-1 reboot=k pci=off ipv6.disable=1"
    " 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd"
)
_SECOND_MS = 1000


def drive_id(index: int) -> str:
    """As the guest names the disk, and as its file is named."""
    return f"vd{chr(ord('a') + index)}"


def device_names(spec: VmSpec) -> tuple[str, ...]:
    """In the order in which the guest has them."""
    names = [drive_id(index) for index in range(len(spec.drives))]
    names += [INTERFACE] if spec.nic is not None else []
    names += ["vsock"]
    names += ["entropy"] if spec.has_entropy else []
    return (*names, *(["balloon"] if spec.has_balloon else []))


def before_start(spec: VmSpec) -> Iterator[api.Request]:
    """Everything that a new machine is told before it is started."""
    yield api.MachineConfiguration(vcpu_count=spec.vcpus, mem_size_mib=spec.memory_mib)
    yield api.BootSource(kernel_image_path=KERNEL, initrd_path=INITRD, boot_args=KERNEL_OPTIONS)
    for index, drive in enumerate(spec.drives):
        name = drive_id(index)
        yield api.Drive(
            drive_id=name,
            path_on_host=name,
            # The root of the guest is its initial file system.
            is_root_device=False,
            is_read_only=True,
            rate_limiter=limiter(drive),
        )
    if spec.nic is not None:
        tap = tap_name(spec.nic)
        yield api.NetworkInterface(iface_id=INTERFACE, host_dev_name=tap, guest_mac=spec.nic.mac)
    yield api.Vsock(guest_cid=GUEST_CID, uds_path=VSOCK)
    if spec.has_entropy:
        yield api.EntropyDevice()
    if spec.has_balloon:
        yield api.Balloon(amount_mib=0, deflate_on_oom=True, free_page_reporting=True)


def load(spec: VmSpec, *, is_served: bool) -> api.SnapshotLoad:
    """Restores a machine, which is paused then. ``is_served``: ``MEMORY`` is a page server's
    socket; else a file, which is mapped privately."""
    overrides: tuple[api.NetworkOverride, ...] = ()
    if spec.nic is not None:
        tap = tap_name(spec.nic)
        overrides = (api.NetworkOverride(iface_id=INTERFACE, host_dev_name=tap),)
    return api.SnapshotLoad(
        snapshot_path=STATE,
        mem_backend=api.MemoryBackend(
            backend_path=MEMORY, backend_type="Uffd" if is_served else "File"
        ),
        network_overrides=overrides,
    )


def after_load(spec: VmSpec, slots: Iterable[int]) -> Iterator[api.Request]:
    """Before a restored machine is resumed: what of its disks is not the snapshot's.

    The files are those of this machine already, by their names. ``slots`` are the disks that the
    guest had not mounted: they are opened anew, which tells the guest. A mounted one must not be
    (Firecracker's ``docs/api_requests/patch-block.md``): only its limits are set.
    """
    for index, drive in enumerate(spec.drives):
        name, limits = drive_id(index), limiter(drive)
        if index in slots:
            yield api.DriveUpdate(drive_id=name, path_on_host=name, rate_limiter=limits)
        elif limits is not None:
            yield api.DriveUpdate(drive_id=name, rate_limiter=limits)


def limiter(drive: Drive) -> api.RateLimiter | None:
    """As much as a second's worth at once; then at that rate."""
    if drive.bytes_per_s is None and drive.operations_per_s is None:
        return None
    return api.RateLimiter(
        bandwidth=_bucket(drive.bytes_per_s), ops=_bucket(drive.operations_per_s)
    )


def _bucket(per_second: int | None) -> api.TokenBucket | None:
    if per_second is None:
        return None
    return api.TokenBucket(size=per_second, refill_time=_SECOND_MS)


def tap_name(nic: Nic) -> str:
    """VmmError for a device that is given as an open file: Firecracker opens it itself."""
    if not isinstance(nic.tap, str):
        raise VmmError("Firecracker takes a TAP device by its name, not as an open file.")
    return nic.tap
