"""What is said of machines, and what is not said where it was not measured."""

from __future__ import annotations

import pytest
from bench.machine_memory import Clones, GivenBack, Held
from bench.machine_rows import Measured, make_kvm_rows, make_rows
from bench.machines import Boots, Calls, Starts, Streams
from bench.rows import Row

from firelet.linux.kvm import KvmVerdict

NO_KVM = KvmVerdict(is_present=True, is_usable=False, detail="it hung")
KVM = KvmVerdict(is_present=True, is_usable=True, detail="it ran")


def measured() -> Measured:
    starts = Starts(ready_ms=[30.0], init_ms=[200.0], answer_ms=[210.0], cpu_ms=[180.0])
    return Measured(
        boots=Boots(hello_ms=[2_000.0, 2_600.0, 1_900.0], embryo_ms=[3e3], answer_ms=[5_500.0]),
        first_ms=6_000.0,
        embryos={"python3.11": starts},
        clones={"python3.11": starts},
        calls=Calls([2.0, 1.0, 9.0], 1.5),
        namespaces=Calls([0.5], None),
        work_ms=[900.0, 880.0, 2_000.0],
        work_in_namespaces_ms=[50.0],
        ping_ms=[0.4],
        streams=Streams([10.0], [20.0]),
        starts_per_s=2.5,
        clones_per_s=3.5,
        held=Clones(20, Held(guest=5, translated=18, rest=19, pss=50), 42.0, None),
        given_back=GivenBack(before=40, used=140, idle=50, idle_s=12),
    )


def by_label(rows: list[Row]) -> dict[str, Row]:
    found = {row.label: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_a_goal_is_met_or_missed_by_the_middle_of_what_was_measured() -> None:
    rows = by_label(make_rows(measured()))
    verdicts = {label: row.verdict(row.goal) for label, row in rows.items() if row.goal}
    assert verdicts == {
        "boot, pid 1 says hello, p50": "ok",
        "boot, INIT, first answer, p50": "MISSED",
        "python3.11, from SnapStart: first answer, p50": "ok",
        "warm call, p50": "ok",
        "20 clones held, each: private": "MISSED",
    }


def test_a_call_is_compared_with_the_same_in_namespaces() -> None:
    rows = by_label(make_rows(measured()))
    assert rows["warm call / the same in namespaces"].value == 4
    assert rows["work of the processor / the same in namespaces"].value == 18


def test_the_best_is_told_beside_the_middle() -> None:
    row = by_label(make_rows(measured()))["warm call, p50"]
    assert (row.value, row.note) == (2.0, "3 calls, best 1.0 ms")


def test_what_is_left_without_the_guest_is_the_vmms() -> None:
    rows = by_label(make_rows(measured()))
    assert rows["20 clones held, each: VMM without its guest's memory"].value == 37
    assert rows["20 clones held, each: charged to its control group"].note == "no control groups"


def test_memory_given_back_is_told() -> None:
    rows = [row for row in make_rows(measured()) if "given back" in row.label]
    assert [row.value for row in rows] == [90]
    assert "40 MiB before, 140 after, 50 idle for 12 s" in rows[0].note


def test_nothing_measured_makes_no_figure() -> None:
    rows = make_rows(Measured())
    assert [row.label for row in rows if row.value is not None] == []
    assert {row.verdict(row.goal) for row in rows if row.goal} == {"not measured"}


def test_without_kvm_its_rows_have_the_reason_and_never_a_figure() -> None:
    rows = make_kvm_rows(measured(), NO_KVM)
    assert len(rows) == 4
    for row in rows:
        assert row.value is None
        assert row.note == "not measured: no working KVM: it hung"
        assert row.verdict(row.goal) == "not measured"


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("KVM: boot, until the guest's pid 1 says hello, p50", 2_000),
        ("KVM: VMM without its guest's memory", 37),
        ("KVM: starts, sustained", 2.5),
        ("KVM: restore, p50", 30),
    ],
)
def test_with_kvm_its_rows_are_what_was_measured(label: str, value: float) -> None:
    row = by_label(make_kvm_rows(measured(), KVM))[label]
    assert row.value == value
    assert row.verdict(row.goal) == "MISSED"
