"""The platform's end of the link to a guest: messages and streams over one connected socket.

What it is: reading, writing and the rules of ``linux/multiplex`` on the event loop, and what
carries streams to descriptors of this host. What it is not: the meaning of messages
(``guest_channel``). A guest is not trusted: one that breaks the protocol, or has more under way
than it may, is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from firelet.linux import multiplex
from firelet.model.errors import PlatformError, SandboxEnded

# The least frames, of which so many bytes hold 9,000, keep the event loop for some 15 ms.
_READ_BYTES = 64 * 1024
_REASON_MAX = 500
# Of 64 streams all that they may have under way. A guest that does not read is not waited for.
UNSENT_MAX_BYTES = 64 * multiplex.WINDOW_BYTES


class GuestFault(PlatformError):
    """The guest could not do it, or does not keep to the protocol. The sentences are ours."""


class Carrier(Protocol):
    """Who takes what comes on a stream."""

    def take(self, frame: multiplex.Frame) -> None: ...
    def close(self) -> None:
        """The link is no more."""


class GuestLink:
    """Owns ``sock``, which is connected. ``on_open`` gives the carrier of a stream that the guest
    opens, or None for one that nobody wants; ``on_end`` is called once, when the guest has gone or
    was cut off."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any]], None],
        on_open: Callable[[int, dict[str, Any]], Carrier | None],
        on_end: Callable[[PlatformError], None],
    ) -> None:
        sock.setblocking(False)
        self.mux = multiplex.Multiplexer(2)
        self._socket = sock
        self._on_message = on_message
        self._on_open = on_open
        self._on_end = on_end
        self._carriers: dict[int, Carrier] = {}
        # Those too whose stream is over, while they have something to write: its number may have
        # been given to another by then.
        self._all_carriers: set[Carrier] = set()
        self._unsent = bytearray()
        self._is_open = True
        self._is_silent = False
        self._is_dealing = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._read)

    def tell(self, content: dict[str, Any]) -> None:
        """SandboxEnded when the guest has gone. Sent at once, or as soon as the guest reads."""
        if not self._is_open:
            raise SandboxEnded
        self.mux.message(content)
        self.flush()

    def open_stream(self, purpose: dict[str, Any], carrier: Callable[[int], Carrier]) -> int:
        """A stream of ours. SandboxEnded; GuestFault when the guest does not let go of old ones."""
        if not self._is_open:
            raise SandboxEnded
        try:
            stream = self.mux.open(purpose)
        except ValueError as error:
            raise GuestFault(f"The guest has {error}.") from None
        self._add(stream, carrier(stream))
        self.flush()
        return stream

    def forget(self, stream: int, carrier: Carrier) -> None:
        """It is done with its stream."""
        self._all_carriers.discard(carrier)
        if self._carriers.get(stream) is carrier:
            del self._carriers[stream]

    def give_up(self, stream: int) -> None:
        """A stream of ours that nobody wants any more."""
        carrier = self._carriers.get(stream)
        if carrier is not None:
            carrier.close()
            self.mux.reset(stream)
            self.flush()

    def flush(self) -> None:
        """Sends what the multiplexer has collected."""
        if self._is_dealing or self._is_silent or not self._is_open or not self.mux.outgoing:
            return  # while frames are dealt with, all that is said to them goes in one piece
        data, self.mux.outgoing = self.mux.outgoing, bytearray()
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > UNSENT_MAX_BYTES:
                self._end_soon(GuestFault("The guest does not read what it is sent."))
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end_soon(SandboxEnded(f"The guest cannot be reached: {error}"))
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._socket.fileno(), self._write)

    def say_no_more(self) -> None:
        """The guest has just been told to rest. What came after that it would take for the first
        word to who awakens, or each of its clones would; it is heard on."""
        self._is_silent = True

    def fall_silent(self) -> None:
        """The guest is about to be put to rest, and ends here: that is no news to anybody. Who is
        connected through it stays so until ``close``, and what they say is kept from it."""
        self._is_silent = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        """``on_end`` is not called for it. May be called again."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            for carrier in list(self._all_carriers):
                carrier.close()
            self._carriers.clear()

    def _add(self, stream: int, carrier: Carrier) -> None:
        self._carriers[stream] = carrier
        self._all_carriers.add(carrier)

    def _end_soon(self, error: PlatformError) -> None:
        """Who is just telling the guest something is not called back while it does so."""
        self._loop.call_soon(self._end, error)

    def _end(self, error: PlatformError) -> None:
        if self._is_open:
            self.close()
            self._on_end(error)

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(SandboxEnded(f"The guest cannot be reached: {error}"))
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket.fileno())

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(SandboxEnded(f"The guest cannot be reached: {error}"))
            return
        if not data:
            self._end(SandboxEnded("The guest has ended."))
            return
        self._is_dealing = True
        try:
            for frame in self.mux.feed(data):
                self._deal_with(frame)
                if not self._is_open:
                    return
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = repr(error)[:_REASON_MAX]
            self._end(GuestFault(f"The guest broke the protocol: {reason}"))
        finally:
            self._is_dealing = False
        self.flush()

    def _deal_with(self, frame: multiplex.Frame) -> None:
        if frame.kind == multiplex.MESSAGE:
            self._on_message(frame.content)
        elif frame.kind == multiplex.OPEN:
            carrier = self._on_open(frame.stream, frame.content)
            if carrier is None:
                self.mux.reset(frame.stream)
            else:
                self._add(frame.stream, carrier)
        else:
            known = self._carriers.get(frame.stream)
            if known is not None:
                known.take(frame)


class _Writing:
    """What is to be written to a non-blocking descriptor: at once, or when it can be. No more waits
    here than a stream has credit for."""

    def __init__(self, link: GuestLink, stream: int, fd: int) -> None:
        self._link = link
        self._stream = stream
        self._fd = fd
        self._waiting = bytearray()
        self._has_all = False
        self._loop = asyncio.get_running_loop()

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def write(self, data: bytes) -> None:
        """OSError when nobody can read it any more; then nothing waits any more either."""
        is_first = not self._waiting
        self._waiting += data
        if is_first:
            self._write_some()
            if self._waiting:
                self._loop.add_writer(self._fd, self._on_writable)

    def stop(self) -> None:
        if self._waiting:
            self._loop.remove_writer(self._fd)
            self._waiting.clear()

    def _write_some(self) -> None:
        waited = len(self._waiting)
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            pass  # the rest when it can be written
        except OSError:
            self._waiting.clear()
            raise
        finally:
            if not self._has_all:  # else its number may be another stream's
                self._link.mux.consume(self._stream, waited - len(self._waiting))

    def _on_writable(self) -> None:
        with contextlib.suppress(OSError):
            self._write_some()
        if not self._waiting:
            self._loop.remove_writer(self._fd)
            self.on_empty()
        self._link.flush()

    def on_empty(self) -> None:
        """All that waited has been written, or cannot be."""


class PipeCarrier(_Writing):
    """From a stream into a pipe, whose write end it owns. The guest is told at once that nothing
    comes the other way."""

    def __init__(self, link: GuestLink, stream: int, fd: int) -> None:
        super().__init__(link, stream, fd)
        os.set_blocking(fd, False)
        link.mux.end(stream)

    def take(self, frame: multiplex.Frame) -> None:
        if frame.kind == multiplex.DATA:
            with contextlib.suppress(OSError):  # nobody reads it any more: it is dropped
                self.write(frame.content)
        elif frame.kind in (multiplex.END, multiplex.RESET):
            self._has_all = True
            if self.is_empty:
                self.on_empty()

    def on_empty(self) -> None:
        if self._has_all:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            self.stop()
            self._link.forget(self._stream, self)
            os.close(self._fd)
            self._fd = -1


class SocketCarrier(_Writing):
    """Between a stream and a connected socket, which it owns."""

    def __init__(self, link: GuestLink, stream: int, sock: socket.socket) -> None:
        super().__init__(link, stream, sock.fileno())
        sock.setblocking(False)
        self._socket = sock
        self._is_reading = False
        self._has_read_all = False
        self._read_on()

    def take(self, frame: multiplex.Frame) -> None:
        if frame.kind == multiplex.DATA:
            try:
                self.write(frame.content)
            except OSError:
                self._give_up()
        elif frame.kind == multiplex.END:
            self._has_all = True
            if self.is_empty:
                self.on_empty()
        elif frame.kind == multiplex.RESET:
            self.close()
        else:
            self._read_on()

    def on_empty(self) -> None:
        if self._has_all and self._fd >= 0:
            with contextlib.suppress(OSError):  # its other end may be closed already
                self._socket.shutdown(socket.SHUT_WR)
            self._close_if_over()

    def close(self) -> None:
        if self._fd >= 0:
            self.stop()
            self._stop_reading()
            self._link.forget(self._stream, self)
            self._socket.close()
            self._fd = -1

    def _give_up(self) -> None:
        self._link.mux.reset(self._stream)
        self.close()

    def _close_if_over(self) -> None:
        if self._has_all and self._has_read_all and self.is_empty:
            self.close()

    def _read_on(self) -> None:
        if not self._is_reading and not self._has_read_all and self._fd >= 0:
            self._is_reading = True
            self._loop.add_reader(self._fd, self._read)

    def _stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    def _read(self) -> None:
        credit = self._link.mux.credit(self._stream)
        if not credit:
            self._stop_reading()  # until there is more
            return
        try:
            data = self._socket.recv(min(credit, _READ_BYTES))
        except BlockingIOError:
            return
        except OSError:
            self._give_up()
        else:
            if data:
                self._link.mux.send(self._stream, data)
            else:
                self._has_read_all = True
                self._stop_reading()
                self._link.mux.end(self._stream)
                self._close_if_over()
        self._link.flush()
