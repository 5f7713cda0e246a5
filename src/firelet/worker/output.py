"""What one environment writes: its two pipes, read into log events, and the tail of a log.

Used by ``worker.slots``, which writes the platform's own lines through ``write`` as well.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from firelet.model import limits
from firelet.runtime.log_pipe import FrameSplitter, LineSplitter, LogPipe
from firelet.sandbox.driver import Sandbox

_SKEW_MAX_MS = 1_000  # more is a clock that was set back


class Output:
    """Reads the pipes of one sandbox; ``write_event`` takes one log event (timestamp in ms,
    message)."""

    def __init__(self, sandbox: Sandbox, write_event: Callable[[int, str], None]) -> None:
        self._sandbox = sandbox
        self._write_event = write_event
        self._standard = LogPipe(sandbox.output_fd, LineSplitter(self._on_line))
        self._records = LogPipe(sandbox.log_fd, FrameSplitter(self._on_line))
        # Tells of both pipes at once whether there is anything to read, which mostly there is not,
        # and in which order they were written to.
        self._pipes: select.epoll | None = None
        self._is_watched = False
        self._tail: list[str] | None = None
        self._written_ms = 0
        self._listener: Callable[[int, str], None] | None = None
        self._early: list[tuple[int, str]] | None = None

    def open(self) -> None:
        """Reads from now on whatever comes."""
        self._is_watched = True
        loop = asyncio.get_running_loop()
        self._pipes = select.epoll()
        for pipe in (self._standard, self._records):
            loop.add_reader(pipe.fd, self._on_pipe, pipe)
            self._pipes.register(pipe.fd, select.EPOLLIN)

    def write(self, timestamp_ms: int, message: str) -> None:
        # A record bears the time at which it was written, a line that at which it was read: one
        # that was written later may seem a little older.
        if 0 < self._written_ms - timestamp_ms < _SKEW_MAX_MS:
            timestamp_ms = self._written_ms
        self._written_ms = timestamp_ms
        self._write_event(timestamp_ms, message)
        if self._tail is not None:
            self._tail.append(message)

    def listen(self, listener: Callable[[int, str], None]) -> None:
        """Also hands what the function writes to ``listener`` (as ``write_event``)."""
        self._listener = listener

    def begin_init(self) -> None:
        """Keeps the first lines, for a listener that comes while INIT runs."""
        self._early = []

    def replay(self) -> None:
        """Hands the listener what was written since INIT began."""
        if self._early is not None and self._listener is not None:
            for timestamp_ms, message in self._early:
                self._listener(timestamp_ms, message)
        self._early = None

    def end_init(self) -> None:
        self._early = None

    def begin_tail(self, *, is_wanted: bool) -> None:
        """What is written from now on belongs to one invocation."""
        self._tail = [] if is_wanted else None

    def take_tail(self) -> bytes:
        """The last 4 KB of that invocation's log; nothing if it was not wanted."""
        tail, self._tail = self._tail, None
        return b"" if tail is None else "".join(tail).encode()[-limits.LOG_RESULT_BYTES :]

    def drain(self) -> None:
        """Takes in what the function has written so far, up to the last unfinished line."""
        if self._sandbox.output_fd < 0 or self._pipes is None:
            return
        # Twice if there was something: the kernel forgets only then that it was written to first.
        for _ in range(2):
            ready = self._pipes.poll(0)
            if not ready:
                break
            for fd, _events in ready:
                (self._records if fd == self._records.fd else self._standard).drain()
        for pipe in (self._records, self._standard):
            pipe.flush()

    def end_of_process(self) -> None:
        """Takes in the last of it; what the process left unfinished does not go on."""
        self.drain()
        for pipe in (self._records, self._standard):
            pipe.reset()

    def unwatch(self) -> None:
        """Before the pipes are closed: their numbers may be another sandbox's at once. May be
        called again, when they are."""
        if not self._is_watched:
            return
        self._is_watched = False
        loop = asyncio.get_running_loop()
        for pipe in (self._standard, self._records):
            loop.remove_reader(pipe.fd)

    def close(self) -> None:
        """After the sandbox has stopped. May be called again."""
        if self._pipes is not None:
            self._pipes.close()
            self._pipes = None

    def _on_line(self, timestamp_ms: int, message: str) -> None:
        """The function has written it."""
        if self._listener is not None:
            self._listener(timestamp_ms, message)
        if self._early is not None and len(self._early) < limits.TELEMETRY_BACKLOG_ITEMS:
            self._early.append((timestamp_ms, message))
        self.write(timestamp_ms, message)

    def _on_pipe(self, pipe: LogPipe) -> None:
        if not pipe.drain():
            asyncio.get_running_loop().remove_reader(pipe.fd)
