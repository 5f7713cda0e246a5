"""Firecracker's API over its Unix socket: one method for each request that firelet makes.

Written from the public description and tested against a server that checks requests by it; it has
not met a real Firecracker yet (``docs/microvm.md``). Not a ``Vmm`` yet.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec

from firelet.sandbox.microvm import firecracker_api as api
from firelet.sandbox.microvm.vmm import VmmEnded, VmmRefused, VmmSilent
from firelet.wire.client import ClientResponse, HttpClient

ANSWER_TIMEOUT_S = 30.0
# The kernel's for an address of a Unix socket, less the byte at its end.
SOCKET_PATH_MAX_BYTES = 107


class FirecrackerClient:
    """One machine's API. VmmRefused with Firecracker's own reason, VmmEnded when it cannot be
    reached, VmmSilent when it does not answer."""

    def __init__(self, path: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        if len(path.encode()) > SOCKET_PATH_MAX_BYTES:
            raise ValueError(f"a socket's path has at most {SOCKET_PATH_MAX_BYTES} bytes: {path}")
        self._timeout_s = timeout_s
        self._http = HttpClient("localhost", 80, response_s=timeout_s, unix_path=path)

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

    async def describe(self) -> api.InstanceInfo:
        answer = await self._request(b"GET", "/")
        try:
            return msgspec.json.decode(answer.body, type=api.InstanceInfo)
        except msgspec.DecodeError as error:
            raise VmmRefused("Protocol", str(error)) from error

    async def set_boot_source(self, source: api.BootSource) -> None:
        await self._request(b"PUT", "/boot-source", source)

    async def set_machine(self, machine: api.MachineConfiguration) -> None:
        await self._request(b"PUT", "/machine-config", machine)

    async def add_drive(self, drive: api.Drive) -> None:
        await self._request(b"PUT", f"/drives/{drive.drive_id}", drive)

    async def add_network_interface(self, interface: api.NetworkInterface) -> None:
        await self._request(b"PUT", f"/network-interfaces/{interface.iface_id}", interface)

    async def set_vsock(self, vsock: api.Vsock) -> None:
        await self._request(b"PUT", "/vsock", vsock)

    async def add_entropy(self) -> None:
        await self._request(b"PUT", "/entropy", api.EntropyDevice())

    async def start(self) -> None:
        await self._request(b"PUT", "/actions", api.InstanceAction(action_type="InstanceStart"))

    async def pause(self) -> None:
        await self._request(b"PATCH", "/vm", api.VmStateChange(state="Paused"))

    async def resume(self) -> None:
        await self._request(b"PATCH", "/vm", api.VmStateChange(state="Resumed"))

    async def create_snapshot(self, snapshot: api.SnapshotCreate) -> None:
        await self._request(b"PUT", "/snapshot/create", snapshot)

    async def load_snapshot(self, snapshot: api.SnapshotLoad) -> None:
        await self._request(b"PUT", "/snapshot/load", snapshot)

    async def _request(
        self, method: bytes, path: str, message: api.Message | None = None
    ) -> ClientResponse:
        body = b"" if message is None else api.encode(message)
        headers = [(b"Accept", b"application/json")]
        if message is not None:
            headers.append((b"Content-Type", b"application/json"))
        try:
            answer = await self._http.request(method, path.encode("ascii"), headers, body)
        except TimeoutError as error:
            sentence = f"Firecracker has not answered {path} within {self._timeout_s:g} s."
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
