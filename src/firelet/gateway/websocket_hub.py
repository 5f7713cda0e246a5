"""The open WebSocket connections of this platform, by their ids."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass

from firelet.gateway.websocket_event import Peer
from firelet.gateway.websocket_frames import WebSocketStream

_ID_BYTES = 11  # 16 characters, the last of which fills up


@dataclass(frozen=True, slots=True, eq=False)
class OpenSocket:
    """One connection."""

    peer: Peer
    stream: WebSocketStream


class WebSocketHub:
    """Knows whom a message can be sent to."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSocket] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, socket: OpenSocket) -> None:
        self._open[socket.peer.connection_id] = socket

    def remove(self, connection_id: str) -> None:
        self._open.pop(connection_id, None)

    def find(self, api_id: str, stage: str, connection_id: str) -> OpenSocket | None:
        """Ids of other stages are not there."""
        socket = self._open.get(connection_id)
        if socket is None or (socket.peer.api_id, socket.peer.stage) != (api_id, stage):
            return None
        return socket

    def find_anywhere(self, connection_id: str) -> OpenSocket | None:
        """Of whatever API."""
        return self._open.get(connection_id)


def new_connection_id() -> str:
    """As AWS's look, and not to be guessed."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_ID_BYTES)).decode()
