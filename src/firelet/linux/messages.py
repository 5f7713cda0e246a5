"""Messages with file descriptors over a SOCK_SEQPACKET socket: JSON text plus SCM_RIGHTS.

One message is one packet; the kernel keeps the borders, so nothing has to be framed.
Source: unix(7). ``socket.send_fds`` exists from Python 3.9 on only.
"""

from __future__ import annotations

import array
import json
import socket
from typing import Any, Sequence

MESSAGE_MAX_BYTES = 192 * 1024  # below the default of net.core.wmem_max (212,992)
_FDS_MAX = 16


def send(channel: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Sends one message; the descriptors are duplicated into the receiver."""
    data = json.dumps(message, separators=(",", ":")).encode()
    ancillary = (
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())] if fds else []
    )
    channel.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Receives one message and its descriptors, closed on exec. EOFError when the peer is gone."""
    data, ancillary, flags, _ = channel.recvmsg(
        MESSAGE_MAX_BYTES, socket.CMSG_SPACE(_FDS_MAX * 4), socket.MSG_CMSG_CLOEXEC
    )
    fds = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    if not data:
        raise EOFError("the other end of the channel is closed")
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise OSError("a message on the channel was cut short")
    return json.loads(data), list(fds)
