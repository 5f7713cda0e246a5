"""Firecracker's API over its Unix socket.

Written from the public description and tested against a server that checks requests by it
(``tests/fake_firecracker.py``); it has not met a real Firecracker (``docs/firecracker.md``).
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent
from firelet.wire.client import ClientResponse, HttpClient

ANSWER_TIMEOUT_S = 10.0
# A snapshot is answered when the memory has been written.
SNAPSHOT_TIMEOUT_S = 120.0
# The kernel's for an address of a Unix socket, less the byte at its end.
SOCKET_PATH_MAX_BYTES = 107

_Answer = TypeVar("_Answer")


class FirecrackerClient:
    """One machine's API. Requests wait for each other. VmmRefused with Firecracker's own reason,
    VmmEnded when it cannot be reached, VmmSilent when it does not answer."""

    def __init__(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        if len(path.encode()) > SOCKET_PATH_MAX_BYTES:
            raise ValueError(f"a socket's path has at most {SOCKET_PATH_MAX_BYTES} bytes: {path}")
        self._timeout_s = timeout_s
        self._http = HttpClient("localhost", 80, response_s=None, unix_path=path)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.close()

    async def send(self, request: api.Request) -> None:
        """msgspec.ValidationError for a value that the description forbids; nothing is sent."""
        body = api.encode(request)
        is_snapshot = isinstance(request, api.SnapshotCreate | api.SnapshotLoad)
        timeout_s = max(self._timeout_s, SNAPSHOT_TIMEOUT_S) if is_snapshot else self._timeout_s
        await self._ask(request.method, request.target, body, timeout_s)

    async def describe(self) -> api.InstanceInfo:
        return await self._fetch("/", api.InstanceInfo)

    async def version(self) -> str:
        return (await self._fetch("/version", api.Version)).firecracker_version

    async def machine(self) -> api.MachineConfiguration:
        return await self._fetch("/machine-config", api.MachineConfiguration)

    async def balloon(self) -> api.Balloon:
        return await self._fetch("/balloon", api.Balloon)

    async def balloon_statistics(self) -> api.BalloonStatistics:
        return await self._fetch("/balloon/statistics", api.BalloonStatistics)

    async def metadata(self) -> Any:
        """What the metadata service serves."""
        return await self._fetch("/mmds", dict[str, Any])

    async def set_metadata(self, content: dict[str, Any]) -> None:
        await self._ask("PUT", "/mmds", api.encode_metadata(content), self._timeout_s)

    async def change_metadata(self, content: dict[str, Any]) -> None:
        """As a JSON merge patch (RFC 7396)."""
        await self._ask("PATCH", "/mmds", api.encode_metadata(content), self._timeout_s)

    async def _fetch(self, path: str, kind: type[_Answer]) -> _Answer:
        answer = await self._ask("GET", path, b"", self._timeout_s)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            raise VmmRefused("Protocol", str(error)) from error

    async def _ask(self, method: str, path: str, body: bytes, timeout_s: float) -> ClientResponse:
        headers = [(b"Accept", b"application/json")]
        if body:
            headers.append((b"Content-Type", b"application/json"))
        try:
            async with self._turn, asyncio.timeout(timeout_s):
                answer = await self._http.request(method.encode(), path.encode(), headers, body)
        except TimeoutError as error:
            sentence = f"Firecracker has not answered {path} within {timeout_s:g} s."
            raise VmmSilent(sentence) from error
        except OSError as error:
            raise VmmEnded(f"Firecracker cannot be reached: {error}.") from error
        if answer.status not in (200, 204):
            raise VmmRefused(f"HTTP {answer.status}", _reason(answer.body))
        return answer


def _reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=api.Fault).fault_message
    except msgspec.DecodeError:
        return body.decode(errors="replace")
