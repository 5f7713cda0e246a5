"""How the microVM driver of a process is put together, without starting anything."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from firelet.app import microvm
from firelet.sandbox.microvm.choice import VmmChoice, VmmKind
from firelet.sandbox.microvm.egress import TRANSIT, NetworkRefused, TransitTaken
from firelet.sandbox.microvm.firecracker_vmm import FirecrackerVmm
from firelet.sandbox.microvm.qemu import QemuVmm
from firelet.sandbox.microvm.vmm import Nic, VmSpec

RESOLVER = IPv4Address("192.0.2.53")


class Taken:
    """The ways out of other processes, and of this one: by their transit networks."""

    def __init__(self, count: int) -> None:
        self.free = list(TRANSIT.subnets(new_prefix=20))[count:]
        self.made: list[Any] = []

    def __call__(self, **asked: Any) -> Any:
        self.made.append(asked)
        taken = self

        class Gateway:
            transit = asked["transit"]

            def open(self) -> None:
                if self.transit not in taken.free:
                    raise TransitTaken("taken")

        return Gateway()


def spec(directory: Path) -> VmSpec:
    return VmSpec(
        kernel=directory / "vmlinux",
        initrd=directory / "initrd",
        memory_mib=256,
        directory=directory,
        user=1_900_000_001,
        nic=Nic("tap0", "02:fc:00:00:00:02", Path("/proc/1/fd/7")),
    )


def test_disks_that_are_of_no_use_are_removed_before_any_is_used(tmp_path: Path) -> None:
    root = tmp_path / "microvm" / "disks"
    places = {name: root / name for name in (".unfinished-x", "runtime-old", "runtime-new")}
    for place in places.values():
        place.mkdir(parents=True)
    os.utime(places["runtime-old"], (1_000_000, 1_000_000))
    microvm.tidy_disks(microvm.open_disks(tmp_path))
    assert [path.name for path in root.iterdir()] == ["runtime-new"]


def test_qemu_runs_machines_where_it_was_chosen(tmp_path: Path) -> None:
    choice = VmmChoice(VmmKind.QEMU_EMULATED, "/usr/bin/qemu-system-x86_64", "no KVM")
    assert isinstance(microvm.vmm_maker(choice)(spec(tmp_path)), QemuVmm)


def test_firecracker_runs_machines_in_jails_of_one_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    class Recorded(FirecrackerVmm):
        def __init__(self, spec: VmSpec, **more: Any) -> None:
            made.update(more)
            super().__init__(spec, **more)

    monkeypatch.setattr(microvm, "FirecrackerVmm", Recorded)
    choice = VmmChoice(VmmKind.FIRECRACKER, "/opt/firecracker", "KVM", "/opt/jailer")
    make = microvm.vmm_maker(choice)
    make(spec(tmp_path))
    one = made["policy"]
    assert (one.uid, one.network) == (1_900_000_001, Path("/proc/1/fd/7"))
    assert (made["jailer"], made["program"]) == ("/opt/jailer", Path("/opt/firecracker"))
    make(replace(spec(tmp_path), user=1_900_000_002, nic=None))
    assert made["policy"].uid != one.uid
    assert (made["policy"].gid, made["policy"].network) == (one.gid, None)


def test_without_a_jailer_firecracker_runs_as_who_started_it(tmp_path: Path) -> None:
    choice = VmmChoice(VmmKind.FIRECRACKER, "/opt/firecracker", "KVM")
    machine = microvm.vmm_maker(choice)(replace(spec(tmp_path), user=None))
    assert isinstance(machine, FirecrackerVmm)


def test_each_process_has_a_part_of_the_transit_network_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = Taken(2)
    monkeypatch.setattr(microvm, "NatGateway", taken)
    found: Any = microvm.open_gateway(RESOLVER)
    assert found.transit == IPv4Network("10.203.32.0/20")
    assert taken.made[-1]["allowed"] == (IPv4Network("192.0.2.53/32"),)
    monkeypatch.setattr(microvm, "NatGateway", Taken(16))
    with pytest.raises(NetworkRefused, match="Every part"):
        microvm.open_gateway(RESOLVER)


def test_guests_ask_the_first_name_server_that_they_can_reach() -> None:
    text = "# nameserver 192.0.2.1\nsearch example\nnameserver ::1\nnameserver 127.0.0.53\n"
    assert microvm.find_resolver(f"{text}nameserver 192.0.2.53\n") == RESOLVER
    with pytest.raises(NetworkRefused, match="microvm_resolver"):
        microvm.find_resolver(text)
