"""How many environments of a function version should exist now, and which are too many.

A policy: no clock, no I/O. An idle environment is worth its memory while the wait that it may save
the next request is worth more; what is likely is read from how long it was idle before
(``control.demand``). For a function that is called at a steady period the answer is to stop it and
to start it again shortly before the next call. While demand rises, some are made ahead.
Called by the worker manager.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from firelet.control.demand import BINS, EDGES_S, Demand, Gaps

# Everything here is firelet's choice; AWS does not say how long it keeps an environment.
# One second of a request's waiting is worth so much idle memory. The scale of everything below:
# larger buys fewer cold starts with more memory. ``bench.simulate`` shows what it buys.
WAIT_WORTH_MIB_S = 400_000.0
# A wait is a nuisance however short it is: it counts as this much longer.
WAIT_FIXED_S = 0.25
# A start in vain costs a share of what a wait costs: CPU time, and INIT talks to other services.
RESTART_SHARE = 0.25
# While demand rises, so many more than are in flight, rounded down: with less, bursts wait for each
# start; with more, most are made in vain; and who calls once at a time needs one only. Never more
# at once than a host makes in a fraction of a second.
AHEAD_SHARE = 0.5
AHEAD_MAX = 50
# Memory gets dearer as it gets scarce, up to this factor.
PRESSURE_PRICE_MAX = 100.0
# Up to the first share of the host's memory there is none, at the second all that there can be.
EASY_SHARE = 0.5
FULL_SHARE = 0.9
# What counts at least as the memory of an idle environment: page tables, cgroup, sockets.
IDLE_MIN_MIB = 1.0

# What is assumed of a level before it has been seen, in gaps: mostly soon, else at any order of
# magnitude alike, else never. It weighs less than two real gaps.
_PRIOR_SOON = 0.5
_PRIOR_SPREAD = 0.8
_PRIOR_NEVER = 0.4
_PRIOR = (_PRIOR_SOON, *[_PRIOR_SPREAD / (BINS - 2)] * (BINS - 2), _PRIOR_NEVER)

# No environment stops sooner than this after it was used or made: nothing flaps.
SETTLE_S = 30.0
# Whoever asks at the time that was named must not be a rounding error too early.
ROUNDING_S = 1e-6
# A start takes longer than usual now and then; being early by as much costs little.
LEAD_FACTOR = 2.0
LEAD_MIN_S = 1.0
# Plans are made anew when so much more has been seen, at least after so many gaps.
_REPLAN_GROWTH = 1.25
_REPLAN_GAPS_MAX = 32
# Patience is rounded to quarters of an octave, so that noise in its parts makes no new plans.
_PATIENCE_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One function version. ``idle`` has since when each idle environment is idle, the longest
    first. ``start_s`` and ``idle_mib`` are measured: what a start takes with INIT, and
    the private memory of one idle environment. ``pressure`` on the host's memory is 0 to 1.
    However much it is worth, no environment is kept idle for longer than ``keep_max_s``."""

    demand: Demand
    starting: int
    busy: int
    idle: Sequence[float]
    start_s: float
    idle_mib: float
    floor: int = 0
    pressure: float = 0.0
    keep_max_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    """``start`` so many ahead, ``stop`` so many from the front of ``View.idle``; the answer may be
    another one at ``again_at`` though nothing happens until then."""

    start: int
    stop: int
    again_at: float


def decide(view: View, now: float) -> Decision:
    """What to start and to stop now."""
    demand = view.demand
    now += ROUNDING_S
    warm, again_at = _count_warm(view, now)
    if now < demand.rises_until() and view.keep_max_s > 0:
        warm = max(warm, _count_ahead(demand))
        again_at = min(again_at, demand.rises_until())
    wanted = max(demand.concurrency + warm, view.floor)
    missing = wanted - (view.starting + view.busy + len(view.idle))
    if missing >= 0:
        return Decision(missing, 0, again_at)
    stop = 0
    for since in view.idle[:-missing]:
        if now - since < SETTLE_S:
            again_at = min(again_at, since + SETTLE_S)
        else:
            stop += 1
    return Decision(0, stop, again_at)


def look_again_at(demand: Demand, now: float) -> float:
    """When to decide at the latest, after a request was answered at ``now``. In constant time, so
    that it can be asked for each request: a decision looks at every free level."""
    gaps = demand.gaps(demand.concurrency + 1)
    plan = gaps.plan
    if not isinstance(plan, _Plan) or gaps.seen >= plan.valid_until:
        return now + SETTLE_S
    return now + max(plan.turns_s[0], SETTLE_S)


def _count_warm(view: View, now: float) -> tuple[int, float]:
    """How many of the free levels are worth an environment, and when that may change."""
    demand, patience_s, lead_s = view.demand, _patience_s(view), _lead_s(view)
    warm = 0
    again_at = math.inf
    for level in demand.free_levels():
        turns_s = _plan_for(demand.gaps(level), patience_s).turns_s
        since = demand.free_since(level)
        passed = bisect_right(turns_s, now - since)
        # Even turns stop, odd ones start, and starts are due ahead of their time.
        starting = passed if passed % 2 else passed - 1
        if starting < 0:
            warm_from = since
        elif starting < len(turns_s):
            warm_from = since + turns_s[starting] - lead_s
        else:
            warm_from = math.inf
        warm_to = warm_from + view.keep_max_s
        warm += warm_from <= now < warm_to
        for turn in range(passed, len(turns_s)):
            at = since + turns_s[turn] - (lead_s if turn % 2 else 0.0)
            if at > now:
                again_at = min(again_at, at)
                break
        if now < warm_to:
            again_at = min(again_at, warm_to)
    return warm, again_at


def _count_ahead(demand: Demand) -> int:
    """How many more than the present requests need, because demand rises."""
    return min(int(demand.concurrency * AHEAD_SHARE), AHEAD_MAX)


def pressure_of(used_share: float) -> float:
    """The pressure on memory of which so much is in use, 0 to 1."""
    return min(max((used_share - EASY_SHARE) / (FULL_SHARE - EASY_SHARE), 0.0), 1.0)


def _patience_s(view: View) -> float:
    """How many seconds of an idle environment are worth the wait that it saves."""
    wait = (WAIT_FIXED_S + view.start_s) * WAIT_WORTH_MIB_S
    price = min(1 / max(1 - view.pressure, 1e-9), PRESSURE_PRICE_MAX)
    return wait / (max(view.idle_mib, IDLE_MIN_MIB) * price)


def _lead_s(view: View) -> float:
    return max(LEAD_FACTOR * view.start_s, LEAD_MIN_S)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Ages of idleness at which a level turns: warm at first, then cold, then warm again ..."""

    turns_s: tuple[float, ...]
    patience: int
    valid_until: float


def _plan_for(gaps: Gaps, patience_s: float) -> _Plan:
    step = round(_PATIENCE_STEPS * math.log2(patience_s))
    plan = gaps.plan
    if isinstance(plan, _Plan) and plan.patience == step and gaps.seen < plan.valid_until:
        return plan
    weights = [seen + prior for seen, prior in zip(gaps.weights(), _PRIOR, strict=True)]
    review = min(gaps.seen * _REPLAN_GROWTH, gaps.seen + _REPLAN_GAPS_MAX)
    plan = _Plan(
        plan_turns(weights, 2 ** (step / _PATIENCE_STEPS)), step, max(review, gaps.seen + 1)
    )
    gaps.plan = plan
    return plan


def plan_turns(weights: Sequence[float], patience_s: float) -> tuple[float, ...]:
    """The cheapest schedule of warm and cold spans over the age of a gap, from its likely end.

    ``weights`` are by bin of ``demand.EDGES_S``. Cost is in weighted seconds of idleness; a request
    that meets no environment costs ``patience_s``. Worked out backwards: in each bin, being warm
    costs its length for the gaps that reach it, being cold costs a wait for those that end in it.
    """
    beyond = weights[-1]
    restart_s = RESTART_SHARE * patience_s
    warm_cost = cold_cost = beyond * patience_s  # "never" is not waited for
    stops = bytearray(BINS)
    starts = bytearray(BINS)
    stops[BINS - 1] = 1
    warm_cost = cold_cost
    for i in range(BINS - 2, -1, -1):
        # Here ``beyond`` is the weight of the gaps that are longer than this bin.
        weight = weights[i]
        length_s = EDGES_S[i + 1] - EDGES_S[i]
        warm_here = length_s * (beyond + weight / 2) + warm_cost
        cold_here = weight * patience_s + cold_cost
        beyond += weight
        restarted = warm_here + beyond * restart_s
        stops[i] = cold_here < warm_here
        starts[i] = restarted < cold_here
        warm_cost = min(warm_here, cold_here)
        cold_cost = min(cold_here, restarted)
    return _read_turns(stops, starts)


def _read_turns(stops: bytearray, starts: bytearray) -> tuple[float, ...]:
    turns = []
    is_warm = True
    for i in range(1, BINS):  # always warm in the first bin: see SETTLE_S
        if stops[i] if is_warm else starts[i]:
            turns.append(EDGES_S[i])
            is_warm = not is_warm
    return tuple(turns)
