"""Makes up a trace by the shapes that are published of real ones. The same seed, the same trace.

Kinds and shares follow "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020): few functions
make nearly all invocations, about half of them are called once an hour or less, about a third are
timers, most executions are shorter than a second. It is made up all the same: for figures about
real traffic give a real trace.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.simulate.trace import DAY_S, Function, Trace

# Durations and costs: medians and spreads (sigma) of lognormal distributions.
_DURATION_MEDIAN_S, _DURATION_SIGMA = 0.4, 1.4
_DURATION_WITHIN_SIGMA = 0.4
_DURATION_MAX_S = 300.0
_START_MEDIAN_S, _START_SIGMA = 0.35, 0.7
_MEMORY_MEDIAN_MIB, _MEMORY_SIGMA = 120.0, 0.6

# Timers of this many minutes, by how often they are met.
_TIMER_MINUTES = (1, 5, 10, 15, 30, 60, 120, 360, 720)
_TIMER_WEIGHTS = (12, 25, 14, 16, 12, 14, 3, 2, 2)

# A day with two peaks: the rate as a factor of its mean, by hour. Mean about 1.
_PEAKS_H = (10.5, 20.0)
_PEAK_WIDTH_H = 2.5
_NIGHT_FACTOR = 0.4
_PEAK_FACTOR = 1.65

_THINNING_MAX = 2.1  # no hour's factor is higher


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """How many functions of each kind, and how often the busiest is called, each second."""

    popular: int = 60
    timers: int = 300
    rare: int = 500
    bursty: int = 60
    sessions: int = 80
    busiest_rps: float = 4.0


DEFAULT = Mix()
SMALL = Mix(popular=12, timers=60, rare=100, bursty=12, sessions=16, busiest_rps=0.3)


def generate(mix: Mix = DEFAULT, seed: int = 1, length_s: float = DAY_S) -> Trace:
    """A trace of all kinds of functions."""
    source = random.Random(seed)
    functions: list[Function] = []

    def add(kind: str, count: int, arrivals: Callable[[int], Iterator[float]]) -> None:
        for rank in range(count):
            function = _make(f"{kind}-{rank}", sorted(arrivals(rank)), source)
            functions.append(function)

    def zipf(rank: int) -> Iterator[float]:
        return _daily(mix.busiest_rps / (rank + 1), length_s, source)

    add("popular", mix.popular, zipf)
    add("timer", mix.timers, lambda _: _timer(length_s, source))
    add("rare", mix.rare, lambda _: _rare(length_s, source))
    add("bursty", mix.bursty, lambda _: _bursts(length_s, source))
    add("session", mix.sessions, lambda _: _sessions(length_s, source))
    return Trace(f"made up, seed {seed}", length_s, functions)


def _make(name: str, arrivals_s: list[float], source: random.Random) -> Function:
    durations_s = draw_durations(len(arrivals_s), source)
    start_s, memory_mib = draw_costs(source)
    return Function(
        name=name,
        start_s=start_s,
        memory_mib=memory_mib,
        arrivals_s=array("d", arrivals_s),
        durations_s=durations_s,
    )


def draw_durations(count: int, source: random.Random) -> array[float]:
    """How long the invocations of one function take: it has its own median."""
    median_s = _lognormal(_DURATION_MEDIAN_S, _DURATION_SIGMA, source)
    return array(
        "d",
        (
            min(_lognormal(median_s, _DURATION_WITHIN_SIGMA, source), _DURATION_MAX_S)
            for _ in range(count)
        ),
    )


def draw_costs(source: random.Random) -> tuple[float, float]:
    """What a start takes in seconds, and what an idle environment holds in MiB."""
    return (
        _lognormal(_START_MEDIAN_S, _START_SIGMA, source),
        _lognormal(_MEMORY_MEDIAN_MIB, _MEMORY_SIGMA, source),
    )


def day_factor(at_s: float) -> float:
    """The rate at this time of the day, of its mean."""
    hour = at_s / 3_600 % 24
    peaks = sum(math.exp(-(((hour - peak) / _PEAK_WIDTH_H) ** 2)) for peak in _PEAKS_H)
    return _NIGHT_FACTOR + _PEAK_FACTOR * peaks


def _daily(mean_rps: float, length_s: float, source: random.Random) -> Iterator[float]:
    """A Poisson process whose rate has two peaks a day, by thinning a faster one."""
    for at_s in _poisson(mean_rps * _THINNING_MAX, 0.0, length_s, source):
        if source.random() * _THINNING_MAX < day_factor(at_s):
            yield at_s


def _timer(length_s: float, source: random.Random) -> Iterator[float]:
    """A schedule, a few hundred milliseconds late each time."""
    (minutes,) = source.choices(_TIMER_MINUTES, _TIMER_WEIGHTS)
    period_s = minutes * 60.0
    at_s = source.uniform(0, period_s)
    while at_s < length_s:
        yield at_s + source.expovariate(5.0)
        at_s += period_s


def _rare(length_s: float, source: random.Random) -> Iterator[float]:
    """Calls by chance, from one in ten minutes to one in two days; half of them follow the day."""
    gap_s = 600 * 288 ** source.random()
    if source.random() < 0.5:
        return _daily(1 / gap_s, length_s, source)
    return _poisson(1 / gap_s, 0.0, length_s, source)


def _bursts(length_s: float, source: random.Random) -> Iterator[float]:
    """Nothing for half an hour to some hours, then up to hundreds of calls within seconds."""
    gap_s = source.uniform(1_800, 20_000)
    size = source.uniform(10, 300)
    for start_s in _poisson(1 / gap_s, 0.0, length_s, source):
        span_s = source.uniform(2, 120)
        for _ in range(int(size * source.uniform(0.5, 1.5))):
            at_s = start_s + source.triangular(0, span_s, span_s / 3)
            if at_s < length_s:
                yield at_s


def _sessions(length_s: float, source: random.Random) -> Iterator[float]:
    """People at work: calls some seconds to a minute apart for some minutes, then none."""
    gap_s = source.uniform(900, 14_400)
    think_s = source.uniform(3, 60)
    for start_s in _daily(1 / gap_s, length_s, source):
        end_s = min(start_s + source.expovariate(1 / 600), length_s)
        yield from _poisson(1 / think_s, start_s, end_s, source)


def _poisson(
    rate_rps: float, start_s: float, end_s: float, source: random.Random
) -> Iterator[float]:
    at_s = start_s + source.expovariate(rate_rps)
    while at_s < end_s:
        yield at_s
        at_s += source.expovariate(rate_rps)


def _lognormal(median: float, sigma: float, source: random.Random) -> float:
    return source.lognormvariate(math.log(median), sigma)
