"""The capacity policy: what is kept, what is stopped, what is made ahead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.control import capacity
from firelet.control.capacity import Decision, View, decide, look_again_at, plan_turns
from firelet.control.demand import BINS, EDGES_S, Demand


def view_of(demand: Demand, **changes: object) -> View:
    view = View(demand=demand, starting=0, busy=0, idle=(), start_s=0.5, idle_mib=128)
    return replace(view, **changes)  # type: ignore[arg-type]


def called_every(period_s: float, times: int, busy_s: float = 0.1) -> Demand:
    demand = Demand(0)
    for i in range(times):
        demand.arrived(i * period_s)
        demand.released(i * period_s + busy_s)
    return demand


@dataclass
class Environments:
    """Applies decisions for a function that is not called any more, asked only when said."""

    demand: Demand
    idle: list[float]

    def follow(self, now: float, until: float) -> list[tuple[float, int]]:
        """When how many were idle."""
        history = [(now, len(self.idle))]
        while now < until:
            decision = decide(view_of(self.demand, idle=tuple(self.idle)), now)
            del self.idle[: decision.stop]
            self.idle += [now] * decision.start
            history.append((now, len(self.idle)))
            now = decision.again_at
        return history


def test_a_new_version_gets_one_environment_before_its_first_request() -> None:
    assert decide(view_of(Demand(0)), 0).start == 1


def test_what_is_being_made_is_not_made_again() -> None:
    assert decide(view_of(Demand(0), starting=1), 0).start == 0


def test_an_environment_of_a_function_in_steady_use_stays() -> None:
    demand = called_every(5, 50)
    decision = decide(view_of(demand, idle=(245.1,)), 245.1 + 60)
    assert decision.stop == 0


def test_an_environment_goes_some_time_after_the_last_request() -> None:
    history = Environments(called_every(5, 50), [245.1]).follow(245.1, 86_000)
    stopped_at = next(at for at, count in history if count == 0)
    assert 245.1 + 60 < stopped_at < 245.1 + 4 * 3_600
    assert all(count == 0 for at, count in history if at > stopped_at)


def test_a_function_called_every_hour_is_made_warm_shortly_before() -> None:
    demand = called_every(3_600, 8)
    last = 7 * 3_600 + 0.1
    history = Environments(demand, [last]).follow(last, last + 7_200)
    cold_at = next(at for at, count in history if count == 0)
    warm_at = next(at for at, count in history if at > cold_at and count == 1)
    gone_at = next(at for at, count in history if at > warm_at and count == 0)
    assert cold_at - last < 600
    assert 0 < (last - 0.1 + 3_600) - warm_at < 600
    assert gone_at > last + 3_600


def test_a_function_called_every_minute_is_not_stopped_in_between() -> None:
    demand = called_every(60, 30)
    last = 29 * 60 + 0.1
    history = Environments(demand, [last]).follow(last, last + 59)
    assert all(count == 1 for _, count in history)


def kept_s(**changes: object) -> float:
    view = view_of(called_every(5, 50), **changes)
    age = 30.0
    while not decide(replace(view, idle=(245.1,)), 245.1 + age).stop:
        age *= 1.05
    return age


def test_scarce_memory_shortens_how_long_an_idle_environment_stays() -> None:
    assert kept_s(pressure=0.9) < kept_s() / 2


def test_a_small_environment_stays_longer_than_a_large_one() -> None:
    assert kept_s(idle_mib=5) > 2 * kept_s(idle_mib=500)


def test_what_is_slow_to_start_stays_longer_than_what_is_quick() -> None:
    assert kept_s(start_s=5) > 2 * kept_s(start_s=0.05)


@pytest.mark.parametrize("pressure", [0.0, 0.99, 1.0, 2.0])
def test_any_pressure_is_bearable(pressure: float) -> None:
    assert decide(view_of(called_every(5, 50), idle=(0.0,), pressure=pressure), 300).start == 0


def test_none_is_kept_for_longer_than_is_allowed() -> None:
    demand = called_every(5, 50)
    view = view_of(demand, idle=(245.1,), keep_max_s=100)
    assert decide(view, 245.1 + 60).stop == 0
    assert decide(view, 245.1 + 60).again_at <= 245.1 + 100
    assert decide(view, 245.1 + 100).stop == 1
    assert decide(replace(view, idle=()), 245.1 + 101).start == 0


def test_one_made_warm_for_a_call_may_stay_as_long_as_any() -> None:
    demand = called_every(3_600, 8)
    last = 7 * 3_600 + 0.1
    view = view_of(demand, keep_max_s=120)
    starts = [at for at in range(int(last), int(last) + 7_200, 10) if decide(view, at).start]
    assert last < starts[0] < last + 130
    around = [at for at in starts if at > last + 1_000]
    assert 0 < around[-1] - around[0] <= 120


def test_where_none_may_be_idle_none_is_made_ahead() -> None:
    demand = Demand(0)
    for i in range(8):
        demand.arrived(100 + i / 10)
    assert decide(view_of(demand, busy=8, keep_max_s=0), 100.7).start == 0


@pytest.mark.parametrize(
    ("used_share", "pressure"), [(0.2, 0), (0.5, 0), (0.7, 0.5), (0.9, 1), (0.99, 1)]
)
def test_pressure_grows_with_the_memory_in_use(used_share: float, pressure: float) -> None:
    assert capacity.pressure_of(used_share) == pytest.approx(pressure)


def test_more_are_made_while_demand_rises() -> None:
    demand = Demand(0)
    for i in range(8):
        demand.arrived(100 + i / 10)
    decision = decide(view_of(demand, busy=6, starting=2), 100.7)
    assert decision.start == 4


def test_what_was_made_ahead_of_a_rise_that_ended_goes_though_nothing_happens() -> None:
    demand = Demand(0)
    for i in range(40):
        demand.arrived(100 + i / 10)
    now = 104.0
    idle = [now] * 20
    while idle and now < 200:
        decision = decide(view_of(demand, busy=40, idle=tuple(idle)), now)
        del idle[: decision.stop]
        now = decision.again_at
    assert not idle


def test_nothing_is_made_ahead_of_a_steady_stream() -> None:
    demand = called_every(0.5, 400)
    demand.arrived(200)
    assert decide(view_of(demand, busy=1), 200).start == 0


def test_a_great_rise_does_not_ask_for_more_than_a_host_can_make() -> None:
    demand = Demand(0)
    for _ in range(900):
        demand.arrived(1)
    assert decide(view_of(demand, starting=900), 1).start == capacity.AHEAD_MAX


def test_the_floor_is_filled_up_and_never_stopped() -> None:
    demand = called_every(5, 50)
    assert decide(view_of(demand, idle=(0.0,), floor=3), 80_000).start == 2
    decision = decide(view_of(demand, idle=(0.0,) * 5, floor=3), 80_000)
    assert (decision.start, decision.stop) == (0, 2)


def test_nothing_stops_just_after_it_was_used() -> None:
    demand = called_every(5, 50)
    now = 80_000.0
    idle = (now - 1, now - 0.5)
    decision = decide(view_of(demand, idle=idle), now)
    assert decision.stop == 0
    assert decision.again_at == now - 1 + capacity.SETTLE_S


def test_a_level_that_became_free_is_looked_at_no_later_than_it_turns() -> None:
    demand = called_every(3_600, 8)
    last = 7 * 3_600 + 0.1
    assert look_again_at(demand, last) == last + capacity.SETTLE_S
    decide(view_of(demand, idle=(last,)), last)
    demand.arrived(8 * 3_600)
    demand.released(8 * 3_600 + 0.1)
    again_at = look_again_at(demand, 8 * 3_600 + 0.1)
    decided = decide(view_of(demand, idle=(8 * 3_600 + 0.1,)), 8 * 3_600 + 0.1)
    assert again_at <= max(decided.again_at, 8 * 3_600 + 0.1 + capacity.SETTLE_S)


events = st.lists(st.tuples(st.booleans(), st.floats(0.001, 5_000)), max_size=40)


@st.composite
def views(draw: st.DrawFn) -> tuple[View, float]:
    demand = Demand(0)
    now = 0.0
    for is_arrival, elapsed in draw(events):
        now += elapsed
        if is_arrival:
            demand.arrived(now)
        elif demand.concurrency:
            demand.released(now)
    now += draw(st.floats(0, 100_000))
    idle = sorted(draw(st.lists(st.floats(0, 1), max_size=6)))
    view = View(
        demand=demand,
        starting=draw(st.integers(0, 3)),
        busy=demand.concurrency,
        idle=tuple(share * now for share in idle),
        start_s=draw(st.floats(0.001, 20)),
        idle_mib=draw(st.floats(0, 4_096)),
        floor=draw(st.integers(0, 3)),
        pressure=draw(st.floats(0, 1)),
        keep_max_s=draw(st.just(math.inf) | st.floats(1, 10_000)),
    )
    return view, now


@given(views())
def test_every_decision_can_be_carried_out(case: tuple[View, float]) -> None:
    view, now = case
    decision = decide(view, now)
    assert 0 <= decision.stop <= len(view.idle)
    assert decision.start == 0 or decision.stop == 0
    assert decision.again_at > now
    left = view.starting + view.busy + len(view.idle) + decision.start - decision.stop
    assert left >= view.floor
    assert all(now - since >= capacity.SETTLE_S - 1e-3 for since in view.idle[: decision.stop])
    assert decide(view, now) == decision


@given(views(), st.floats(0, 0.999))
def test_nothing_changes_before_the_time_that_the_decision_names(
    case: tuple[View, float], share: float
) -> None:
    view, now = case
    first = decide(view, now)
    applied = replace(view, idle=view.idle[first.stop :], starting=view.starting + first.start)
    end = first.again_at if first.again_at < math.inf else now + 200_000
    later = now + share * (end - now) - 2 * capacity.ROUNDING_S
    if later <= now:
        return
    assert decide(applied, later) == Decision(0, 0, pytest.approx(first.again_at))


def cost_of(turns_s: Sequence[float], weights: Sequence[float], patience_s: float) -> float:
    """What a schedule costs, worked out forwards."""
    cost = 0.0
    is_warm = True
    reaching = sum(weights)
    for i in range(BINS - 1):
        if EDGES_S[i] in turns_s:
            is_warm = not is_warm
            if is_warm:
                cost += reaching * capacity.RESTART_SHARE * patience_s
        after = reaching - weights[i]
        if is_warm:
            cost += (EDGES_S[i + 1] - EDGES_S[i]) * (after + weights[i] / 2)
        else:
            cost += weights[i] * patience_s
        reaching = after
    return cost + weights[-1] * patience_s


@given(
    st.lists(st.floats(0, 10), min_size=BINS, max_size=BINS),
    st.floats(1, 1e6),
    st.sets(st.sampled_from(EDGES_S[1:]), max_size=6),
)
def test_no_schedule_is_cheaper_than_the_planned_one(
    weights: list[float], patience_s: float, other: set[float]
) -> None:
    turns = plan_turns(weights, patience_s)
    assert list(turns) == sorted(set(turns))
    planned = cost_of(turns, weights, patience_s)
    assert planned <= cost_of(sorted(other), weights, patience_s) * (1 + 1e-9) + 1e-6


def test_a_plan_ends_cold() -> None:
    assert len(plan_turns([1.0] * BINS, 100.0)) % 2 == 1
