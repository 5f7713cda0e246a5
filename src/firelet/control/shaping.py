"""The bandwidth of streamed responses, for those who want it as on AWS: a sink in front of a sink.

The first megabytes of a response pass as fast as they come, the rest at a rate. What is ahead of
it is sent all the same, and its source then paused until time has caught up: nothing is kept here.
Made by ``control.invoke`` when a rate is configured.
Source: AWS guide, "Bandwidth limits for response streaming": 6 MB, then 2 MB/s.
"""

from __future__ import annotations

import asyncio

from firelet.model import limits
from firelet.model.streaming import ResponseSink, StreamHead, StreamSource

_PAUSE_MIN_S = 0.005  # shorter ones cost more than they are worth


class ShapedSink:
    """Passes one response on to ``sink``, at ``bytes_per_s`` after the first ``free_bytes``. It is
    the source that ``sink`` sees."""

    def __init__(
        self, sink: ResponseSink, bytes_per_s: float, free_bytes: int = limits.STREAM_FREE_BYTES
    ) -> None:
        self._sink = sink
        self._bytes_per_s = bytes_per_s
        self._free_bytes = free_bytes
        self._loop = asyncio.get_running_loop()
        self._source: StreamSource
        self._sent_bytes = 0
        self._free_until = 0.0
        self._is_held_up = False  # by the sink
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        self._source = source
        self._sink.begin(head, self)

    def write(self, piece: bytes) -> None:
        was_free = self._sent_bytes <= self._free_bytes
        self._sent_bytes += len(piece)
        self._sink.write(piece)
        excess = self._sent_bytes - self._free_bytes
        if excess <= 0:
            return
        now = self._loop.time()
        if was_free:
            self._free_until = now
        due = self._free_until + excess / self._bytes_per_s
        if self._timer is None and due - now > _PAUSE_MIN_S:
            self._source.pause()
            self._timer = self._loop.call_at(due, self._on_time)

    def pause(self) -> None:
        self._is_held_up = True
        self._source.pause()

    def resume(self) -> None:
        self._is_held_up = False
        if self._timer is None:
            self._source.resume()

    def close(self) -> None:
        """The response has ended."""
        if self._timer is not None:
            self._timer.cancel()

    def _on_time(self) -> None:
        self._timer = None
        if not self._is_held_up:
            self._source.resume()
