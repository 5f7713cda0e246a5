"""``firelet top``: rates out of two readings, one row for each function, the busiest first."""

from __future__ import annotations

from typing import Any

import pytest

from firelet.cli.top import Reading, format_uptime, make_headline, make_rows
from firelet.frontend.status import FunctionStatus, Latency, PlatformStatus


def make_function(name: str = "greet", **changes: Any) -> FunctionStatus:
    counts = dict.fromkeys(
        (
            *("starting", "busy", "idle", "frozen", "wanted", "waiting"),
            *("started", "invocations", "cold"),
        ),
        0,
    )
    fields = {"account": "000000000000", "region": "us-east-1", "latency": None, "isolation": []}
    return FunctionStatus(**{"name": name, **fields, **counts, **changes})


def read(at: float, *functions: FunctionStatus, machines: str | None = None) -> Reading:
    return Reading(at, PlatformStatus(at, 0.5, list(functions), machines))


def test_rates_are_what_was_counted_between_two_readings() -> None:
    before = read(10, make_function(invocations=100, started=1))
    now = read(12, make_function(invocations=300, started=4))
    ((name, *_, calls, starts, _, _, _, _),) = make_rows(before, now)
    assert (name, calls, starts) == ("greet", "100.0", "1.5")


def test_a_function_that_is_new_or_began_again_is_counted_from_nothing() -> None:
    before = read(10, make_function("again", invocations=100))
    now = read(12, make_function("again", invocations=4), make_function("new", invocations=6))
    assert [(row[0], row[7]) for row in make_rows(before, now)] == [
        ("new", "3.0"),
        ("again", "2.0"),
    ]


def test_a_row_shows_states_cold_share_and_latency() -> None:
    function = make_function(
        starting=1,
        busy=2,
        idle=3,
        frozen=4,
        wanted=9,
        waiting=5,
        invocations=200,
        cold=3,
        latency=Latency(200, 0.31, 12.5),
        isolation=["microvm"],
    )
    (row,) = make_rows(read(0, function), read(1, function))
    assert row[1:7] == ["1", "2", "3", "4", "9", "5"]
    assert row[9:] == ["1.5%", "0.31 ms", "12.5 ms", "microvm"]


def test_what_was_never_invoked_has_no_share_and_no_latency() -> None:
    (row,) = make_rows(read(0), read(1, make_function()))
    assert row[9:] == ["-", "-", "-", "-"]


def test_walls_that_are_being_replaced_are_shown_with_those_that_follow() -> None:
    function = make_function(isolation=["microvm", "namespaces"])
    assert make_rows(read(0), read(1, function))[0][-1] == "microvm, namespaces"


def test_account_and_region_are_shown_only_where_there_are_several() -> None:
    here, there = make_function(), make_function(region="eu-west-1")
    assert make_rows(read(0), read(1, here))[0][0] == "greet"
    names = [row[0] for row in make_rows(read(0), read(1, here, there))]
    assert names == ["000000000000/eu-west-1/greet", "000000000000/us-east-1/greet"]


def test_the_headline_adds_up_all_functions() -> None:
    before = read(10, make_function("a", invocations=10))
    one = make_function("a", starting=1, busy=2, invocations=20, wanted=3)
    other = make_function("b", idle=3, frozen=4, invocations=30, wanted=1, cold=5)
    assert make_headline(before, read(12, one, other)) == (
        "up 12s · 10 environments (4 wanted) · 20 calls/s · 0.5 starts/s · 10.0% cold"
    )


def test_the_headline_says_what_runs_machines_where_there_are_any() -> None:
    now = read(12, make_function(isolation=["microvm"]), machines="QEMU, emulated")
    assert make_headline(read(10), now).endswith(" cold · microVMs by QEMU, emulated")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (185, "3m 05s"), (7_620, "2h 07m"), (442_800, "5d 03h")],
)
def test_uptimes_have_two_units(seconds: float, text: str) -> None:
    assert format_uptime(seconds) == text
