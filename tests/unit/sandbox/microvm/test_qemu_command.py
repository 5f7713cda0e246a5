"""QEMU's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.sandbox.microvm.qemu_command import QemuFds, build_command, parse_counter_khz
from firelet.sandbox.microvm.vmm import VmSpec

SPEC = VmSpec(
    kernel=Path("/images/kernel"),
    initrd=Path("/images/initrd"),
    memory_mib=256,
    directory=Path("/run/vm"),
    vcpus=2,
)
WEAK = ("nokaslr", "mitigations=off")


def command(*, has_kvm: bool = False, memory: str | None = None, spec: VmSpec = SPEC) -> list[str]:
    return build_command(spec, QemuFds(7, 8), has_kvm=has_kvm, counter_khz=2_500_000, memory=memory)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_an_emulated_machine_is_told_the_rate_of_its_counter() -> None:
    words = command()
    assert option(words, "-accel") == "tcg,thread=single"
    assert "tsc_early_khz=2500000" in option(words, "-append").split()


def test_the_kernel_of_a_real_machine_is_not_weakened() -> None:
    assert set(WEAK) <= set(option(command(), "-append").split())
    words = command(has_kvm=True)
    assert option(words, "-accel") == "kvm"
    assert not set(WEAK) & set(option(words, "-append").split())


def test_memory_is_shared_at_first_and_private_when_restored() -> None:
    first = option(command(), "-object")
    assert first == "memory-backend-file,id=memory,size=256M,mem-path=/run/vm/memory,share=on"
    words = command(memory="/snapshots/memory")
    assert option(words, "-object").endswith("mem-path=/snapshots/memory,share=off")
    assert option(words, "-incoming") == "defer"


def test_the_machine_has_no_other_devices_and_may_start_no_programs() -> None:
    words = command()
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert "spawn=deny" in option(words, "-sandbox")


def test_a_path_that_qemu_would_take_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="comma"):
        command(memory="/snapshots/a,b")


def test_the_rate_of_the_counter_is_read_from_cpuinfo() -> None:
    assert parse_counter_khz("processor\t: 0\nbogomips\t: 5192.24\n") == 2_596_120
    with pytest.raises(ValueError, match="bogomips"):
        parse_counter_khz("processor\t: 0\n")
