"""What a Firecracker does before a machine is started: the fake one and a real one alike.

Neither KVM nor root is needed for this much. A subclass has the fixture ``program``.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm.firecracker_client import FirecrackerClient
from firelet.sandbox.microvm.firecracker_identity import program_version
from firelet.sandbox.microvm.firecracker_process import FirecrackerProcess
from firelet.sandbox.microvm.vmm import VmmRefused

MACHINE = api.MachineConfiguration(vcpu_count=2, mem_size_mib=256)
BALLOON = api.Balloon(amount_mib=1, deflate_on_oom=True, stats_polling_interval_s=1)
DISK = api.Drive(drive_id="vda", is_root_device=False, path_on_host="vda", is_read_only=True)
LOAD = api.SnapshotLoad(
    snapshot_path="vda",
    mem_backend=api.MemoryBackend(backend_path="vda", backend_type="File"),
)


class FirecrackerContract:
    @pytest.fixture
    async def process(self, program: Path, tmp_path: Path) -> AsyncIterator[FirecrackerProcess]:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is missing")
        (tmp_path / "disk").write_bytes(bytes(4096))
        process = FirecrackerProcess(
            tmp_path, program=program, policy=None, jailer_program="", cgroup_files=()
        )
        try:
            await process.start({"vda": tmp_path / "disk"})
            yield process
        finally:
            await process.close()
        assert not (tmp_path / "vmm").exists()

    @pytest.fixture
    def client(self, process: FirecrackerProcess) -> FirecrackerClient:
        return process.client

    async def test_it_says_who_it_is(self, client: FirecrackerClient, program: Path) -> None:
        info = await client.describe()
        assert (info.app_name, info.state) == ("Firecracker", "Not started")
        version = await client.version()
        assert version == info.vmm_version == program_version(program)

    async def test_a_machine_begins_small_and_is_what_it_was_made(
        self, client: FirecrackerClient
    ) -> None:
        machine = await client.machine()
        assert (machine.vcpu_count, machine.mem_size_mib) == (1, 128)
        await client.send(MACHINE)
        machine = await client.machine()
        assert (machine.vcpu_count, machine.mem_size_mib) == (2, 256)

    async def test_everything_can_be_set(
        self, client: FirecrackerClient, process: FirecrackerProcess
    ) -> None:
        slow = api.RateLimiter(ops=api.TokenBucket(size=10, refill_time=1000))
        for request in (
            api.Logger(log_path="log", level="Debug"),
            api.Metrics(metrics_path="metrics"),
            MACHINE,
            api.BootSource(kernel_image_path="vda", initrd_path="vda", boot_args="quiet"),
            DISK,
            api.Drive(
                drive_id="vdb",
                is_root_device=False,
                path_on_host="vda",
                is_read_only=True,
                rate_limiter=slow,
            ),
            api.Vsock(guest_cid=3, uds_path="vsock.socket"),
            api.EntropyDevice(),
            BALLOON,
        ):
            await client.send(request)
        assert (await client.balloon()).amount_mib == 1

    @pytest.mark.parametrize(
        "request_",
        [
            api.VmStateChange(state="Paused"),
            api.VmStateChange(state="Resumed"),
            api.Action(action_type="FlushMetrics"),
            api.SnapshotCreate(snapshot_path="s", mem_file_path="m"),
            api.DriveUpdate(drive_id="vda", path_on_host="vda"),
            api.BalloonUpdate(amount_mib=1),
        ],
        ids=lambda request: request.target,
    )
    async def test_what_needs_a_machine_is_refused_before_there_is_one(
        self, client: FirecrackerClient, request_: api.Request
    ) -> None:
        with pytest.raises(VmmRefused, match="not supported before starting"):
            await client.send(request_)

    @pytest.mark.parametrize(
        "request_",
        [
            api.BootSource(kernel_image_path="missing"),
            api.Drive(drive_id="x", is_root_device=False, path_on_host="no", is_read_only=True),
            api.Action(action_type="InstanceStart"),
        ],
        ids=lambda request: request.target,
    )
    async def test_what_is_missing_is_told(
        self, client: FirecrackerClient, request_: api.Request
    ) -> None:
        with pytest.raises(VmmRefused) as refused:
            await client.send(request_)
        assert refused.value.kind == "HTTP 400"
        assert (await client.describe()).state == "Not started"

    async def test_a_snapshot_is_loaded_into_a_process_that_was_told_nothing(
        self, client: FirecrackerClient
    ) -> None:
        await client.send(MACHINE)
        with pytest.raises(VmmRefused, match="not allowed"):
            await client.send(LOAD)

    async def test_metrics_go_to_one_place(self, client: FirecrackerClient) -> None:
        await client.send(api.Metrics(metrics_path="metrics"))
        with pytest.raises(VmmRefused, match="already"):
            await client.send(api.Metrics(metrics_path="metrics"))

    async def test_metadata_is_made_before_it_is_changed(self, client: FirecrackerClient) -> None:
        with pytest.raises(VmmRefused, match="not initialized"):
            await client.change_metadata({"a": 2})
        await client.set_metadata({"a": 1, "b": {"c": "d"}})
        await client.change_metadata({"a": None})
        assert await client.metadata() == {"b": {"c": "d"}}

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("PUT", "/machine-config", b'{"vcpu_count":1,"mem_size_mib":128,"unknown":1}'),
            ("PUT", "/machine-config", b'{"vcpu_count":1}'),
            ("PUT", "/machine-config", b'{"vcpu_count":1,"mem_size_mib":"128"}'),
            ("PUT", "/drives/vda", b'{"drive_id":"vdb","is_root_device":false}'),
            ("PUT", "/actions", b'{"action_type":"Explode"}'),
            ("PUT", "/vsock", b"no json"),
            ("PUT", "/nowhere", b"{}"),
            ("PATCH", "/vsock", b'{"guest_cid":3,"uds_path":"v"}'),
        ],
    )
    async def test_what_the_description_does_not_have_is_refused(
        self, client: FirecrackerClient, method: str, path: str, body: bytes
    ) -> None:
        with pytest.raises(VmmRefused) as refused:
            await client._ask(method, path, body, 5.0)
        assert refused.value.kind == "HTTP 400"
