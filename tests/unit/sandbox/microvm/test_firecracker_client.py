"""Firecracker's API: what is sent, against a server that checks it by the public description."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fake_firecracker import Behaviour, FakeFirecracker
from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm import vsock_stream
from firelet.sandbox.microvm.firecracker_client import FirecrackerClient
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent

MACHINE = api.MachineConfiguration(vcpu_count=2, mem_size_mib=8)
BOOT = api.BootSource(kernel_image_path="kernel", initrd_path="initrd", boot_args="quiet")
DISK = api.Drive(drive_id="vda", is_root_device=False, path_on_host="vda", is_read_only=True)
INTERFACE = api.NetworkInterface(
    iface_id="eth0", host_dev_name="tap0", guest_mac="06:00:00:00:00:01"
)
BALLOON = api.Balloon(amount_mib=0, deflate_on_oom=True, stats_polling_interval_s=1)
VSOCK = api.Vsock(guest_cid=3, uds_path="vsock")
START = api.Action(action_type="InstanceStart")
FILE = api.MemoryBackend(backend_path="memory", backend_type="File")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[FakeFirecracker]:
    for name in ("kernel", "initrd", "vda", "other", "log", "metrics"):
        (tmp_path / name).touch()
    fake = FakeFirecracker(str(tmp_path / "api"))
    await fake.open()
    yield fake
    await fake.close()


@pytest.fixture
async def client(server: FakeFirecracker, tmp_path: Path) -> AsyncIterator[FirecrackerClient]:
    async with FirecrackerClient(str(tmp_path / "api")) as client:
        yield client


async def start(client: FirecrackerClient, *more: api.Request) -> None:
    for request in (MACHINE, BOOT, *more, START):
        await client.send(request)


async def test_a_machine_is_configured_started_and_put_to_rest(
    server: FakeFirecracker, client: FirecrackerClient
) -> None:
    assert (await client.describe()).state == "Not started"
    await client.send(api.Logger(log_path="log", level="Warning"))
    await client.send(api.Metrics(metrics_path="metrics"))
    await client.send(api.CpuConfiguration(kvm_capabilities=("!56",)))
    await client.send(api.SerialDevice(serial_out_path="serial"))
    network = api.MmdsConfiguration(network_interfaces=("eth0",), version="V2")
    await start(client, DISK, INTERFACE, VSOCK, api.EntropyDevice(), BALLOON, network)
    assert (await client.describe()).state == "Running"
    assert await client.version() == "1.17.0"
    assert await client.machine() == MACHINE
    await client.send(api.VmStateChange(state="Paused"))
    await client.send(api.SnapshotCreate(snapshot_path="state", mem_file_path="memory"))
    await client.send(api.VmStateChange(state="Resumed"))
    assert (await client.describe()).state == "Running"
    sent = [f"{method} {path}" for method, path, _ in server.requests]
    assert sent[4:6] == ["PUT /machine-config", "PUT /boot-source"]
    assert sent[-4:] == ["PUT /actions", "PATCH /vm", "PUT /snapshot/create", "PATCH /vm"]


async def test_a_running_machine_can_be_changed(
    server: FakeFirecracker, client: FirecrackerClient
) -> None:
    await start(client, DISK, INTERFACE, BALLOON)
    slow = api.RateLimiter(bandwidth=api.TokenBucket(size=1000, refill_time=1000))
    await client.send(api.DriveUpdate(drive_id="vda", path_on_host="other", rate_limiter=slow))
    await client.send(api.NetworkInterfaceUpdate(iface_id="eth0", tx_rate_limiter=slow))
    await client.send(api.BalloonUpdate(amount_mib=4))
    await client.send(api.BalloonStatisticsUpdate(stats_polling_interval_s=5))
    await client.send(api.Action(action_type="SendCtrlAltDel"))
    assert (await client.balloon()).amount_mib == 4
    statistics = await client.balloon_statistics()
    assert (statistics.target_mib, statistics.free_memory, statistics.swap_in) == (4, 1 << 20, None)
    limit = {"bandwidth": {"size": 1000, "refill_time": 1000}}
    assert server.parts["/drives/vda"]["path_on_host"] == "other"
    assert server.parts["/drives/vda"]["rate_limiter"] == limit
    assert server.parts["/network-interfaces/eth0"]["tx_rate_limiter"] == limit


async def test_the_metadata_service_has_what_it_is_given(client: FirecrackerClient) -> None:
    await client.set_metadata({"a": 1, "b": {"c": "d"}})
    await client.change_metadata({"a": None, "e": [1]})
    assert await client.metadata() == {"b": {"c": "d"}, "e": [1]}


async def test_a_snapshot_is_loaded_with_another_tap_device(
    tmp_path: Path, server: FakeFirecracker, client: FirecrackerClient
) -> None:
    await start(client, DISK, INTERFACE, VSOCK)
    await client.send(api.VmStateChange(state="Paused"))
    await client.send(api.SnapshotCreate(snapshot_path="state", mem_file_path="memory"))
    (tmp_path / "vsock").unlink()
    clone = FakeFirecracker(str(tmp_path / "clone"))
    await clone.open()
    async with FirecrackerClient(str(tmp_path / "clone")) as api_of_clone:
        await api_of_clone.send(
            api.SnapshotLoad(
                snapshot_path="state",
                mem_backend=FILE,
                network_overrides=(api.NetworkOverride(iface_id="eth0", host_dev_name="tap7"),),
            )
        )
        assert (await api_of_clone.describe()).state == "Paused"
    assert clone.parts["/network-interfaces/eth0"]["host_dev_name"] == "tap7"
    await clone.close()


@pytest.mark.parametrize(
    ("before", "request_", "reason"),
    [
        ((), api.VmStateChange(state="Paused"), "before starting"),
        ((), api.DriveUpdate(drive_id="vda", path_on_host="vda"), "before starting"),
        ((), api.Action(action_type="FlushMetrics"), "before starting"),
        ((), START, "boot source is missing"),
        ((MACHINE, BOOT, START), VSOCK, "after starting"),
        ((MACHINE, BOOT, START), api.Logger(log_path="log"), "after starting"),
        ((MACHINE, BOOT, START), START, "after starting"),
        (
            (MACHINE, BOOT, START),
            api.SnapshotCreate(snapshot_path="s", mem_file_path="m"),
            "not paused",
        ),
        ((MACHINE,), api.SnapshotLoad(snapshot_path="s", mem_backend=FILE), "not allowed"),
        ((), api.Drive(drive_id="x", is_root_device=False, path_on_host="no"), "Unable to open"),
    ],
)
async def test_a_refusal_has_firecrackers_reason(
    client: FirecrackerClient,
    before: tuple[api.Request, ...],
    request_: api.Request,
    reason: str,
) -> None:
    for request in before:
        await client.send(request)
    with pytest.raises(VmmRefused, match=reason) as refused:
        await client.send(request_)
    assert refused.value.kind == "HTTP 400"


async def test_requests_wait_for_each_other(client: FirecrackerClient) -> None:
    answers = await asyncio.gather(*(client.describe() for _ in range(5)))
    assert [answer.state for answer in answers] == ["Not started"] * 5


async def test_nobody_at_the_socket_is_told(tmp_path: Path) -> None:
    async with FirecrackerClient(str(tmp_path / "nobody")) as client:
        with pytest.raises(VmmEnded):
            await client.describe()


async def test_a_server_that_goes_away_is_told(tmp_path: Path) -> None:
    async def vanish(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_unix_server(vanish, str(tmp_path / "api"))
    async with FirecrackerClient(str(tmp_path / "api")) as client:
        with pytest.raises(VmmEnded, match="cannot be reached"):
            await client.send(MACHINE)
    server.close()
    await server.wait_closed()


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


# vsock.


async def test_a_stream_reaches_the_port_of_the_guest(
    tmp_path: Path, client: FirecrackerClient
) -> None:
    await start(client, VSOCK)
    stream = await vsock_stream.connect(str(tmp_path / "vsock"), 1024)
    loop = asyncio.get_running_loop()
    with stream:
        assert await loop.sock_recv(stream, 100) == b"port 1024\n"
        await loop.sock_sendall(stream, b"hello")
        assert await loop.sock_recv(stream, 100) == b"hello"


async def test_a_paused_guest_takes_the_stream_when_it_is_resumed(
    tmp_path: Path, client: FirecrackerClient
) -> None:
    await start(client, VSOCK)
    await client.send(api.VmStateChange(state="Paused"))
    connecting = asyncio.create_task(vsock_stream.connect(str(tmp_path / "vsock"), 1024))
    await client.describe()
    assert not connecting.done()
    await client.send(api.VmStateChange(state="Resumed"))
    (await connecting).close()


async def test_where_nobody_listens_the_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    (tmp_path / "initrd").touch()
    fake = FakeFirecracker(str(tmp_path / "api"), behaviour=Behaviour(deaf=-1))
    await fake.open()
    async with FirecrackerClient(str(tmp_path / "api")) as client:
        await start(client, VSOCK)
    with pytest.raises(vsock_stream.VsockRefused, match="nobody listens"):
        await vsock_stream.connect(str(tmp_path / "vsock"), 1024)
    await fake.close()


@pytest.mark.parametrize("answer", [b"NO 1\n", b"OK\n", b"OK x\n", b"OK " + b"1" * 40])
async def test_an_answer_that_is_none_is_refused(tmp_path: Path, answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"CONNECT 5\n"
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "vsock"))
    with pytest.raises(vsock_stream.VsockRefused, match="answer"):
        await vsock_stream.connect(str(tmp_path / "vsock"), 5)
    server.close()
    await server.wait_closed()


async def test_the_guest_calls_the_host_at_a_socket_for_each_port(
    tmp_path: Path, server: FakeFirecracker, client: FirecrackerClient
) -> None:
    await start(client, VSOCK)
    with pytest.raises(FileNotFoundError):
        await server.call_host(52)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the host\n")
        writer.close()

    listener = await asyncio.start_unix_server(greet, str(tmp_path / "vsock_52"))
    reader, writer = await server.call_host(52)
    assert await reader.readline() == b"the host\n"
    writer.close()
    listener.close()
    await listener.wait_closed()
