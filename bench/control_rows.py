"""The control plane's figures as rows of the report, and what is aimed at."""

from __future__ import annotations

from bench.control import FEW, VERSIONS, ControlPlane
from bench.rows import Limit, Row, percentile

READ_GOAL_MS = Limit(1, is_at_most=True)
WRITE_GOAL_MS = Limit(10, is_at_most=True)
GROWTH_GOAL = Limit(1.5, is_at_most=True)
START_GOAL_S = Limit(2, is_at_most=True)


def make_control_rows(measured: ControlPlane) -> list[Row]:
    """Each operation with many functions; how they grow; start-up."""
    many = f"{measured.many:,} functions"
    rows = []
    for kind, figures, goal in (
        ("reads", measured.reads, READ_GOAL_MS),
        ("writes", measured.writes, WRITE_GOAL_MS),
    ):
        for name, found in figures.items():
            value = percentile(sorted(found.many_ms), 0.5)
            note = f"{many}; {found.floors:.1f} floors; {len(found.many_ms)} calls"
            rows.append(Row(f"{name}, p50", "ms", value, goal=goal, note=note))
        name, worst = max(figures.items(), key=lambda item: item[1].growth)
        label = f"{kind}, {many} / {FEW}, p50, the worst"
        rows.append(Row(label, "x", worst.growth, goal=GROWTH_GOAL, note=name))
    label, growth = f"{VERSIONS:,} versions / the first", measured.version_growth
    rows.append(Row(label, "x", growth, goal=GROWTH_GOAL, note="one update, one publication"))
    for count, samples in measured.starts_s.items():
        note = f"to the first answer; the worst of {len(samples)}: {max(samples):.2f} s"
        label, value = f"start-up with {count:,} functions, p50", percentile(sorted(samples), 0.5)
        rows.append(Row(label, "s", value, goal=START_GOAL_S, note=note))
    loads_s = sorted(measured.loads_s)
    rows.append(Row("of it, reading the functions, p50", "s", percentile(loads_s, 0.5)))
    return rows
