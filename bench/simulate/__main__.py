"""``python -m bench.simulate``: keep-alive policies compared on a trace, in simulated time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.simulate.azure import read_trace
from bench.simulate.generate import generate
from bench.simulate.policies import all_policies
from bench.simulate.replay import Tally, replay
from bench.simulate.report import print_report, save_json

_PLAIN_WIDTH = 132  # of a log or a pipe, which has none


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, replays, reports."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn")
    parser.add_argument(
        "--azure", type=Path, metavar="FILE", help="invocations_per_function_md.anon.dXX.csv"
    )
    parser.add_argument(
        "--durations", type=Path, metavar="FILE", help="function_durations_percentiles.anon.dXX.csv"
    )
    parser.add_argument(
        "--sample", type=int, default=1_000, metavar="N", help="functions drawn from the file"
    )
    parser.add_argument(
        "--pressure", type=float, default=0.0, metavar="P", help="on memory, 0 to 1"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    if options.durations is not None and options.azure is None:
        parser.error("--durations goes with --azure")
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    tallies: dict[str, Tally] = {}
    with Console(stderr=True).status("reading the trace") as status:
        if options.azure is None:
            trace = generate(seed=options.seed)
        else:
            try:
                trace = read_trace(options.azure, options.durations, options.sample, options.seed)
            except (OSError, ValueError) as error:
                parser.error(str(error))
        for policy in all_policies(options.pressure):
            status.update(f"replaying {policy.name}")
            tallies[policy.name] = replay(trace, policy)
    print_report(console, trace, tallies)
    if options.json is not None:
        save_json(options.json, trace, tallies)


if __name__ == "__main__":
    main()
