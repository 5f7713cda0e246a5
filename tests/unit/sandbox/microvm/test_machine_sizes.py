"""How large machines are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from firelet.model import limits
from firelet.sandbox.microvm import machine_sizes

functions = st.integers(limits.MEMORY_DEFAULT_MIB, limits.MEMORY_MAX_MIB)
machines = functions.map(machine_sizes.machine_memory_mib)


@given(functions)
def test_a_machine_has_room_for_its_function_and_its_guest(memory_mib: int) -> None:
    size = machine_sizes.machine_memory_mib(memory_mib)
    assert size >= memory_mib + machine_sizes.GUEST_OVERHEAD_MIB


@given(functions, functions)
def test_a_larger_function_never_has_a_smaller_machine(one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert machine_sizes.machine_memory_mib(less) <= machine_sizes.machine_memory_mib(more)
    assert machine_sizes.drive_limits(less) <= machine_sizes.drive_limits(more)


@given(st.lists(functions, min_size=50))
def test_there_are_few_sizes(functions: list[int]) -> None:
    assert len(set(map(machine_sizes.machine_memory_mib, functions))) <= 7


@given(machines)
def test_what_runs_a_machine_may_use_more_than_twice_what_the_machine_has(memory_mib: int) -> None:
    found = machine_sizes.limits_of(memory_mib)
    assert found.memory_mib > 2 * memory_mib
    assert found.vcpus is None


@given(machines, st.integers(1, 256))
def test_processors_are_those_of_the_largest_function_and_never_more_than_the_hosts(
    memory_mib: int, host_cpus: int
) -> None:
    vcpus = machine_sizes.machine_vcpus(memory_mib, host_cpus, is_emulated=False)
    assert 1 <= vcpus <= host_cpus
    assert vcpus == host_cpus or vcpus >= memory_mib / limits.MEMORY_PER_VCPU_MIB
    assert machine_sizes.machine_vcpus(memory_mib, host_cpus, is_emulated=True) == 1


@given(functions)
def test_every_function_may_read_its_disks(memory_mib: int) -> None:
    assert min(machine_sizes.drive_limits(memory_mib)) > 0
