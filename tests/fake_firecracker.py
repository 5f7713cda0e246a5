"""Firecracker as far as its API goes: it runs no machine, and refuses what the real one would.

Requests are checked by ``firecracker_openapi`` and by the state that the machine would be in. Files
must be there when they are named, a snapshot is written and read, and the socket of vsock speaks
its protocol; the guest behind it echoes. Used as a server in the test's own process, and as a
program (``write_program``), which writes its requests to the file ``requests`` where it starts.

``Behaviour`` has it fail on demand. Source: Firecracker's documentation, and the order in which its
``rpc_interface`` allows requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import uffd_machine
from firecracker_openapi import ACTIONS_WHEN, OPERATIONS, Operation, fault_of

VERSION = "1.17.0"
_MEMORY = b"the memory of a guest"


@dataclass
class Behaviour:
    """``refuse``, ``die`` and ``hang`` are requests, such as ``PUT /vsock``, or ``start`` for the
    time before there is an API. ``deaf``: how many connections find no listener in the guest, -1
    for all. ``console``: written when the machine starts."""

    refuse: dict[str, str] = field(default_factory=dict)
    die: str = ""
    hang: str = ""
    deaf: int = 0
    console: str = "the guest's kernel\n"


class Refused(Exception):
    """400, with a sentence."""


class FakeFirecracker:
    """``open`` listens on ``path``; other paths are relative to ``home``. ``requests`` are what was
    accepted: method, path and body."""

    def __init__(
        self,
        path: str,
        home: Path | None = None,
        behaviour: Behaviour | None = None,
        die: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._home = home or Path(path).parent
        self._behaviour = behaviour or Behaviour()
        self._die = die
        self._servers: list[asyncio.Server] = []
        self._is_boot = False
        self._running = asyncio.Event()
        self.instance = "fake"
        self.state = "Not started"
        self.requests: list[tuple[str, str, Any]] = []
        self.parts: dict[str, Any] = {}  # by the path where they were put
        self.metadata: Any = None
        self._served: Any = None  # memory that comes from a page server, and the connection to it

    async def open(self) -> None:
        self._servers.append(await asyncio.start_unix_server(self._serve, self._path))

    async def close(self) -> None:
        self._running.set()
        for server in self._servers:
            server.close()
            await server.wait_closed()

    # The API's server.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _read_head(reader):
            method, path, headers = head
            text = await reader.readexactly(int(headers.get("content-length", "0")))
            name = f"{method} {path}"
            if self._behaviour.hang == name:
                await asyncio.Event().wait()
            if self._behaviour.die == name and self._die is not None:
                self._die()
            try:
                status, answer = await self._answer(method, path, headers, text)
            except Refused as refusal:
                status, answer = 400, {"fault_message": str(refusal)}
            body = b"" if answer is None else json.dumps(answer).encode()
            lines = f"HTTP/1.1 {status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n"
            if answer is not None:
                lines += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(lines.encode() + b"\r\n" + body)
            if status == 400 and path == "/snapshot/load" and self._die is not None:
                await writer.drain()
                self._die()  # as documented: the process may not be used any more
        writer.close()

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], text: bytes
    ) -> tuple[int, Any]:
        for operation in OPERATIONS:
            found = re.fullmatch(operation.path, path)
            if found and operation.method == method:
                break
        else:
            raise Refused(f"Invalid request method and/or path: {method} {path}.")
        if method == "GET":
            if text:
                raise Refused("GET request cannot have a body.")
            self._check_state(operation.when)
            return 200, self._describe(path)
        if headers.get("content-type") != "application/json":
            raise Refused("the body is not JSON by its type")
        if f"{method} {path}" in self._behaviour.refuse:
            raise Refused(self._behaviour.refuse[f"{method} {path}"])
        body = self._check(operation, found.groupdict(), text)
        await self._accept(operation, path, body)
        self.requests.append((method, path, body))
        return 204, None

    def _check(self, operation: Operation, names: dict[str, str], text: bytes) -> Any:
        try:
            body = json.loads(text)
        except ValueError as error:
            raise Refused(f"An error occurred when deserializing the json body: {error}") from None
        fault = fault_of(operation.body or "Any", body)
        if fault:
            raise Refused(f"An error occurred when deserializing the json body: {fault}.")
        for name, value in names.items():
            if body[name] != value:
                raise Refused(f"The id from the path does not match the id from the body: {name}")
        self._check_state(operation.when)
        return body

    def _check_state(self, when: str) -> None:
        is_new = self.state == "Not started"
        if when in ("started", "paused") and is_new:
            raise Refused("The requested operation is not supported before starting the microVM.")
        if when == "new" and not is_new:
            raise Refused("The requested operation is not supported after starting the microVM.")
        if when == "paused" and self.state != "Paused":
            raise Refused("Create snapshot error: the microVM is not paused.")

    def _describe(self, path: str) -> Any:
        if path == "/":
            info = {"app_name": "Firecracker", "id": self.instance, "vmm_version": VERSION}
            return {**info, "state": self.state}
        if path == "/version":
            return {"firecracker_version": VERSION}
        if path == "/mmds":
            return self.metadata
        if path == "/balloon/statistics":
            if not self._part("/balloon").get("stats_polling_interval_s"):
                raise Refused("The statistics are not enabled.")
            mib = self._part("/balloon")["amount_mib"]
            pages = mib * 256
            target = {"target_pages": pages, "actual_pages": pages, "target_mib": mib}
            return {**target, "actual_mib": mib, "free_memory": 1 << 20, "of_a_later_version": 1}
        if path == "/machine-config":
            default = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False}
            return {"track_dirty_pages": False, **self.parts.get(path, default)}
        return self._part(path)

    def _part(self, path: str) -> Any:
        if path not in self.parts:
            raise Refused(f"There is no {path}.")
        return self.parts[path]

    # What requests do.

    async def _accept(self, operation: Operation, path: str, body: Any) -> None:
        if path == "/actions":
            await self._act(body["action_type"])
        elif path == "/vm":
            self._set_running(body["state"] == "Resumed")
        elif path == "/snapshot/create":
            self._save(body)
        elif path == "/snapshot/load":
            await self._load(body)
        elif path == "/mmds":
            self._change_metadata(operation.method, body)
        elif operation.method == "PATCH":
            self._change(path, body)
        else:
            self._put(operation, path, body)

    async def _act(self, action: str) -> None:
        self._check_state(ACTIONS_WHEN[action])
        if action == "FlushMetrics":
            self._write_metrics()
        elif action == "InstanceStart":
            if "/boot-source" not in self.parts:
                raise Refused("Start microvm error: the boot source is missing.")
            await self._start()
            self._set_running(True)

    def _put(self, operation: Operation, path: str, body: Any) -> None:
        for name in ("kernel_image_path", "initrd_path", "path_on_host"):
            if name in body:
                self._open(body[name])
        for name in ("log_path", "metrics_path"):
            if name in body:
                with self._place(body[name]).open("rb+", buffering=0) as file:
                    file.write(b"the log begins\n" if name == "log_path" else b"")
        if path == "/metrics" and path in self.parts:
            raise Refused("Metrics error: the metrics system is already initialized.")
        self._is_boot = self._is_boot or operation.is_boot
        self.parts[path] = body

    def _change(self, path: str, body: Any) -> None:
        if path.startswith("/balloon"):
            self._part("/balloon").update(body)
            return
        if "path_on_host" in body:
            self._open(body["path_on_host"])
        self._part(path).update(body)

    def _change_metadata(self, method: str, body: Any) -> None:
        if method == "PATCH" and self.metadata is None:
            raise Refused("The MMDS data store is not initialized.")
        if method == "PUT":
            self.metadata = body
            return
        for name, value in body.items():
            self.metadata.pop(name, None)
            if value is not None:
                self.metadata[name] = value

    def _save(self, body: Any) -> None:
        size = self._part("/machine-config")["mem_size_mib"] << 20
        self._place(body["snapshot_path"]).write_text(json.dumps(self.parts))
        with self._place(body["mem_file_path"]).open("wb") as memory:
            memory.write(_MEMORY)
            memory.truncate(size)

    async def _load(self, body: Any) -> None:
        if self._is_boot:
            raise Refused("Loading a microVM snapshot not allowed after configuring resources.")
        if ("mem_backend" in body) == ("mem_file_path" in body):
            raise Refused("either mem_backend or mem_file_path must be there")
        self._open(body["snapshot_path"])
        self.parts = json.loads(self._place(body["snapshot_path"]).read_text())
        self._load_memory(body["mem_backend"])
        for path, part in self.parts.items():
            if path.startswith("/drives/"):
                self._open(part["path_on_host"])
        for override in body.get("network_overrides", []):
            name = f"/network-interfaces/{override['iface_id']}"
            self._part(name)["host_dev_name"] = override["host_dev_name"]
        await self._start()
        self._set_running(body.get("resume_vm", False))

    def _load_memory(self, backend: dict[str, str]) -> None:
        size = self._part("/machine-config")["mem_size_mib"] << 20
        memory = self._place(backend["backend_path"])
        if backend["backend_type"] == "Uffd":
            try:
                self._served = uffd_machine.have_served(str(memory), size, 1)
            except OSError as error:
                raise Refused(f"Load snapshot error: {error}") from None
            begin = self._served[1][0][: len(_MEMORY)]
        else:
            self._open(backend["backend_path"])
            if memory.stat().st_size != size:
                raise Refused("Load snapshot error: the memory file has another size.")
            begin = memory.read_bytes()[: len(_MEMORY)]
        if begin != _MEMORY:
            raise Refused("Load snapshot error: the memory is another one's.")

    async def _start(self) -> None:
        print(self._behaviour.console, end="", flush=True)
        if "/vsock" in self.parts:
            place = str(self._place(self.parts["/vsock"]["uds_path"]))
            self._servers.append(await asyncio.start_unix_server(self._serve_vsock, place))

    def _set_running(self, is_running: bool) -> None:
        self.state = "Running" if is_running else "Paused"
        if is_running:
            self._running.set()
        else:
            self._running.clear()

    def _place(self, path: str) -> Path:
        return self._home / path

    def _open(self, path: str) -> None:
        try:
            self._place(path).open("rb").close()
        except OSError as error:
            raise Refused(f"Unable to open {path}: {error}") from None

    def _write_metrics(self) -> None:
        path = self._part("/metrics")["metrics_path"]
        line = {"utc_timestamp_ms": 1, "vcpu": {"exit_io_in": 7, "more": 1}, "of_later": {}}
        with self._place(path).open("rb+", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    # The guest.

    async def _serve_vsock(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The muxer answers only what begins with CONNECT; the guest takes a connection when it
        runs, and says what it was called by."""
        line = await reader.readline()
        found = re.fullmatch(rb"CONNECT (\d{1,10})\n", line)
        await self._running.wait()
        if found and self._behaviour.deaf == 0:
            writer.write(b"OK 1073741824\nport %b\n" % found[1])
            while data := await reader.read(65_536):
                writer.write(data)
        elif self._behaviour.deaf > 0:
            self._behaviour.deaf -= 1
        writer.close()

    async def call_host(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that a program of the guest opens: OSError where nobody listens."""
        path = self._place(self._part("/vsock")["uds_path"])
        return await asyncio.open_unix_connection(f"{path}_{port}")


async def _read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = lines[0].split()
    pairs = (line.partition(":") for line in lines[1:] if line)
    return method, path, {name.lower(): value.strip() for name, _, value in pairs}


def write_program(directory: Path, behaviour: Behaviour | None = None) -> Path:
    """An executable in ``directory`` that is this file."""
    script = directory / "firecracker"
    command = [sys.executable, "-ISB", str(Path(__file__).resolve())]
    text = shlex.join([*command, "--behaviour", json.dumps(asdict(behaviour or Behaviour()))])
    script.write_text(f'#!/bin/sh\nexec {text} "$@"\n')
    script.chmod(0o755)
    return script


async def _run(arguments: argparse.Namespace) -> None:
    behaviour = Behaviour(**json.loads(arguments.behaviour))
    print("Running Firecracker v" + VERSION, flush=True)
    if behaviour.die == "start":
        print("the configuration cannot be used", flush=True)
        sys.exit(153)
    if behaviour.hang == "start":
        await asyncio.Event().wait()
    if Path(arguments.api_sock).exists():
        sys.exit("the API's socket is there already")
    fake = FakeFirecracker(
        arguments.api_sock,
        Path(),
        behaviour,
        die=lambda: os.kill(os.getpid(), signal.SIGKILL),
    )
    fake.instance = arguments.id
    fake.requests = _Journal()
    await fake.open()
    await asyncio.Event().wait()


class _Journal(list[tuple[str, str, Any]]):
    def append(self, request: tuple[str, str, Any]) -> None:
        super().append(request)
        with open("requests", "a") as file:
            file.write(json.dumps(request) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--behaviour", required=True)
    parser.add_argument("--version", action="version", version=f"Firecracker v{VERSION}\n\n")
    parser.add_argument("--id", required=True)
    parser.add_argument("--api-sock", required=True)
    asyncio.run(_run(parser.parse_args()))
