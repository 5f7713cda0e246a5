"""Firecracker's API as messages: what firelet sends, and what it reads of the answers.

Source: Firecracker's OpenAPI description (``swagger/firecracker.yaml``, version 1.17); only members
that firelet uses are here. Constraints are the description's own.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Members that are not set are not sent. Constructors do not check: ``encode`` does."""


class BootSource(Message, frozen=True, kw_only=True):
    """PUT /boot-source. Paths are the host's, or those of the jail."""

    kernel_image_path: str
    initrd_path: str | None = None
    boot_args: str | None = None


class MachineConfiguration(Message, frozen=True, kw_only=True):
    """PUT /machine-config."""

    vcpu_count: Annotated[int, msgspec.Meta(ge=1, le=32)]
    mem_size_mib: Annotated[int, msgspec.Meta(ge=1)]
    smt: bool = False
    track_dirty_pages: bool = False


class Drive(Message, frozen=True, kw_only=True):
    """PUT /drives/{drive_id}; a file as a block device."""

    drive_id: str
    is_root_device: bool
    path_on_host: str
    is_read_only: bool | None = None


class NetworkInterface(Message, frozen=True, kw_only=True):
    """PUT /network-interfaces/{iface_id}; ``host_dev_name`` is a TAP device."""

    iface_id: str
    host_dev_name: str
    guest_mac: str | None = None


class Vsock(Message, frozen=True, kw_only=True):
    """PUT /vsock. A connection to port N of the guest is made through the socket ``uds_path``."""

    guest_cid: Annotated[int, msgspec.Meta(ge=3)]
    uds_path: str


class EntropyDevice(Message, frozen=True, kw_only=True):
    """PUT /entropy."""


class InstanceAction(Message, frozen=True, kw_only=True):
    """PUT /actions."""

    action_type: Literal["InstanceStart", "FlushMetrics", "SendCtrlAltDel"]


class VmStateChange(Message, frozen=True, kw_only=True):
    """PATCH /vm."""

    state: Literal["Paused", "Resumed"]


class SnapshotCreate(Message, frozen=True, kw_only=True):
    """PUT /snapshot/create, of a paused machine."""

    snapshot_path: str
    mem_file_path: str
    snapshot_type: Literal["Full", "Diff"] = "Full"


class MemoryBackend(Message, frozen=True, kw_only=True):
    backend_path: str
    backend_type: Literal["File", "Uffd"]


class NetworkOverride(Message, frozen=True, kw_only=True):
    iface_id: str
    host_dev_name: str


class VsockOverride(Message, frozen=True, kw_only=True):
    uds_path: str


class SnapshotLoad(Message, frozen=True, kw_only=True):
    """PUT /snapshot/load, in a process that has no other configuration."""

    snapshot_path: str
    mem_backend: MemoryBackend
    resume_vm: bool = False
    network_overrides: tuple[NetworkOverride, ...] = ()
    vsock_override: VsockOverride | None = None


class InstanceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """GET /."""

    app_name: str
    id: str
    state: Literal["Not started", "Running", "Paused"]
    vmm_version: str


class Fault(msgspec.Struct, frozen=True):
    """The body of any refusal."""

    fault_message: str = "no reason given"


def encode(message: Message) -> bytes:
    """The body of a request. msgspec.ValidationError for a value that the description forbids."""
    body = msgspec.json.encode(message)
    msgspec.json.decode(body, type=type(message))
    return body
