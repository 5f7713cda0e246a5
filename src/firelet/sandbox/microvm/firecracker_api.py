"""Firecracker's API as messages: what it can be asked, and what it answers.

Source: Firecracker's OpenAPI description (``swagger/firecracker.yaml``, version 1.17). Constraints
are the description's own. A request knows its method and its path; ``firecracker_client`` sends
it. Not here: the parts of aarch64, persistent memory, memory that is plugged in, hints of free
pages, vhost-user disks.
``tests/firecracker_openapi.py`` has the description as a table, against which these are checked.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(pattern=r"^\w+$")]
MacAddress = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$")]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Members that are not set are not sent. Constructors do not check: ``encode`` does."""


class Request(Message, frozen=True, kw_only=True):
    """A message with the place where it is sent. Members of the message may stand in the path."""

    method: ClassVar[str] = "PUT"
    path: ClassVar[str]

    @property
    def target(self) -> str:
        return self.path.format(**{name: getattr(self, name) for name in self.__struct_fields__})


# Shared parts.


class TokenBucket(Message, frozen=True, kw_only=True):
    """``size`` tokens (bytes or operations) come back every ``refill_time`` milliseconds."""

    size: Count
    refill_time: Count
    one_time_burst: Count | None = None


class RateLimiter(Message, frozen=True, kw_only=True):
    bandwidth: TokenBucket | None = None
    ops: TokenBucket | None = None


# The machine, before it is started.


class MachineConfiguration(Request, frozen=True, kw_only=True):
    path = "/machine-config"

    vcpu_count: Annotated[int, msgspec.Meta(ge=1, le=32)]
    mem_size_mib: Annotated[int, msgspec.Meta(ge=1)]
    smt: bool = False
    cpu_template: Literal["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"] = "None"
    track_dirty_pages: bool = False
    huge_pages: Literal["None", "Transparent", "2M"] = "None"


class CpuidRegisterModifier(Message, frozen=True, kw_only=True):
    """``bitmap``: ``0b`` and 32 of 0, 1 and x, which leaves the host's bit."""

    register: Literal["eax", "ebx", "ecx", "edx"]
    bitmap: Annotated[str, msgspec.Meta(pattern=r"^0b[01x_]+$")]


class CpuidLeafModifier(Message, frozen=True, kw_only=True):
    leaf: str
    subleaf: str
    flags: int
    modifiers: tuple[CpuidRegisterModifier, ...]


class MsrModifier(Message, frozen=True, kw_only=True):
    addr: str
    bitmap: Annotated[str, msgspec.Meta(pattern=r"^0b[01x_]+$")]


class CpuConfiguration(Request, frozen=True, kw_only=True):
    """What the guest sees of the processor, as changes to the host's."""

    path = "/cpu-config"

    kvm_capabilities: tuple[str, ...] = ()
    cpuid_modifiers: tuple[CpuidLeafModifier, ...] = ()
    msr_modifiers: tuple[MsrModifier, ...] = ()


class BootSource(Request, frozen=True, kw_only=True):
    """Paths are Firecracker's: those of its jail, or relative to its working directory."""

    path = "/boot-source"

    kernel_image_path: str
    initrd_path: str | None = None
    boot_args: str | None = None


class Drive(Request, frozen=True, kw_only=True):
    path = "/drives/{drive_id}"

    drive_id: Name
    is_root_device: bool
    path_on_host: str
    is_read_only: bool | None = None
    partuuid: str | None = None
    cache_type: Literal["Unsafe", "Writeback"] = "Unsafe"
    io_engine: Literal["Sync", "Async"] = "Sync"
    rate_limiter: RateLimiter | None = None


class NetworkInterface(Request, frozen=True, kw_only=True):
    """``host_dev_name`` is a TAP device of the network namespace where Firecracker runs."""

    path = "/network-interfaces/{iface_id}"

    iface_id: Name
    host_dev_name: str
    guest_mac: MacAddress | None = None
    mtu: Annotated[int, msgspec.Meta(ge=68, le=65535)] | None = None
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


class Vsock(Request, frozen=True, kw_only=True):
    """See ``vsock_stream`` for what is spoken at the socket ``uds_path``."""

    path = "/vsock"

    guest_cid: Annotated[int, msgspec.Meta(ge=3)]
    uds_path: str


class EntropyDevice(Request, frozen=True, kw_only=True):
    path = "/entropy"

    rate_limiter: RateLimiter | None = None


class Balloon(Request, frozen=True, kw_only=True):
    """Also what ``GET /balloon`` answers."""

    path = "/balloon"

    amount_mib: Count
    deflate_on_oom: bool
    stats_polling_interval_s: Count = 0
    free_page_hinting: bool = False
    free_page_reporting: bool = False


class MmdsConfiguration(Request, frozen=True, kw_only=True):
    """The metadata service: which interfaces of the guest reach it, and where."""

    path = "/mmds/config"

    network_interfaces: tuple[str, ...]
    version: Literal["V1", "V2"] = "V1"
    ipv4_address: str | None = None
    imds_compat: bool = False


class Logger(Request, frozen=True, kw_only=True):
    path = "/logger"

    log_path: str | None = None
    level: Literal["Error", "Warning", "Info", "Debug", "Trace", "Off"] = "Info"
    show_level: bool = False
    show_log_origin: bool = False
    module: str | None = None


class Metrics(Request, frozen=True, kw_only=True):
    path = "/metrics"

    metrics_path: str


class SerialDevice(Request, frozen=True, kw_only=True):
    """Where the console goes; to the standard output without this."""

    path = "/serial"

    serial_out_path: str | None = None
    rate_limiter: TokenBucket | None = None


# At any time.


class Action(Request, frozen=True, kw_only=True):
    path = "/actions"

    action_type: Literal["InstanceStart", "FlushMetrics", "SendCtrlAltDel"]


# The machine, once it was started.


class VmStateChange(Request, frozen=True, kw_only=True):
    method = "PATCH"
    path = "/vm"

    state: Literal["Paused", "Resumed"]


class DriveUpdate(Request, frozen=True, kw_only=True):
    """Not for a disk that the guest has mounted."""

    method = "PATCH"
    path = "/drives/{drive_id}"

    drive_id: Name
    path_on_host: str | None = None
    rate_limiter: RateLimiter | None = None


class NetworkInterfaceUpdate(Request, frozen=True, kw_only=True):
    method = "PATCH"
    path = "/network-interfaces/{iface_id}"

    iface_id: Name
    rx_rate_limiter: RateLimiter | None = None
    tx_rate_limiter: RateLimiter | None = None


class BalloonUpdate(Request, frozen=True, kw_only=True):
    method = "PATCH"
    path = "/balloon"

    amount_mib: Count


class BalloonStatisticsUpdate(Request, frozen=True, kw_only=True):
    method = "PATCH"
    path = "/balloon/statistics"

    stats_polling_interval_s: Count


# Snapshots.


class SnapshotCreate(Request, frozen=True, kw_only=True):
    """Of a paused machine."""

    path = "/snapshot/create"

    snapshot_path: str
    mem_file_path: str
    snapshot_type: Literal["Full", "Diff"] = "Full"


class MemoryBackend(Message, frozen=True, kw_only=True):
    """``backend_path``: the memory's file, or the socket of a page server (``page_server``)."""

    backend_path: str
    backend_type: Literal["File", "Uffd"]


class NetworkOverride(Message, frozen=True, kw_only=True):
    iface_id: Name
    host_dev_name: str


class VsockOverride(Message, frozen=True, kw_only=True):
    uds_path: str


class SnapshotLoad(Request, frozen=True, kw_only=True):
    """In a process to which nothing was said but where its log and metrics go."""

    path = "/snapshot/load"

    snapshot_path: str
    mem_backend: MemoryBackend
    track_dirty_pages: bool = False
    resume_vm: bool = False
    network_overrides: tuple[NetworkOverride, ...] = ()
    vsock_override: VsockOverride | None = None
    clock_realtime: bool = False


# Answers. Members that are not known are passed over: newer versions say more.


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    pass


class InstanceInfo(Answer, frozen=True, kw_only=True):
    """GET /."""

    app_name: str
    id: str
    state: Literal["Not started", "Running", "Paused"]
    vmm_version: str


class Version(Answer, frozen=True, kw_only=True):
    """GET /version."""

    firecracker_version: str


class BalloonStatistics(Answer, frozen=True, kw_only=True):
    """GET /balloon/statistics: pages of 4 KiB, MiB, and bytes where the name says neither. The
    guest's own figures are None until its driver has told them."""

    target_pages: int
    actual_pages: int
    target_mib: int
    actual_mib: int
    swap_in: int | None = None
    swap_out: int | None = None
    major_faults: int | None = None
    minor_faults: int | None = None
    free_memory: int | None = None
    total_memory: int | None = None
    available_memory: int | None = None
    disk_caches: int | None = None
    hugetlb_allocations: int | None = None
    hugetlb_failures: int | None = None
    oom_kill: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """The body of any refusal."""

    fault_message: str = "no reason given"


def encode(message: Message) -> bytes:
    """The body of a request. msgspec.ValidationError for a value that the description forbids."""
    body = msgspec.json.encode(message)
    msgspec.json.decode(body, type=type(message))
    return body


def encode_metadata(content: dict[str, Any]) -> bytes:
    """The body of PUT and PATCH /mmds: any object."""
    return msgspec.json.encode(content)
