"""The Logs API: what CloudWatch Logs' clients need to keep and read the logs of functions.

What it is: operations over ``observe.logs``. What it is not: metric filters, subscriptions, Logs
Insights or Live Tail.

Source: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/
"""

from __future__ import annotations

import time
from collections.abc import Callable

from firelet.frontend.logs_events import LogEventOperations
from firelet.frontend.logs_groups import LogGroupOperations
from firelet.frontend.operations import Operations
from firelet.observe.logs import LogStore


class LogsOperations:
    """All of the Logs API that firelet serves."""

    def __init__(self, logs: LogStore, clock: Callable[[], float] = time.time) -> None:
        self._families = (LogGroupOperations(logs, clock), LogEventOperations(logs, clock))

    def register(self, operations: Operations) -> None:
        for family in self._families:
            family.register(operations)
