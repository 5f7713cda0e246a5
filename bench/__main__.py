"""``python -m bench``: measures, prints one table. Needs what ``firelet up`` needs."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.platforms import install_emulator
from bench.report import machine_facts, print_report, save_json
from bench.suite import FULL, QUICK, run_suite
from bench.workers import compare_workers, print_comparison

_ROUNDS = 5  # of a comparison
_QUICK_ROUNDS = 2
_PLAIN_WIDTH = 180  # of a log or a pipe, which has none


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, fewer cold calls")
    parser.add_argument(
        "--idle", type=int, metavar="N", help="idle environments to hold [1000, quick: 100]"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="compare one process with N worker processes, and nothing else",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--install-emulator",
        action="store_true",
        help="install AWS's runtime interface emulator for the comparison, and stop",
    )
    options = parser.parse_args()
    if options.install_emulator:
        install_emulator()
        return
    size = QUICK if options.quick else FULL
    if options.idle is not None:
        size = replace(size, idle=options.idle)
    facts = machine_facts()
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    with (
        tempfile.TemporaryDirectory(prefix="firelet-bench-") as scratch,
        Console(stderr=True).status("starting") as status,
    ):

        def on_step(step: str) -> None:
            status.update(f"measuring {step}")

        if options.workers is not None:
            rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
            rows = compare_workers(options.workers, size.load_s, rounds, Path(scratch), on_step)
            print_comparison(console, facts, options.workers, rows)
            return
        results = run_suite(size, Path(scratch), on_step)
    print_report(console, facts, results)
    if options.json is not None:
        save_json(options.json, facts, results)


if __name__ == "__main__":
    main()
