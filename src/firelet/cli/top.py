"""``firelet top``: what runs now, refreshed every second.

Rates are differences between two readings of the platform's counters.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from firelet.cli.endpoint import Endpoint, EndpointOption, find_endpoint, reach
from firelet.cli.terminal import format_duration, print_table

if TYPE_CHECKING:
    # At run time only where it is needed: it brings in most of the platform.
    from rich.console import RenderableType

    from firelet.frontend.status import FunctionStatus, PlatformStatus

_REFRESH_S = 1.0
_NONE = "-"
_COLUMNS = (
    "FUNCTION",
    "STARTING",
    "BUSY",
    "IDLE",
    "FROZEN",
    "WANTED",
    "WAITING",
    "CALLS/S",
    "STARTS/S",
    "COLD",
    "P50",
    "P99",
    "ISOLATION",
)
_TEXTS = ("FUNCTION", "ISOLATION")


@dataclass(frozen=True, slots=True)
class Reading:
    """The platform's counters at one moment of this machine's monotonic clock."""

    at: float
    status: PlatformStatus


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counters as JSON and end.")
    ] = False,
    endpoint: EndpointOption = None,
) -> None:
    """Watch functions and their environments, until Ctrl-C. In a pipe: one table."""
    target = find_endpoint(endpoint)
    # Ctrl-C is the way to end this command, not a failure.
    with contextlib.suppress(KeyboardInterrupt), reach(target):
        if as_json:
            from firelet.frontend.status import STATUS_PATH

            print(target.page(STATUS_PATH).decode())
        elif once or not sys.stdout.isatty():
            before, now = _read_pair(target)
            print_table(_COLUMNS, make_rows(before, now))
        else:
            _watch(target)


def make_rows(before: Reading, now: Reading) -> list[list[str]]:
    """The table's cells, the busiest function first."""
    elapsed_s = now.at - before.at
    known = {_key(f): (f.invocations, f.started) for f in before.status.functions}
    worlds = {(function.account, function.region) for function in now.status.functions}
    rows = []
    for function in now.status.functions:
        invocations, started = known.get(_key(function), (0, 0))
        calls = _per_second(function.invocations, invocations, elapsed_s)
        starts = _per_second(function.started, started, elapsed_s)
        rows.append((-calls, _label(function, len(worlds) > 1), _cells(function, calls, starts)))
    return [[label, *cells] for _, label, cells in sorted(rows)]


def make_headline(before: Reading, now: Reading) -> str:
    """The sums over all functions."""
    functions = now.status.functions
    known = {_key(function): function.invocations for function in before.status.functions}
    elapsed_s = now.at - before.at
    calls = sum(_per_second(f.invocations, known.get(_key(f), 0), elapsed_s) for f in functions)
    held = sum(f.starting + f.busy + f.idle + f.frozen for f in functions)
    wanted = sum(f.wanted for f in functions)
    cold = _share(sum(f.cold for f in functions), sum(f.invocations for f in functions))
    machines = now.status.machines
    return (
        f"up {format_uptime(now.status.uptime_s)} · {held:,} environments ({wanted:,} wanted)"
        f" · {calls:,.0f} calls/s · {now.status.starts_per_s:,.1f} starts/s · {cold} cold"
        + (f" · microVMs by {machines}" if machines else "")
    )


def format_uptime(seconds: float) -> str:
    """``42s``, ``3m 05s``, ``2h 07m`` or ``5d 03h``."""
    whole = int(seconds)
    for unit, name, smaller, smaller_name in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // smaller:02d}{smaller_name}"
    return f"{whole}s"


def _watch(target: Endpoint) -> None:
    from rich.live import Live

    before, now = _read_pair(target)
    with Live(_draw(before, now), screen=True, auto_refresh=False) as live:
        for reading in _readings(target):
            before, now = now, reading
            live.update(_draw(before, now), refresh=True)


def _draw(before: Reading, now: Reading) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, expand=True)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in _TEXTS else "right", no_wrap=True)
    for row in make_rows(before, now):
        table.add_row(*(Text(cell) for cell in row))
    return Group(Text(make_headline(before, now), style="bold green"), Text(), table)


def _read_pair(target: Endpoint) -> tuple[Reading, Reading]:
    before = _read(target)
    return before, next(_readings(target))


def _readings(target: Endpoint) -> Iterator[Reading]:
    while True:
        time.sleep(_REFRESH_S)
        yield _read(target)


def _read(target: Endpoint) -> Reading:
    import msgspec

    from firelet.frontend.status import STATUS_PATH, PlatformStatus

    body = target.page(STATUS_PATH)
    return Reading(time.monotonic(), msgspec.json.decode(body, type=PlatformStatus))


def _key(function: FunctionStatus) -> tuple[str, str, str]:
    return (function.account, function.region, function.name)


def _label(function: FunctionStatus, has_worlds: bool) -> str:
    """The name, with account and region only where there is more than one of them."""
    return "/".join(_key(function)) if has_worlds else function.name


def _per_second(count: int, last: int, elapsed_s: float) -> float:
    """A counter that has shrunk was started again from nothing meanwhile."""
    return (count if count < last else count - last) / elapsed_s


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else _NONE


def _cells(function: FunctionStatus, calls: float, starts: float) -> Sequence[str]:
    latency = function.latency
    return (
        str(function.starting),
        str(function.busy),
        str(function.idle),
        str(function.frozen),
        str(function.wanted),
        str(function.waiting),
        f"{calls:,.1f}",
        f"{starts:,.1f}",
        _share(function.cold, function.invocations),
        format_duration(latency.p50_ms / 1_000) if latency else _NONE,
        format_duration(latency.p99_ms / 1_000) if latency else _NONE,
        ", ".join(function.isolation) or _NONE,
    )
