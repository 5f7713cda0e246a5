"""The simulator: its mechanism on traces worked out by hand, its readers, and what it shows."""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench.simulate.__main__ import main
from bench.simulate.azure import read_trace
from bench.simulate.generate import SMALL, day_factor, generate
from bench.simulate.policies import NONE, REFERENCE, FixedKeeper, Policy, firelet_policy
from bench.simulate.replay import MIB_S_PER_GIB_H, Tally, replay
from bench.simulate.trace import DAY_S, Function, Trace

KEEP_100_S = Policy("keep 100 s", lambda _function, _first_s: FixedKeeper(100))


def trace_of(*requests: tuple[float, float], length_s: float = 1_000) -> Trace:
    function = Function(
        name="one",
        start_s=2,
        memory_mib=MIB_S_PER_GIB_H,
        arrivals_s=array("d", (at for at, _ in requests)),
        durations_s=array("d", (duration for _, duration in requests)),
    )
    return Trace("by hand", length_s, [function])


def test_the_first_request_waits_for_a_start_and_the_second_does_not() -> None:
    tally = replay(trace_of((10, 5), (50, 5)), KEEP_100_S)
    assert list(tally.delays_s) == [2]
    assert tally.cold_share == 0.5
    assert tally.starts == 1
    # Starting 10-12, idle 17-50 and 55-155.
    assert tally.idle_gib_h == pytest.approx(2 + 33 + 100)
    assert tally.total_gib_h == pytest.approx(2 + 33 + 100 + 10)


def test_a_request_after_the_keep_alive_is_cold_again() -> None:
    tally = replay(trace_of((0, 5), (200, 5)), KEEP_100_S)
    assert list(tally.delays_s) == [2, 2]
    assert tally.starts == 2


def test_whoever_waits_gets_what_is_free_first() -> None:
    tally = replay(trace_of((0, 1.5), (3, 10)), KEEP_100_S)
    # The second one finds the first at work until 3.5 and does not wait for its own start until 5.
    assert list(tally.delays_s) == [2, 0.5]
    assert tally.starts == 2


def test_without_keep_alive_nothing_is_ever_idle() -> None:
    tally = replay(trace_of((0, 5), (200, 5)), NONE)
    assert tally.idle_gib_h == pytest.approx(4)


def test_what_is_still_there_at_the_end_costs_until_the_end() -> None:
    tally = replay(trace_of((960, 5)), KEEP_100_S)
    assert tally.idle_gib_h == pytest.approx(2 + 33)
    tally = replay(trace_of((999, 5)), KEEP_100_S)
    assert list(tally.delays_s) == [1]
    assert tally.total_gib_h == pytest.approx(1)


def test_delays_are_percentiles_of_all_requests() -> None:
    tally = Tally(invocations=100, delays_s=array("d", [3.0, 1.0]))
    assert tally.delay_s(0.98) == 0
    assert tally.delay_s(0.99) == 1
    assert tally.delay_s(1) == 3


def test_the_same_seed_makes_the_same_trace() -> None:
    one, same, other = generate(SMALL, 1), generate(SMALL, 1), generate(SMALL, 2)
    assert one.functions == same.functions
    assert one.functions != other.functions


def test_a_made_up_trace_is_in_order_and_within_its_day() -> None:
    for function in generate(SMALL).functions:
        assert list(function.arrivals_s) == sorted(function.arrivals_s)
        assert len(function.arrivals_s) == len(function.durations_s)
        assert not function.arrivals_s or function.arrivals_s[0] >= 0


def test_the_day_has_two_peaks() -> None:
    hours = [day_factor(hour * 3_600) for hour in range(24)]
    peaks = [h for h in range(1, 23) if hours[h - 1] < hours[h] > hours[h + 1]]
    assert len(peaks) == 2
    assert sum(hours) / 24 == pytest.approx(1, abs=0.1)
    assert max(hours) <= 2.1


@pytest.mark.parametrize("seed", [1, 2])
def test_firelet_has_fewer_cold_starts_than_ten_minutes_on_less_memory(seed: int) -> None:
    trace = generate(SMALL, seed)
    ours, theirs = replay(trace, firelet_policy()), replay(trace, REFERENCE)
    assert ours.invocations == theirs.invocations == trace.invocations
    assert ours.cold_share < 0.6 * theirs.cold_share
    assert ours.idle_gib_h < 0.87 * theirs.idle_gib_h
    assert ours.delay_s(0.99) <= theirs.delay_s(0.99)


def test_firelet_holds_less_under_memory_pressure() -> None:
    trace = generate(SMALL)
    relaxed, pressed = replay(trace, firelet_policy()), replay(trace, firelet_policy(0.9))
    assert pressed.idle_gib_h < 0.6 * relaxed.idle_gib_h


HEADER = ["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, 1_441))]
QUANTILES = [f"percentile_Average_{quantile}" for quantile in (0, 1, 25, 50, 75, 99, 100)]


def write_rows(path: Path, *rows: Sequence[object]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def counts(**minutes: int) -> list[int]:
    return [minutes.get(f"m{minute}", 0) for minute in range(1, 1_441)]


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "invocations_per_function_md.anon.d01.csv",
        HEADER,
        ["o", "a", "web", "http", *counts(m1=3, m1440=2)],
        ["o", "a", "tick", "timer", *([1, 0] * 720)],
        ["o", "b", "busy", "queue", *([1_000] * 1_440)],
    )


@pytest.fixture
def durations(tmp_path: Path) -> Path:
    columns = ["HashOwner", "HashApp", "HashFunction", "Average", "Count", "Minimum", "Maximum"]
    return write_rows(
        tmp_path / "function_durations_percentiles.anon.d01.csv",
        [*columns, *QUANTILES],
        ["o", "a", "web", 100, 5, 90, 110, 90, 91, 95, 100, 105, 109, 110],
        ["o", "z", "unknown", 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    )


def test_calls_of_the_azure_trace_come_in_their_minutes(azure: Path) -> None:
    trace = read_trace(azure, None, sample=10, seed=1)
    by_name = {function.name: function for function in trace.functions}
    web = by_name["web"].arrivals_s
    assert [int(at // 60) for at in web] == [0, 0, 0, 1_439, 1_439]
    assert len(by_name["tick"].arrivals_s) == 720
    assert trace.length_s == DAY_S


def test_timers_of_the_azure_trace_keep_their_second(azure: Path) -> None:
    trace = read_trace(azure, None, sample=10, seed=1)
    tick = next(function for function in trace.functions if function.name == "tick")
    seconds = [at % 60 for at in tick.arrivals_s]
    assert max(seconds) - min(seconds) < 1


def test_the_busiest_functions_are_left_out_and_that_is_said(azure: Path) -> None:
    trace = read_trace(azure, None, sample=10, seed=1)
    assert {function.name for function in trace.functions} == {"web", "tick"}
    assert "2 of 3 functions" in trace.source
    assert "1 left out" in trace.source


def test_durations_lie_between_their_quantiles(azure: Path, durations: Path) -> None:
    trace = read_trace(azure, durations, sample=10, seed=1)
    web = next(function for function in trace.functions if function.name == "web")
    assert all(0.09 <= duration <= 0.11 for duration in web.durations_s)


def test_a_sample_is_no_larger_than_asked_for(azure: Path) -> None:
    assert len(read_trace(azure, None, sample=1, seed=3).functions) <= 1


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([["a", "b"]], "not an invocations_per_function file"),
        ([], "not an invocations_per_function file"),
        ([HEADER, ["o", "a", "f", "http", 1]], "5 columns instead of 1444"),
        ([HEADER, ["o", "a", "f", "http", *counts()[1:], "x"]], "a count that is none"),
        ([HEADER, ["o", "a", "f", "http", *counts()[1:], -1]], "a count that is none"),
    ],
)
def test_a_file_of_another_format_is_refused_with_the_place(
    tmp_path: Path, rows: list[list[object]], complaint: str
) -> None:
    path = write_rows(tmp_path / "other.csv", *rows)
    with pytest.raises(ValueError, match=complaint):
        read_trace(path, None, sample=10, seed=1)


def test_durations_without_their_columns_are_refused(azure: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "durations.csv", ["HashOwner", "HashApp"])
    with pytest.raises(ValueError, match="columns missing: HashFunction"):
        read_trace(azure, path, sample=10, seed=1)


def test_the_command_prints_a_table_and_writes_the_same_figures(
    azure: Path, durations: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    main(["--azure", str(azure), "--durations", str(durations), "--json", str(figures)])
    printed = capsys.readouterr().out
    document = json.loads(figures.read_text())
    assert document["trace"]["invocations"] == 725
    for name, policy in document["policies"].items():
        assert name in printed
        assert f"{policy['cold_share']:.3%}" in printed


def test_the_command_refuses_a_file_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--azure", str(tmp_path / "nothing.csv")])
    assert "nothing.csv" in capsys.readouterr().err
