"""QEMU's command line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from firelet.sandbox.microvm.qemu_command import (
    QemuFds,
    build_command,
    device_names,
    parse_counter_khz,
)
from firelet.sandbox.microvm.vmm import Drive, Nic, VmSpec

SPEC = VmSpec(
    kernel=Path("/images/kernel"),
    initrd=Path("/images/initrd"),
    memory_mib=256,
    directory=Path("/run/vm"),
    vcpus=2,
)
WEAK = ("nokaslr", "mitigations=off")


def command(*, has_kvm: bool = False, is_restored: bool = False, spec: VmSpec = SPEC) -> list[str]:
    drives = tuple(range(20, 20 + len(spec.drives)))
    fds = QemuFds(monitor=7, channel=8, memory=9, drives=drives, kernel=10, initrd=11)
    return build_command(spec, fds, has_kvm=has_kvm, counter_khz=2_500_000, is_restored=is_restored)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_an_emulated_machine_is_told_the_rate_of_its_counter() -> None:
    words = command()
    assert option(words, "-accel").startswith("tcg,")
    assert "tsc_early_khz=2500000" in option(words, "-append").split()


def test_the_kernel_of_a_real_machine_is_not_weakened() -> None:
    assert set(WEAK) <= set(option(command(), "-append").split())
    words = command(has_kvm=True)
    assert option(words, "-accel") == "kvm"
    assert not set(WEAK) & set(option(words, "-append").split())


def test_memory_is_shared_at_first_and_private_when_restored() -> None:
    memory = "memory-backend-file,id=memory,size=256M,mem-path=/proc/self/fd/9,share="
    assert option(command(), "-object") == f"{memory}on"
    words = command(is_restored=True)
    assert option(words, "-object") == f"{memory}off"
    assert option(words, "-incoming") == "defer"
    own = command(is_restored=True, spec=replace(SPEC, has_own_memory=True))
    assert option(own, "-object") == f"{memory}on"


def test_a_restored_machine_does_not_read_what_its_memory_has() -> None:
    assert not {"-kernel", "-initrd", "-append"} & set(command(is_restored=True))


def test_a_restored_machine_has_the_same_devices() -> None:
    spec = replace(SPEC, drives=(Drive(Path("/images/base")),), has_balloon=True)
    first, restored = command(spec=spec), command(spec=spec, is_restored=True)
    assert device_names(spec) == (
        "virtio-serial-device",
        "virtserialport",
        "virtio-blk-device",
        "virtio-rng-device",
        "virtio-balloon-device",
    )
    for words in (first, restored):
        found = [word for name, word in pairwise(words) if name == "-device"]
        assert tuple(word.partition(",")[0] for word in found) == device_names(spec)


def test_the_machine_has_no_other_devices_and_may_start_no_programs() -> None:
    words = command()
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert "spawn=deny" in option(words, "-sandbox")


def test_drives_are_read_only_and_in_order_with_their_limits() -> None:
    drives = (Drive(Path("/images/base")), Drive(Path("/images/code"), 1_000_000, 500))
    words = command(spec=replace(SPEC, drives=drives))
    found = [word for option, word in pairwise(words) if option in ("-drive", "-device")]
    assert found[-5:] == [
        "id=drive0,file=/dev/fdset/0,format=raw,if=none,readonly=on",
        "virtio-blk-device,drive=drive0",
        "id=drive1,file=/dev/fdset/1,format=raw,if=none,readonly=on"
        ",throttling.bps-total=1000000,throttling.iops-total=500",
        "virtio-blk-device,drive=drive1",
        "virtio-rng-device,rng=entropy",
    ]


@pytest.mark.parametrize(
    ("tap", "option_of_tap"),
    [(9, "tap,id=network,fd=9"), ("tap0", "tap,id=network,ifname=tap0,script=no,downscript=no")],
)
def test_a_network_is_an_open_device_or_one_with_a_name(tap: int | str, option_of_tap: str) -> None:
    words = command(spec=replace(SPEC, nic=Nic(tap, "02:00:00:00:00:01")))
    assert option(words, "-netdev") == option_of_tap
    assert "virtio-net-device,netdev=network,mac=02:00:00:00:00:01" in words


def test_a_machine_has_what_it_is_given_and_no_more() -> None:
    bare = replace(SPEC, has_entropy=False)
    devices = {word for name, word in pairwise(command(spec=bare)) if name == "-device"}
    assert devices == {"virtio-serial-device", "virtserialport,chardev=channel,name=firelet"}
    words = command(spec=replace(bare, has_entropy=True, has_balloon=True))
    assert "virtio-rng-device,rng=entropy" in words
    assert "virtio-balloon-device,free-page-reporting=on" in words


def test_files_are_open_already_and_no_path_is_told() -> None:
    drives = (Drive(Path("/images/base")), Drive(Path("/images/code")))
    words = command(spec=replace(SPEC, drives=drives))
    assert "images" not in " ".join(words)
    sets = [word for name, word in pairwise(words) if name == "-add-fd"]
    assert sets == ["fd=20,set=0", "fd=21,set=1"]
    assert option(words, "-kernel") == "/proc/self/fd/10"
    assert option(words, "-initrd") == "/proc/self/fd/11"


def test_the_rate_of_the_counter_is_read_from_cpuinfo() -> None:
    assert parse_counter_khz("processor\t: 0\nbogomips\t: 5192.24\n") == 2_596_120
    with pytest.raises(ValueError, match="bogomips"):
        parse_counter_khz("processor\t: 0\n")
