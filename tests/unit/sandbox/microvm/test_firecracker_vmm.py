"""A machine of Firecracker's, without a jail, run by a program that takes its API."""

from __future__ import annotations

import asyncio
import json
import os
import select
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fake_firecracker import Behaviour, write_program
from firelet.guest import vm_port
from firelet.sandbox.microvm.firecracker_identity import identify, program_version
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.jailer import JailPolicy
from firelet.sandbox.microvm.vm_snapshot import SnapshotForeign, load_snapshot
from firelet.sandbox.microvm.vmm import (
    Drive,
    Nic,
    VmmEnded,
    VmmError,
    VmmMissing,
    VmmRefused,
    VmmSilent,
    VmSnapshot,
    VmSpec,
    VmState,
    WrongState,
)

pytestmark = [
    pytest.mark.usefixtures("nothing_leaks"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is missing"),
]

Make = Callable[..., FirecrackerVmm]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes machines, each in a directory of its own, and stops them all."""
    machines: list[FirecrackerVmm] = []
    for name in ("kernel", "initrd", "base", "runtime", "code", "layers"):
        (tmp_path / name).write_text(name)

    def make(behaviour: Behaviour | None = None, **options: Any) -> FirecrackerVmm:
        directory = tmp_path / f"machine-{len(machines)}"
        directory.mkdir()
        drives = options.pop("drives", (Drive(tmp_path / "base"), Drive(tmp_path / "code")))
        spec = VmSpec(
            kernel=tmp_path / "kernel",
            initrd=tmp_path / "initrd",
            memory_mib=8,
            directory=directory,
            drives=drives,
            nic=options.pop("nic", None),
            has_balloon=options.pop("has_balloon", False),
        )
        program = options.pop("program", None) or write_program(directory, behaviour)
        machine = FirecrackerVmm(spec, program=program, **options)
        machines.append(machine)
        return machine

    yield make
    for machine in machines:
        await machine.stop()
        assert not (machine._spec.directory / "vmm").exists()


def sent(machine: FirecrackerVmm) -> list[tuple[str, Any]]:
    """What the program was asked, in order: method with path, and body."""
    text = (machine._vmm.root / "requests").read_text()
    return [(f"{method} {path}", body) for method, path, body in map(json.loads, text.splitlines())]


async def rest(machine: FirecrackerVmm, directory: Path) -> VmSnapshot:
    await machine.boot()
    await machine.pause()
    return await machine.snapshot(directory)


async def talk(machine: FirecrackerVmm) -> bytes:
    loop = asyncio.get_running_loop()
    with machine.take_channel() as channel:
        greeting = await loop.sock_recv(channel, 100)
        await loop.sock_sendall(channel, b"ping")
        return greeting + await loop.sock_recv(channel, 100)


async def test_a_machine_boots_and_its_guest_is_reached(make: Make, tmp_path: Path) -> None:
    limited = Drive(tmp_path / "base", bytes_per_s=1000, operations_per_s=10)
    nic = Nic("tap0", "06:00:00:00:00:01")
    machine = make(drives=(limited, Drive(tmp_path / "code")), nic=nic, has_balloon=True)
    with pytest.raises(WrongState):
        machine.take_channel()
    await machine.boot()
    assert machine.state is VmState.RUNNING
    assert await talk(machine) == b"port 1024\nping"
    with pytest.raises(WrongState):
        machine.take_channel()
    requests = dict(sent(machine))
    assert list(requests) == [
        *("PUT /logger", "PUT /metrics", "PUT /machine-config", "PUT /boot-source"),
        *("PUT /drives/vda", "PUT /drives/vdb", "PUT /network-interfaces/eth0", "PUT /vsock"),
        *("PUT /entropy", "PUT /balloon", "PUT /actions"),
    ]
    assert vm_port.vsock_number(requests["PUT /boot-source"]["boot_args"]) == 1024
    assert requests["PUT /machine-config"] == {"vcpu_count": 1, "mem_size_mib": 8}
    assert requests["PUT /drives/vda"] == {
        "drive_id": "vda",
        "is_root_device": False,
        "path_on_host": "vda",
        "is_read_only": True,
        "rate_limiter": {
            "bandwidth": {"size": 1000, "refill_time": 1000},
            "ops": {"size": 10, "refill_time": 1000},
        },
    }
    assert "rate_limiter" not in requests["PUT /drives/vdb"]
    await machine.stop()
    assert "the guest's kernel" in machine.console.text()


async def test_the_guest_is_asked_until_it_listens(make: Make) -> None:
    machine = make(Behaviour(deaf=3))
    await machine.boot()
    assert await talk(machine) == b"port 1024\nping"


async def test_a_machine_rests_and_clones_of_it_run(make: Make, tmp_path: Path) -> None:
    place = tmp_path / "snapshot"
    place.mkdir()
    first = make(nic=Nic("tap0", "06:00:00:00:00:01"))
    snapshot = await rest(first, place)
    assert first.state is VmState.STOPPED
    assert snapshot == VmSnapshot(place / "state", place / "memory")
    assert snapshot.memory.stat().st_mode & 0o777 == 0o400
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "memory", "state"]
    assert await make(nic=Nic("tap9", "06:00:00:00:00:01")).load(place) == snapshot
    slow = Drive(tmp_path / "base", bytes_per_s=1000)
    drives = (slow, Drive(tmp_path / "layers"))
    clones = [make(drives=drives, slots={1}, nic=Nic(f"tap{n}", "")) for n in (1, 2)]
    for number, clone in enumerate(clones, 1):
        await clone.restore(snapshot)
        assert clone.state is VmState.PAUSED
        with pytest.raises(WrongState):
            clone.take_channel()
        assert (clone._vmm.root / "vdb").read_text() == "layers"
        assert sent(clone)[2:] == [
            (
                "PUT /snapshot/load",
                {
                    "snapshot_path": "state",
                    "mem_backend": {"backend_path": "memory", "backend_type": "File"},
                    "network_overrides": [{"iface_id": "eth0", "host_dev_name": f"tap{number}"}],
                },
            ),
            # The guest has it mounted: its limits alone.
            (
                "PATCH /drives/vda",
                {
                    "drive_id": "vda",
                    "rate_limiter": {"bandwidth": {"size": 1000, "refill_time": 1000}},
                },
            ),
            ("PATCH /drives/vdb", {"drive_id": "vdb", "path_on_host": "vdb"}),
        ]
    for clone in clones:
        await clone.resume()
        assert clone.state is VmState.RUNNING
        assert await talk(clone) == b"port 1024\nping"


async def test_a_snapshot_fits_only_what_it_was_made_of(make: Make, tmp_path: Path) -> None:
    await rest(machine := make(), tmp_path)
    other = make(has_balloon=True)
    with pytest.raises(SnapshotForeign, match="balloon"):
        await other.load(tmp_path)
    with pytest.raises(SnapshotForeign) as foreign:
        load_snapshot(tmp_path, identify(machine._spec, "1.18.0"))
    assert foreign.value.differences == [
        "vmm is 'Firecracker 1.17.0' and should be 'Firecracker 1.18.0'"
    ]
    assert machine.state is VmState.STOPPED


async def test_a_program_that_says_no_version_is_none(tmp_path: Path) -> None:
    with pytest.raises(VmmMissing, match="does not say its version"):
        program_version(Path("/bin/true"))
    with pytest.raises(VmmMissing, match="cannot be used"):
        program_version(tmp_path / "firecracker")


async def test_a_machine_keeps_its_stream_while_it_is_paused(make: Make) -> None:
    machine = make()
    await machine.boot()
    await machine.pause()
    assert machine.state is VmState.PAUSED
    with pytest.raises(WrongState):
        await machine.pause()
    await machine.resume()
    assert await talk(machine) == b"port 1024\nping"


async def test_a_restored_machine_can_rest_again(make: Make, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    snapshot = await rest(make(), tmp_path / "one")
    clone = make()
    await clone.restore(snapshot)
    await clone.resume()
    await clone.pause()
    second = await clone.snapshot(tmp_path / "two")
    assert second.memory.stat().st_size == snapshot.memory.stat().st_size


@pytest.mark.skipif(os.geteuid() != 0, reason="root is missing: the page server needs it")
async def test_the_memory_of_a_clone_may_be_served(make: Make, tmp_path: Path) -> None:
    snapshot = await rest(make(), tmp_path)
    clone = make(has_page_server=True)
    await clone.restore(snapshot)
    loaded = dict(sent(clone))["PUT /snapshot/load"]
    assert loaded["mem_backend"] == {"backend_path": "memory", "backend_type": "Uffd"}
    await clone.resume()
    assert await talk(clone) == b"port 1024\nping"
    assert (clone._spec.directory / "pages").exists()
    await clone.stop()
    assert not (clone._spec.directory / "pages").exists()


async def test_what_firecracker_counts_is_read(make: Make) -> None:
    machine = make()
    await machine.boot()
    metrics = await machine.read_metrics()
    assert (metrics.utc_timestamp_ms, metrics.vcpu.exit_io_in, metrics.net.rx_fails) == (1, 7, 0)


async def test_the_balloon_is_firecrackers_own(make: Make) -> None:
    machine = make(has_balloon=True)
    await machine.boot()
    balloon = await machine.client.balloon()
    assert balloon.amount_mib == 0
    assert balloon.free_page_reporting


async def test_a_directory_may_be_deeper_than_a_sockets_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    for name in ("kernel", "initrd"):
        (deep / name).touch()
    spec = VmSpec(kernel=deep / "kernel", initrd=deep / "initrd", memory_mib=8, directory=deep)
    machine = FirecrackerVmm(spec, program=write_program(deep))
    await machine.boot()
    assert await talk(machine) == b"port 1024\nping"
    await machine.stop()


# Failures.


def test_a_user_of_its_own_is_a_jails(tmp_path: Path) -> None:
    spec = VmSpec(kernel=tmp_path, initrd=tmp_path, memory_mib=8, directory=tmp_path, user=1001)
    program = tmp_path / "firecracker"
    for policy in (None, JailPolicy(uid=1002, gid=1)):
        with pytest.raises(ValueError, match="as user 1001"):
            FirecrackerVmm(spec, program=program, policy=policy)
    FirecrackerVmm(spec, program=program, policy=JailPolicy(uid=1001, gid=1))


async def test_a_program_that_is_missing_is_told(make: Make, tmp_path: Path) -> None:
    with pytest.raises(VmmMissing, match="firecracker is not there"):
        await make(program=tmp_path / "firecracker").boot()


async def test_a_program_that_ends_at_once_has_its_last_words_in_the_error(make: Make) -> None:
    with pytest.raises(VmmEnded, match="status 153") as ended:
        await make(Behaviour(die="start")).boot()
    assert "the configuration cannot be used" in ended.value.console


async def test_a_program_without_an_api_is_told(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelet.sandbox.microvm.firecracker_process.API_TIMEOUT_S", 0.5)
    with pytest.raises(VmmSilent, match=r"has not answered within 0\.5 s"):
        await make(Behaviour(hang="start")).boot()


async def test_a_refusal_ends_the_machine(make: Make) -> None:
    machine = make(Behaviour(refuse={"PUT /vsock": "Vsock config error: no"}))
    with pytest.raises(VmmRefused, match="Vsock config error"):
        await machine.boot()
    assert machine.state is VmState.STOPPED


async def test_a_machine_that_dies_while_it_boots_has_its_console_in_the_error(make: Make) -> None:
    machine = make(Behaviour(die="PUT /actions"))
    with pytest.raises(VmmEnded, match="cannot be reached") as ended:
        await machine.boot()
    assert "Running Firecracker" in ended.value.console
    assert "the log begins" in ended.value.console


async def test_a_guest_that_never_listens_is_told_with_its_console(make: Make) -> None:
    machine = make(Behaviour(deaf=-1, console="Kernel panic\n"), ready_timeout_s=0.3)
    with pytest.raises(VmmSilent, match=r"not ready within 0\.3 s[^$]*Kernel panic"):
        await machine.boot()


async def test_a_machine_that_hangs_does_not_outlive_the_boot_that_was_given_up(
    make: Make,
) -> None:
    machine = make(Behaviour(hang="PUT /vsock"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await machine.boot()
    assert machine.state is VmState.STOPPED
    assert await machine.wait() != 0


async def test_a_snapshot_that_cannot_be_loaded_ends_the_machine(
    make: Make, tmp_path: Path
) -> None:
    snapshot = await rest(make(), tmp_path)
    os.chmod(snapshot.memory, 0o600)
    os.truncate(snapshot.memory, 1)
    machine = make()
    with pytest.raises(VmmRefused, match="another size"):
        await machine.restore(snapshot)
    assert machine.state is VmState.STOPPED


async def test_a_refused_snapshot_leaves_the_machine_paused(make: Make, tmp_path: Path) -> None:
    machine = make(Behaviour(refuse={"PUT /snapshot/create": "no space"}))
    await machine.boot()
    await machine.pause()
    with pytest.raises(VmmRefused, match="no space"):
        await machine.snapshot(tmp_path)
    assert machine.state is VmState.PAUSED
    await machine.resume()


async def test_a_tap_device_is_taken_by_its_name(make: Make) -> None:
    with pytest.raises(VmmError, match="by its name"):
        await make(nic=Nic(7, "06:00:00:00:00:01")).boot()


async def test_the_end_of_a_machine_is_seen(make: Make) -> None:
    machine = make()
    await machine.boot()
    assert not select.select([machine.pidfd], [], [], 0)[0]
    os.kill(machine.pid, 9)
    assert await machine.wait() == -9
    assert select.select([machine.pidfd], [], [], 0)[0]
    assert machine.state is VmState.STOPPED
    with pytest.raises(VmmEnded):
        await machine.pause()
    await machine.stop()
    with pytest.raises(WrongState):
        await machine.pause()
    with pytest.raises(WrongState):
        _ = machine.pidfd
