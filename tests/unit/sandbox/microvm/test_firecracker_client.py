"""Firecracker's API: what is sent, against a server that checks it by the public description."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fake_firecracker import FakeFirecracker
from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm.firecracker_client import FirecrackerClient
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FakeFirecracker]:
    fake = FakeFirecracker(str(tmp_path / "api"))
    await fake.open()
    yield fake
    await fake.close()


@pytest.fixture
async def client(server: FakeFirecracker, tmp_path: Path) -> AsyncIterator[FirecrackerClient]:
    async with FirecrackerClient(str(tmp_path / "api")) as client:
        yield client


async def test_a_machine_is_configured_started_and_put_to_rest(
    server: FakeFirecracker, client: FirecrackerClient
) -> None:
    boot = api.BootSource(kernel_image_path="/kernel", initrd_path="/initrd", boot_args="quiet")
    await client.set_boot_source(boot)
    await client.set_machine(api.MachineConfiguration(vcpu_count=2, mem_size_mib=256))
    await client.add_drive(
        api.Drive(drive_id="root", is_root_device=True, path_on_host="/root", is_read_only=True)
    )
    await client.add_network_interface(
        api.NetworkInterface(iface_id="eth0", host_dev_name="tap0", guest_mac="06:00:00:00:00:01")
    )
    await client.set_vsock(api.Vsock(guest_cid=3, uds_path="/vsock"))
    await client.add_entropy()
    assert (await client.describe()).state == "Not started"
    await client.start()
    assert (await client.describe()).state == "Running"
    await client.pause()
    await client.create_snapshot(
        api.SnapshotCreate(snapshot_path="/state", mem_file_path="/memory")
    )
    await client.resume()
    assert (await client.describe()).state == "Running"
    assert [f"{method} {path}" for method, path, _ in server.requests] == [
        "PUT /boot-source",
        "PUT /machine-config",
        "PUT /drives/root",
        "PUT /network-interfaces/eth0",
        "PUT /vsock",
        "PUT /entropy",
        "PUT /actions",
        "PATCH /vm",
        "PUT /snapshot/create",
        "PATCH /vm",
    ]
    # What was not said is not sent.
    assert server.requests[1][2] == {"vcpu_count": 2, "mem_size_mib": 256}


async def test_a_snapshot_is_loaded_with_its_own_network_and_vsock(
    server: FakeFirecracker, client: FirecrackerClient
) -> None:
    await client.load_snapshot(
        api.SnapshotLoad(
            snapshot_path="/state",
            mem_backend=api.MemoryBackend(backend_path="/memory", backend_type="File"),
            network_overrides=(api.NetworkOverride(iface_id="eth0", host_dev_name="tap7"),),
            vsock_override=api.VsockOverride(uds_path="/vsock-7"),
        )
    )
    assert (await client.describe()).state == "Paused"
    ((_, _, body),) = server.requests
    assert body["network_overrides"] == [{"iface_id": "eth0", "host_dev_name": "tap7"}]


async def test_a_refusal_has_firecrackers_reason(client: FirecrackerClient) -> None:
    with pytest.raises(VmmRefused, match="not supported in the state Not started") as refused:
        await client.pause()
    assert refused.value.kind == "HTTP 400"


@pytest.mark.parametrize(
    "message",
    [
        api.MachineConfiguration(vcpu_count=33, mem_size_mib=256),
        api.MachineConfiguration(vcpu_count=1, mem_size_mib=0),
        api.Vsock(guest_cid=2, uds_path="/vsock"),
        api.InstanceAction(action_type="Explode"),  # type: ignore[arg-type]
    ],
)
def test_what_the_description_forbids_is_not_sent(message: api.Message) -> None:
    with pytest.raises(msgspec.ValidationError):
        api.encode(message)


async def test_nobody_at_the_socket_is_told(tmp_path: Path) -> None:
    async with FirecrackerClient(str(tmp_path / "nobody")) as client:
        with pytest.raises(VmmEnded):
            await client.describe()


async def test_silence_has_an_end(tmp_path: Path) -> None:
    done = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_unix_server(hold, str(tmp_path / "api"))
    async with FirecrackerClient(str(tmp_path / "api"), timeout_s=0.02) as client:
        with pytest.raises(VmmSilent, match=r"0\.02 s"):
            await client.describe()
    done.set()
    server.close()
    await server.wait_closed()


def test_a_path_that_is_too_long_for_a_socket_is_refused() -> None:
    with pytest.raises(ValueError, match="107 bytes"):
        FirecrackerClient("/" + "x" * 107)
