"""From tallies to one table and one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.simulate.policies import REFERENCE
from bench.simulate.replay import Tally
from bench.simulate.trace import Trace

OURS = "firelet"


def comparison(tallies: Mapping[str, Tally]) -> str:
    """What firelet's policy saves against the reference policy, in one sentence."""
    ours, other = tallies[OURS], tallies[REFERENCE.name]
    cold = _change(ours.cold_share, other.cold_share)
    idle = _change(ours.idle_gib_h, other.idle_gib_h)
    both = ours.cold_share < other.cold_share and ours.idle_gib_h < other.idle_gib_h
    verdict = "better on both" if both else "NOT better on both"
    return (
        f"{OURS} against {REFERENCE.name!r}: cold starts {cold}, idle memory-time {idle}: {verdict}"
    )


def print_report(console: Console, trace: Trace, tallies: Mapping[str, Tally]) -> None:
    """One row for each policy."""
    table = Table(
        title=f"{trace.invocations:,} invocations of {len(trace.functions):,} functions"
        f" over {trace.length_s / 3_600:.0f} h ({trace.source})",
        caption=f"{comparison(tallies)}.\nCold: found no idle environment and had to wait. Idle"
        " memory-time includes starting; total adds invocations.",
        box=box.SIMPLE,
    )
    table.add_column("policy")
    for heading in (
        "cold starts",
        "p99 start delay",
        "p99.9 start delay",
        "environments started",
        "idle GiB·h",
        "total GiB·h",
    ):
        table.add_column(heading, justify="right")
    for name, tally in tallies.items():
        table.add_row(
            name,
            f"{tally.cold_share:.3%}",
            f"{tally.delay_s(0.99) * 1_000:,.0f} ms",
            f"{tally.delay_s(0.999) * 1_000:,.0f} ms",
            f"{tally.starts:,}",
            f"{tally.idle_gib_h:,.1f}",
            f"{tally.total_gib_h:,.1f}",
            style="bold" if name == OURS else "",
        )
    console.print(table)


def save_json(path: Path, trace: Trace, tallies: Mapping[str, Tally]) -> None:
    """The same figures for programs."""
    document = {
        "trace": {
            "source": trace.source,
            "invocations": trace.invocations,
            "functions": len(trace.functions),
            "length_s": trace.length_s,
        },
        "policies": {
            name: {
                "cold_share": tally.cold_share,
                "start_delay_p99_s": tally.delay_s(0.99),
                "start_delay_p999_s": tally.delay_s(0.999),
                "environments_started": tally.starts,
                "idle_gib_h": tally.idle_gib_h,
                "total_gib_h": tally.total_gib_h,
            }
            for name, tally in tallies.items()
        },
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _change(ours: float, other: float) -> str:
    return "n/a" if not other else f"{ours / other - 1:+.0%}"
