"""A server that takes Firecracker's API by its description and refuses what that does not allow.

The tables are written from the description by hand, apart from the messages that are tested. It
runs no machine: it keeps the state in which Firecracker would be, and what was asked of it.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

TEXT, NUMBER, FLAG, LIST = str, int, bool, list


class Shape:
    """``required`` and ``optional``: the type of each member, the words that it may be, or the
    shape of an object."""

    def __init__(self, required: dict[str, Any], optional: dict[str, Any] | None = None) -> None:
        self.required = required
        self.members = {**required, **(optional or {})}

    def fault_of(self, value: Any) -> str | None:
        if not isinstance(value, dict):
            return "not an object"
        for name in self.required:
            if name not in value:
                return f"missing field `{name}`"
        for name, member in value.items():
            if name not in self.members:
                return f"unknown field `{name}`"
            fault = _fault_of_member(self.members[name], member)
            if fault:
                return f"{name}: {fault}"
        return None


def _fault_of_member(kind: Any, value: Any) -> str | None:
    if isinstance(kind, Shape):
        return kind.fault_of(value)
    if isinstance(kind, tuple):
        return None if value in kind else f"unknown variant `{value}`"
    return None if type(value) is kind else f"not a {kind.__name__}"


DRIVE = Shape(
    {"drive_id": TEXT, "is_root_device": FLAG},
    {
        "partuuid": TEXT,
        "cache_type": ("Unsafe", "Writeback"),
        "is_read_only": FLAG,
        "path_on_host": TEXT,
        "io_engine": ("Sync", "Async"),
        "socket": TEXT,
    },
)
NETWORK = Shape({"iface_id": TEXT, "host_dev_name": TEXT}, {"guest_mac": TEXT, "mtu": NUMBER})
MACHINE = Shape(
    {"vcpu_count": NUMBER, "mem_size_mib": NUMBER},
    {"smt": FLAG, "track_dirty_pages": FLAG, "huge_pages": ("None", "Transparent", "2M")},
)
BOOT = Shape({"kernel_image_path": TEXT}, {"initrd_path": TEXT, "boot_args": TEXT})
VSOCK = Shape({"guest_cid": NUMBER, "uds_path": TEXT}, {"vsock_id": TEXT})
ACTION = Shape({"action_type": ("FlushMetrics", "InstanceStart", "SendCtrlAltDel")})
VM = Shape({"state": ("Paused", "Resumed")})
CREATE = Shape({"mem_file_path": TEXT, "snapshot_path": TEXT}, {"snapshot_type": ("Full", "Diff")})
LOAD = Shape(
    {"snapshot_path": TEXT},
    {
        "track_dirty_pages": FLAG,
        "mem_backend": Shape({"backend_type": ("File", "Uffd"), "backend_path": TEXT}),
        "resume_vm": FLAG,
        "network_overrides": LIST,
        "vsock_override": Shape({"uds_path": TEXT}),
        "clock_realtime": FLAG,
    },
)

# Method, path, body, and the state in which it is allowed.
OPERATIONS = (
    ("PUT", r"/boot-source", BOOT, "Not started"),
    ("PUT", r"/machine-config", MACHINE, "Not started"),
    ("PUT", r"/drives/(?P<drive_id>\w+)", DRIVE, "Not started"),
    ("PUT", r"/network-interfaces/(?P<iface_id>\w+)", NETWORK, "Not started"),
    ("PUT", r"/vsock", VSOCK, "Not started"),
    ("PUT", r"/entropy", Shape({}, {"rate_limiter": Shape({})}), "Not started"),
    ("PUT", r"/actions", ACTION, None),
    ("PATCH", r"/vm", VM, "started"),
    ("PUT", r"/snapshot/create", CREATE, "Paused"),
    ("PUT", r"/snapshot/load", LOAD, "Not started"),
)


class FakeFirecracker:
    """``open`` listens on ``path``. ``requests`` are what was accepted: method, path and body."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self.state = "Not started"
        self.requests: list[tuple[str, str, Any]] = []

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await self._read_head(reader):
            method, path, headers = head
            text = await reader.readexactly(int(headers.get("content-length", "0")))
            status, answer = self._answer(method, path, headers, text)
            body = b"" if answer is None else json.dumps(answer).encode()
            lines = f"HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
            if answer is not None:
                lines += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(lines.encode() + b"\r\n" + body)
        writer.close()

    async def _read_head(
        self, reader: asyncio.StreamReader
    ) -> tuple[str, str, dict[str, str]] | None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        method, path, _ = lines[0].split()
        pairs = (line.partition(":") for line in lines[1:] if line)
        return method, path, {name.lower(): value.strip() for name, _, value in pairs}

    def _answer(
        self, method: str, path: str, headers: dict[str, str], text: bytes
    ) -> tuple[int, Any]:
        if (method, path) == ("GET", "/"):
            info = {"app_name": "Firecracker", "id": "vm", "vmm_version": "1.17.0"}
            return 200, {**info, "state": self.state}
        for known, pattern, shape, state in OPERATIONS:
            found = re.fullmatch(pattern, path)
            if method == known and found:
                if headers.get("content-type") != "application/json":
                    return 400, {"fault_message": "the body is not JSON by its type"}
                fault = self._fault_of(shape, found.groupdict(), state, text)
                return (
                    (400, {"fault_message": fault}) if fault else self._accept(path, text, method)
                )
        return 400, {"fault_message": f"Invalid request method and/or path: {method} {path}."}

    def _fault_of(
        self, shape: Shape, names: dict[str, str], state: str | None, text: bytes
    ) -> str | None:
        body = json.loads(text)
        fault = shape.fault_of(body)
        if fault:
            return fault
        for name, value in names.items():
            if body[name] != value:
                return f"The id from the path does not match the id from the body: {name}"
        is_allowed = self.state != "Not started" if state == "started" else self.state == state
        if state is not None and not is_allowed:
            return f"The requested operation is not supported in the state {self.state}"
        return None

    def _accept(self, path: str, text: bytes, method: str) -> tuple[int, None]:
        body = json.loads(text)
        self.requests.append((method, path, body))
        if body.get("action_type") == "InstanceStart":
            self.state = "Running"
        elif path == "/vm":
            self.state = {"Paused": "Paused", "Resumed": "Running"}[body["state"]]
        elif path == "/snapshot/load":
            self.state = "Running" if body.get("resume_vm") else "Paused"
        return 204, None
