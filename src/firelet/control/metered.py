"""The invoke path with its meter: counts what every invocation came to.

What it is: ``Invoker`` with one look before and one after. What it is not: the counters
(``observe.invocation_meter``). Made by ``app``.
"""

from __future__ import annotations

from firelet.control.counting import Counting, FunctionKey
from firelet.control.invoke import Invoker, Reservations
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.model.errors import TooManyRequests
from firelet.model.invocation import Invocation, Outcome
from firelet.observe.invocation_meter import InvocationMeter


class MeteredInvoker(Invoker):
    """An invoker whose invocations become metrics."""

    def __init__(
        self,
        manager: Manager,
        counting: Counting,
        reservations: Reservations,
        latencies: Latencies,
        meter: InvocationMeter,
        stream_bytes_per_s: float | None = None,
    ) -> None:
        super().__init__(manager, counting, reservations, latencies, stream_bytes_per_s)
        self._meter = meter

    async def invoke(
        self, invocation: Invocation, function_key: FunctionKey, reserved: int | None
    ) -> Outcome:
        row = self._meter.row(invocation, reserved is not None)
        row.enter()
        invocation.on_settled = row.settle
        try:
            outcome = await super().invoke(invocation, function_key, reserved)
        except TooManyRequests:
            row.refuse()
            raise
        except BaseException:
            row.leave(None)
            raise
        row.leave(outcome)
        return outcome
