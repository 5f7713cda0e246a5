"""The guest's end of the link to the platform: messages, and what is relayed over streams.

One thread and one ``epoll`` for everything. The port is written to without looking whether it takes
more: the platform always reads. What is read from a descriptor is read only when the stream has
credit for it, so nothing waits here to be sent.
Called by ``vm_init`` and ``vm_sandbox``.
"""

from __future__ import annotations

import os
import select
import socket
from typing import Any, Callable

from firelet.guest.vm_port import SerialPort, VsockPort
from firelet.linux import multiplex

_READ_BYTES = 65_536
# A request that waits for its answer when a snapshot is taken is sent again by the clone. What is
# longer is none that waits long: those are of a few lines.
_REPLAYED_MAX_BYTES = 65_536

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_ENDS = select.EPOLLHUP | select.EPOLLERR


class Loop:
    """Calls back who waits for a descriptor."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        self._poll.register(fd, events)
        self._callbacks[fd] = callback

    def change(self, fd: int, events: int) -> None:
        self._poll.modify(fd, events)

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def turn(self) -> None:
        """Waits for something to happen, and has it dealt with."""
        for fd, events in self._poll.poll():
            # It may have been closed by what was dealt with before it.
            callback = self._callbacks.get(fd)
            if callback is not None:
                callback(events)


class Link:
    """Owns ``port``. ``on_message`` gets messages, ``on_open`` streams that the platform opens."""

    def __init__(
        self,
        loop: Loop,
        port: SerialPort | VsockPort,
        on_message: Callable[[dict[str, Any]], None],
        on_open: Callable[[int, dict[str, Any]], None],
    ) -> None:
        self.loop = loop
        self.is_over = False
        self._port = port
        self._on_message = on_message
        self._on_open = on_open
        self._relays: dict[int, Relay] = {}
        self._held: list[Relay] = []
        self.mux = multiplex.Multiplexer(1)
        loop.watch(port.fd, _IN, self._read)

    def tell(self, **content: Any) -> None:
        self.mux.message(content)
        self.flush()

    def flush(self) -> None:
        data = memoryview(bytes(self.mux.outgoing))
        self.mux.outgoing.clear()
        while data:
            data = data[os.write(self._port.fd, data) :]

    def relay(self, relay: Relay, stream: int | None = None) -> None:
        """Begins to carry it, over a stream that the platform has opened or else a new one."""
        relay.begin(self, self.mux.open(relay.purpose) if stream is None else stream)
        self._relays[relay.stream] = relay
        self.flush()

    def forget(self, relay: Relay) -> None:
        if self._relays.get(relay.stream) is relay:
            del self._relays[relay.stream]
        if relay in self._held:
            self._held.remove(relay)

    def rest(self) -> None:
        """Nothing is said and nothing is relayed until the platform speaks again, to this machine
        or to a clone of it: it begins anew then, and so do all streams."""
        self.tell(event="resting")
        relays = list(self._relays.values())
        self._relays.clear()
        self.mux = multiplex.Multiplexer(1)
        frames: list[multiplex.Frame] = []
        while not frames:
            frames = list(self.mux.feed(self._read_at_rest()))
        self._held = [
            relay for relay in relays if relay.is_request and not relay.has_too_long_request
        ]
        for relay in self._held:
            relay.hold()
        self._deal_with(frames[0])
        for relay in relays:
            if relay.is_kept and not relay.is_request:
                self.relay(relay)
            elif not relay.is_kept or relay.has_too_long_request:
                relay.close()
        for frame in frames[1:]:
            self._deal_with(frame)
        self.flush()

    def reopen(self) -> None:
        """After a rest, once the platform is ready for the requests that wait for their answers."""
        held, self._held = self._held, []
        for relay in held:
            self.relay(relay)

    def _read_at_rest(self) -> bytes:
        """Waits. In a clone the connection may be another one."""
        try:
            data = os.read(self._port.fd, _READ_BYTES)
        except ConnectionError:
            data = b""
        if not data:
            self.loop.forget(self._port.fd)
            self._port.renew()
            self.loop.watch(self._port.fd, _IN, self._read)
        return data

    def _read(self, _events: int) -> None:
        data = os.read(self._port.fd, _READ_BYTES)
        if not data:
            self.is_over = True  # the platform has gone
        for frame in self.mux.feed(data):
            self._deal_with(frame)
        self.flush()

    def _deal_with(self, frame: multiplex.Frame) -> None:
        if frame.kind == multiplex.MESSAGE:
            self._on_message(frame.content)
        elif frame.kind == multiplex.OPEN:
            self._on_open(frame.stream, frame.content)
        else:
            relay = self._relays.get(frame.stream)
            if relay is not None:
                relay.take(frame)


class Relay:
    """Between one descriptor, which it owns, and one stream. ``purpose`` tells the platform what
    the stream is for; ``before_data`` is called before what was read is sent.

    A pipe is only read. What ``is_kept`` outlives a snapshot: in a clone it is carried by another
    stream, on which the request that waits for its answer is sent once more.
    """

    def __init__(
        self,
        fd: int,
        purpose: dict[str, Any],
        *,
        is_kept: bool = False,
        before_data: Callable[[], None] | None = None,
    ) -> None:
        self.purpose = purpose
        self.is_kept = is_kept
        self.stream = 0
        self._fd = fd
        self._before_data = before_data
        self._waiting = bytearray()  # to be written to the descriptor
        self._unanswered = bytearray()
        self._has_read_all = False
        self._has_all = False
        self._events = 0
        self._link: Link
        os.set_blocking(fd, False)

    @property
    def is_request(self) -> bool:
        """Whether it is kept, and may have a request that waits for its answer."""
        return self.is_kept and self._is_two_way

    @property
    def has_too_long_request(self) -> bool:
        """Whether it waits for the answer to a request that cannot be sent again. Whoever made it
        is to see that the connection is lost."""
        return len(self._unanswered) > _REPLAYED_MAX_BYTES

    def begin(self, link: Link, stream: int) -> None:
        self._link = link
        self.stream = stream
        self._look_again()
        if self._unanswered:
            link.mux.send(stream, bytes(self._unanswered))
        if self._has_read_all:
            link.mux.end(stream)

    def hold(self) -> None:
        """It has no stream for a while: its old number may be another's."""
        self.stream = 0
        self._look_again()

    def take(self, frame: multiplex.Frame) -> None:
        """What came on its stream."""
        if frame.kind == multiplex.DATA:
            self._unanswered.clear()
            self._waiting += frame.content
            self._write()
        elif frame.kind == multiplex.END:
            self._has_all = True
            if self._is_two_way:
                self._write()
        elif frame.kind == multiplex.RESET:
            self.close()
        else:
            self._look_again()

    def close(self) -> None:
        self._link.forget(self)
        self._link.loop.forget(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _give_up(self) -> None:
        self._link.mux.reset(self.stream)
        self._link.flush()
        self.close()

    def _on_ready(self, events: int) -> None:
        if events & _OUT:
            self._write()
        if self._fd >= 0 and events & (_IN | _ENDS):
            self._read()

    def drain(self) -> None:
        """Sends what can be read now: before something that comes after it is told."""
        while self._fd >= 0 and not self._has_read_all and self._read():
            continue

    def _read(self) -> bool:
        """Sends what can be read at once; whether there was something."""
        credit = self._link.mux.credit(self.stream)
        if not credit or self._has_read_all:
            # An end of both sides is told whether or not it was asked for.
            self._look_again()
            return False
        try:
            data = os.read(self._fd, min(credit, _READ_BYTES))
        except BlockingIOError:
            return False
        except OSError:
            self._give_up()
            return False
        if data:
            self._note_unanswered(data)
            if self._before_data is not None:
                self._before_data()
            self._link.mux.send(self.stream, data)
            if credit == len(data):
                self._look_again()
        else:
            self._has_read_all = True
            self._link.mux.end(self.stream)
            self._look_again()
            self._close_if_over()
        self._link.flush()
        return bool(data)

    def _note_unanswered(self, data: bytes) -> None:
        if self.is_request and not self.has_too_long_request:
            self._unanswered += data

    def _write(self) -> None:
        written = 0
        try:
            while self._waiting:
                count = os.write(self._fd, self._waiting)
                del self._waiting[:count]
                written += count
        except BlockingIOError:
            pass  # the rest when it can be written
        except OSError:
            self._give_up()
            return
        if written:
            self._link.mux.consume(self.stream, written)
        if not self._waiting and self._has_all:
            self._shut_down()
            self._close_if_over()
        if self._fd >= 0:
            self._look_again()

    def _shut_down(self) -> None:
        """Tells who reads the connection that nothing more comes."""
        try:
            with socket.socket(fileno=os.dup(self._fd)) as connection:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has been closed by its owner, or is none

    def _close_if_over(self) -> None:
        if self._has_read_all and (self._has_all or not self._is_two_way):
            self.close()

    @property
    def _is_two_way(self) -> bool:
        return self.purpose["for"] in ("api", "connect")

    def _look_again(self) -> None:
        """Waits for what can be done with it now, and for nothing else."""
        if self._fd < 0:
            return
        events = _OUT if self._waiting else 0
        if not self._has_read_all and self._link.mux.credit(self.stream):
            events |= _IN
        if events == self._events:
            return
        if not events:
            # Ends are told in any case, again and again: so it is not watched at all.
            self._link.loop.forget(self._fd)
        elif not self._events:
            self._link.loop.watch(self._fd, events, self._on_ready)
        else:
            self._link.loop.change(self._fd, events)
        self._events = events
