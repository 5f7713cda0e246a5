"""``firelet logs``: what a function wrote, and with ``-f`` what it writes next."""

from __future__ import annotations

import re
import sys
import time
from typing import Annotated, Any

import typer

from firelet.cli.endpoint import Endpoint, EndpointOption, error_code, find_endpoint, reach
from firelet.cli.failure import CliError
from firelet.cli.terminal import say

_POLL_S = 0.5
# An event may be stored a little later than its own time says: look back that far.
_LATE_MS = 2_000
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Function.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(metavar="TIME", help="For example 30s, 10m, 2h.")] = "1h",
    endpoint: EndpointOption = None,
) -> None:
    """Print a function's logs."""
    target = find_endpoint(endpoint)
    start_ms = int(time.time() * 1_000) - parse_age(since) * 1_000
    with reach(target):
        group = _group_of(target, name)
        reader = LogReader(target.client("logs"), group, start_ms)
        count = reader.print_new()
        if not count and not follow:
            say(f"{name} has logged nothing in the last {since}")
        while follow:
            time.sleep(_POLL_S)
            reader.print_new()


def parse_age(text: str) -> int:
    """Seconds of ``30s``, ``10m``, ``2h`` or ``1d``."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise CliError(f"--since {text}: write it like 30s, 10m, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


class LogReader:
    """Prints each event of a log group once. ``client`` is a client of CloudWatch Logs."""

    def __init__(self, client: Any, group: str, start_ms: int) -> None:
        self._client = client
        self._group = group
        self._start_ms = start_ms
        self._printed: dict[str, int] = {}

    def print_new(self) -> int:
        """Prints what came since the last call, oldest first; returns how many events."""
        new = [event for event in self._read() if event["eventId"] not in self._printed]
        new.sort(key=lambda event: event["timestamp"])
        for event in new:
            self._printed[event["eventId"]] = event["timestamp"]
            print(event["message"].rstrip("\n"))
        sys.stdout.flush()
        if new:
            self._start_ms = max(self._start_ms, new[-1]["timestamp"] - _LATE_MS)
            self._printed = {key: at for key, at in self._printed.items() if at >= self._start_ms}
        return len(new)

    def _read(self) -> list[dict[str, Any]]:
        import botocore.exceptions as failures

        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group, startTime=self._start_ms
        )
        try:
            return [event for page in pages for event in page["events"]]
        except failures.ClientError as error:
            # The group is made with the first line.
            if error_code(error) != "ResourceNotFoundException":
                raise
            return []


def _group_of(endpoint: Endpoint, name: str) -> str:
    function = endpoint.client("lambda").get_function_configuration(FunctionName=name)
    group: str | None = function.get("LoggingConfig", {}).get("LogGroup")
    return group or f"/aws/lambda/{function['FunctionName']}"
