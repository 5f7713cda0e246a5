"""Firecracker's messages against its OpenAPI description, which the tests have as a table."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest

from firecracker_openapi import OPERATIONS, SCHEMAS, Number, Words, fault_of
from firelet.sandbox.microvm import firecracker_api as api

LEFT_OUT = {
    "CpuConfig": {"reg_modifiers", "vcpu_features"},  # of aarch64
    "Drive": {"socket"},  # vhost-user
    "SnapshotLoadParams": {"enable_diff_snapshots", "mem_file_path"},  # deprecated
    "Vsock": {"vsock_id"},  # deprecated
    "BalloonStats": {
        *("alloc_stall", "async_scan", "direct_scan", "async_reclaim", "direct_reclaim")
    },
}
# What Firecracker itself needs of a disk that is a file, though its description leaves it open.
ALWAYS_THERE = {"Drive": {"path_on_host"}, "SnapshotLoadParams": {"mem_backend"}}
KINDS: dict[type, str] = {
    api.TokenBucket: "TokenBucket",
    api.RateLimiter: "RateLimiter",
    api.MachineConfiguration: "MachineConfiguration",
    api.CpuConfiguration: "CpuConfig",
    api.CpuidLeafModifier: "CpuidLeafModifier",
    api.CpuidRegisterModifier: "CpuidRegisterModifier",
    api.MsrModifier: "MsrModifier",
    api.BootSource: "BootSource",
    api.Drive: "Drive",
    api.DriveUpdate: "PartialDrive",
    api.NetworkInterface: "NetworkInterface",
    api.NetworkInterfaceUpdate: "PartialNetworkInterface",
    api.Vsock: "Vsock",
    api.EntropyDevice: "EntropyDevice",
    api.Balloon: "Balloon",
    api.BalloonUpdate: "BalloonUpdate",
    api.BalloonStatisticsUpdate: "BalloonStatsUpdate",
    api.BalloonStatistics: "BalloonStats",
    api.MmdsConfiguration: "MmdsConfig",
    api.Logger: "Logger",
    api.Metrics: "Metrics",
    api.SerialDevice: "SerialDevice",
    api.Action: "InstanceActionInfo",
    api.VmStateChange: "Vm",
    api.SnapshotCreate: "SnapshotCreateParams",
    api.SnapshotLoad: "SnapshotLoadParams",
    api.MemoryBackend: "MemoryBackend",
    api.NetworkOverride: "NetworkOverride",
    api.VsockOverride: "VsockOverride",
    api.InstanceInfo: "InstanceInfo",
    api.Version: "FirecrackerVersion",
}


def _every_message() -> set[type]:
    kinds = {api.Request, api.Message, api.Answer}
    found = set()
    for thing in vars(api).values():
        if isinstance(thing, type) and issubclass(thing, api.Message | api.Answer):
            found.add(thing)
    return found - kinds


def test_every_message_has_its_schema() -> None:
    assert _every_message() == set(KINDS)


@pytest.mark.parametrize(("kind", "name"), KINDS.items(), ids=lambda part: str(part))
def test_a_message_has_the_members_of_its_schema(kind: type, name: str) -> None:
    schema = SCHEMAS[name]
    members = {**schema.required, **schema.optional}
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    assert set(fields) == set(members) - LEFT_OUT.get(name, set())
    required = {name for name, field in fields.items() if field.required}
    assert required == set(schema.required) | ALWAYS_THERE.get(name, set())
    for member, field in fields.items():
        _assert_same_type(members[member], field.type)


def _assert_same_type(wanted: Any, annotation: Any) -> None:
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if isinstance(wanted, Words):
        assert get_origin(annotation) is Literal
        assert set(get_args(annotation)) == set(wanted.words)
    elif isinstance(wanted, str):
        assert KINDS[kinds[0]] == wanted
    elif wanted in (str, int, bool):
        inner = get_args(kinds[0])[0] if get_origin(kinds[0]) is not None else kinds[0]
        inner = getattr(inner, "__origin__", inner)
        assert inner is wanted or (wanted is int and inner is int)
    elif isinstance(wanted, Number):
        assert kinds  # their bounds are tried below


def test_every_request_goes_where_the_description_has_it() -> None:
    known = {(operation.method, operation.body, operation.path) for operation in OPERATIONS}
    for kind, name in KINDS.items():
        if issubclass(kind, api.Request):
            path = re.sub(r"\{(\w+)\}", r"(?P<\1>\\w+)", kind.path)
            assert (kind.method, name, path) in known


@pytest.mark.parametrize(
    "message",
    [
        api.MachineConfiguration(vcpu_count=33, mem_size_mib=256),
        api.MachineConfiguration(vcpu_count=0, mem_size_mib=256),
        api.MachineConfiguration(vcpu_count=1, mem_size_mib=0),
        api.Vsock(guest_cid=2, uds_path="/vsock"),
        api.Action(action_type="Explode"),  # type: ignore[arg-type]
        api.Drive(drive_id="../vda", is_root_device=False, path_on_host="vda"),
        api.NetworkInterface(iface_id="eth0", host_dev_name="tap0", guest_mac="no address"),
        api.NetworkInterface(iface_id="eth0", host_dev_name="tap0", mtu=67),
        api.TokenBucket(size=-1, refill_time=100),
        api.Balloon(amount_mib=-1, deflate_on_oom=True),
    ],
)
def test_what_the_description_forbids_is_not_sent(message: api.Message) -> None:
    with pytest.raises(msgspec.ValidationError):
        api.encode(message)


def test_what_was_not_set_is_not_sent() -> None:
    body = msgspec.json.decode(api.encode(api.MachineConfiguration(vcpu_count=1, mem_size_mib=64)))
    assert body == {"vcpu_count": 1, "mem_size_mib": 64}
    assert fault_of("MachineConfiguration", body) is None


def test_the_table_refuses_what_it_does_not_know() -> None:
    body = {"vcpu_count": 1, "mem_size_mib": 64, "ht_enabled": True}
    assert fault_of("MachineConfiguration", body) == "unknown field `ht_enabled`"
    assert fault_of("MachineConfiguration", {"vcpu_count": 1}) == "missing field `mem_size_mib`"
    assert fault_of("MachineConfiguration", {"vcpu_count": True, "mem_size_mib": 1}) is not None
    limiter = {"bandwidth": {"size": 1, "refill_time": "1"}}
    assert fault_of("EntropyDevice", {"rate_limiter": limiter}) is not None
