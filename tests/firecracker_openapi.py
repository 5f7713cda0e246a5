"""Firecracker's OpenAPI description as a table: what a request and an answer must look like.

Facts of ``swagger/firecracker.yaml``, version 1.17, in a form of our own. It is written apart from
``firecracker_api``, which is tested against it, and imports nothing but the standard library: the
fake is also run as a program.

A type is ``str``, ``int``, ``bool``, ``object`` (anything), a name of ``SCHEMAS``, ``Words``,
``Number`` or ``ListOf``.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Words(NamedTuple):
    """One of these."""

    words: tuple[str, ...]


class Number(NamedTuple):
    low: int
    high: int | None = None


class ListOf(NamedTuple):
    kind: Any


class Schema(NamedTuple):
    required: dict[str, Any]
    optional: dict[str, Any]


def _words(text: str) -> Words:
    return Words(tuple(text.split(" ")))


def _schema(required: dict[str, Any] | None = None, **optional: Any) -> Schema:
    return Schema(required or {}, optional)


_STATISTICS = (
    *("swap_in", "swap_out", "major_faults", "minor_faults", "free_memory", "total_memory"),
    *("available_memory", "disk_caches", "hugetlb_allocations", "hugetlb_failures", "oom_kill"),
    *("alloc_stall", "async_scan", "direct_scan", "async_reclaim", "direct_reclaim"),
)
_CPU_TEMPLATES = _words("C3 T2 T2S T2CL T2A V1N1 None")

SCHEMAS: dict[str, Schema] = {
    "Balloon": _schema(
        {"amount_mib": int, "deflate_on_oom": bool},
        stats_polling_interval_s=int,
        free_page_hinting=bool,
        free_page_reporting=bool,
    ),
    "BalloonUpdate": _schema({"amount_mib": int}),
    "BalloonStatsUpdate": _schema({"stats_polling_interval_s": int}),
    "BalloonStats": _schema(
        dict.fromkeys(("target_pages", "actual_pages", "target_mib", "actual_mib"), int),
        **dict.fromkeys(_STATISTICS, int),
    ),
    "BootSource": _schema({"kernel_image_path": str}, boot_args=str, initrd_path=str),
    "CpuConfig": _schema(
        kvm_capabilities=ListOf(str),
        cpuid_modifiers=ListOf("CpuidLeafModifier"),
        msr_modifiers=ListOf("MsrModifier"),
        reg_modifiers=ListOf(object),
        vcpu_features=ListOf(object),
    ),
    "CpuidLeafModifier": _schema(
        {"leaf": str, "subleaf": str, "flags": int, "modifiers": ListOf("CpuidRegisterModifier")}
    ),
    "CpuidRegisterModifier": _schema({"register": _words("eax ebx ecx edx"), "bitmap": str}),
    "MsrModifier": _schema({"addr": str, "bitmap": str}),
    "Drive": _schema(
        {"drive_id": str, "is_root_device": bool},
        partuuid=str,
        cache_type=_words("Unsafe Writeback"),
        is_read_only=bool,
        path_on_host=str,
        rate_limiter="RateLimiter",
        io_engine=_words("Sync Async"),
        socket=str,
    ),
    "PartialDrive": _schema({"drive_id": str}, path_on_host=str, rate_limiter="RateLimiter"),
    "EntropyDevice": _schema(rate_limiter="RateLimiter"),
    "FirecrackerVersion": _schema({"firecracker_version": str}),
    "InstanceActionInfo": _schema(
        {"action_type": _words("FlushMetrics InstanceStart SendCtrlAltDel")}
    ),
    "InstanceInfo": _schema(
        {
            "app_name": str,
            "id": str,
            "state": Words(("Not started", "Running", "Paused")),
            "vmm_version": str,
        }
    ),
    "Logger": _schema(
        level=_words("Error Warning Info Debug Trace Off"),
        log_path=str,
        show_level=bool,
        show_log_origin=bool,
        module=str,
    ),
    "MachineConfiguration": _schema(
        {"mem_size_mib": int, "vcpu_count": Number(1, 32)},
        cpu_template=_CPU_TEMPLATES,
        smt=bool,
        track_dirty_pages=bool,
        huge_pages=_words("None Transparent 2M"),
    ),
    "MemoryBackend": _schema({"backend_type": _words("File Uffd"), "backend_path": str}),
    "Metrics": _schema({"metrics_path": str}),
    "MmdsConfig": _schema(
        {"network_interfaces": ListOf(str)},
        version=_words("V1 V2"),
        ipv4_address=str,
        imds_compat=bool,
    ),
    "NetworkInterface": _schema(
        {"host_dev_name": str, "iface_id": str},
        guest_mac=str,
        mtu=Number(68, 65535),
        rx_rate_limiter="RateLimiter",
        tx_rate_limiter="RateLimiter",
    ),
    "PartialNetworkInterface": _schema(
        {"iface_id": str}, rx_rate_limiter="RateLimiter", tx_rate_limiter="RateLimiter"
    ),
    "NetworkOverride": _schema({"iface_id": str, "host_dev_name": str}),
    "RateLimiter": _schema(bandwidth="TokenBucket", ops="TokenBucket"),
    "SerialDevice": _schema(serial_out_path=str, rate_limiter="TokenBucket"),
    "SnapshotCreateParams": _schema(
        {"mem_file_path": str, "snapshot_path": str}, snapshot_type=_words("Full Diff")
    ),
    "SnapshotLoadParams": _schema(
        {"snapshot_path": str},
        enable_diff_snapshots=bool,
        track_dirty_pages=bool,
        mem_file_path=str,
        mem_backend="MemoryBackend",
        resume_vm=bool,
        network_overrides=ListOf("NetworkOverride"),
        vsock_override="VsockOverride",
        clock_realtime=bool,
    ),
    "TokenBucket": _schema({"refill_time": Number(0), "size": Number(0)}, one_time_burst=Number(0)),
    "Vm": _schema({"state": _words("Paused Resumed")}),
    "Vsock": _schema({"guest_cid": Number(3), "uds_path": str}, vsock_id=str),
    "VsockOverride": _schema({"uds_path": str}),
}


class Operation(NamedTuple):
    """``when``: ``new`` before the machine is started, ``started`` after that, ``paused``,
    ``any``. ``is_boot``: after it no snapshot may be loaded."""

    method: str
    path: str
    body: str | None
    when: str
    is_boot: bool = False


OPERATIONS = (
    Operation("GET", r"/", None, "any"),
    Operation("GET", r"/version", None, "any"),
    Operation("GET", r"/machine-config", None, "any"),
    Operation("GET", r"/mmds", None, "any"),
    Operation("GET", r"/balloon", None, "any"),
    Operation("GET", r"/balloon/statistics", None, "started"),
    Operation("PUT", r"/actions", "InstanceActionInfo", "any"),
    Operation("PUT", r"/balloon", "Balloon", "new", True),
    Operation("PATCH", r"/balloon", "BalloonUpdate", "started"),
    Operation("PATCH", r"/balloon/statistics", "BalloonStatsUpdate", "started"),
    Operation("PUT", r"/boot-source", "BootSource", "new", True),
    Operation("PUT", r"/cpu-config", "CpuConfig", "new"),
    Operation("PUT", r"/drives/(?P<drive_id>\w+)", "Drive", "new", True),
    Operation("PATCH", r"/drives/(?P<drive_id>\w+)", "PartialDrive", "started"),
    Operation("PUT", r"/entropy", "EntropyDevice", "new", True),
    Operation("PUT", r"/logger", "Logger", "new"),
    Operation("PUT", r"/machine-config", "MachineConfiguration", "new", True),
    Operation("PUT", r"/metrics", "Metrics", "new"),
    Operation("PUT", r"/mmds/config", "MmdsConfig", "new", True),
    Operation("PUT", r"/mmds", "Any", "any"),
    Operation("PATCH", r"/mmds", "Any", "any"),
    Operation("PUT", r"/network-interfaces/(?P<iface_id>\w+)", "NetworkInterface", "new", True),
    Operation(
        "PATCH", r"/network-interfaces/(?P<iface_id>\w+)", "PartialNetworkInterface", "started"
    ),
    Operation("PUT", r"/serial", "SerialDevice", "new"),
    Operation("PUT", r"/snapshot/create", "SnapshotCreateParams", "paused"),
    Operation("PUT", r"/snapshot/load", "SnapshotLoadParams", "new"),
    Operation("PATCH", r"/vm", "Vm", "started"),
    Operation("PUT", r"/vsock", "Vsock", "new", True),
)

ACTIONS_WHEN = {"InstanceStart": "new", "FlushMetrics": "started", "SendCtrlAltDel": "started"}


def fault_of(name: str, value: Any) -> str | None:
    """What is wrong with ``value`` as that schema; None if nothing is."""
    if name == "Any":
        return None if isinstance(value, dict) else "not an object"
    if not isinstance(value, dict):
        return f"not an object of {name}"
    schema = SCHEMAS[name]
    members = {**schema.required, **schema.optional}
    for member in schema.required:
        if member not in value:
            return f"missing field `{member}`"
    for member, part in value.items():
        if member not in members:
            return f"unknown field `{member}`"
        fault = _fault_of_part(members[member], part)
        if fault:
            return f"{member}: {fault}"
    return None


def _fault_of_part(kind: Any, value: Any) -> str | None:
    if isinstance(kind, str):
        return fault_of(kind, value)
    if isinstance(kind, Words):
        return None if value in kind.words else f"unknown variant `{value}`"
    if isinstance(kind, Number):
        is_fitting = type(value) is int and value >= kind.low
        is_fitting = is_fitting and (kind.high is None or value <= kind.high)
        return None if is_fitting else f"not a number of {kind.low} to {kind.high or 'any'}"
    if isinstance(kind, ListOf):
        if not isinstance(value, list):
            return "not a list"
        return next(filter(None, (_fault_of_part(kind.kind, part) for part in value)), None)
    if kind is object or type(value) is kind:
        return None
    return f"not of type {kind.__name__}"
