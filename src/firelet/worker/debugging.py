"""A debugger's way into a sandbox: how a runtime is started to wait for one, and the relay.

A sandbox has no network but its loopback interface. The relay listens on the host's loopback and
joins each connection to one inside, made through the sandbox's pid 1.
Source: debugpy's command line; Node.js's ``--inspect-brk``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, replace

from firelet.model.errors import InvalidParameterValue, PlatformError
from firelet.model.function import FunctionVersion
from firelet.model.layout import DEBUGGER_PATH, NODE_RUNTIME, PYTHON_BOOTSTRAP
from firelet.runtime.environment import runtime_family
from firelet.sandbox.driver import RuntimeStart, Sandbox

log = logging.getLogger(__name__)

DEBUG_TIMEOUT_S = 86_400  # of INIT and of the invocation: a person thinks meanwhile
_LOOPBACK = "127.0.0.1"
_PIECE = 65_536
_CONNECT_EVERY_S = 0.05
CONNECTIONS_MAX = 16  # debuggers open a few; each waiting one asks pid 1 for sockets


@dataclass(frozen=True, slots=True)
class Debugger:
    """What waits inside: its port there, the command that starts the runtime under it, and where
    its modules are."""

    name: str
    port: int
    command: tuple[str, ...]
    path: str = ""


def debugger_for(version: FunctionVersion) -> Debugger:
    """InvalidParameterValue for runtimes without one."""
    family = runtime_family(version.runtime)
    if family == "python":
        port = 5678
        command = (
            f"/var/lang/bin/{version.runtime}",
            "-Xfrozen_modules=off",
            *("-m", "debugpy", "--listen", f"{_LOOPBACK}:{port}", "--wait-for-client"),
            PYTHON_BOOTSTRAP,
        )
        return Debugger("debugpy", port, command, path=DEBUGGER_PATH)
    if family == "nodejs":
        port = 9229
        inspector = ("/var/lang/bin/node", f"--inspect-brk={_LOOPBACK}:{port}", NODE_RUNTIME)
        return Debugger("inspector", port, inspector)
    raise InvalidParameterValue(f"There is no debugger for the runtime {version.runtime}.")


def under_debugger(start: RuntimeStart, debugger: Debugger) -> RuntimeStart:
    """The same runtime, waiting for a debugger."""
    environment = dict(start.environment)
    if debugger.path:
        paths = [environment.get("PYTHONPATH", ""), debugger.path]
        environment["PYTHONPATH"] = ":".join(filter(None, paths))
    return replace(start, arguments=debugger.command, environment=environment)


class Relay:
    """Between a port of the host's loopback and one inside a sandbox."""

    def __init__(self, sandbox: Sandbox, inside: int) -> None:
        self._sandbox = sandbox
        self._inside = inside
        self._server: asyncio.Server | None = None
        self._joined = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def listen(self, port: int) -> int:
        """The port, which 0 leaves to the system. PlatformError when it is in use."""
        try:
            self._server = await asyncio.start_server(self._join, _LOOPBACK, port)
        except OSError as error:
            raise PlatformError(f"Port {port} of {_LOOPBACK}: {error.strerror}.") from None
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._joined >= CONNECTIONS_MAX:
            writer.close()
            return
        self._joined += 1
        self._writers.add(writer)
        try:
            inner = await self._connect(reader, writer)
            if inner is None:
                return
            inner_reader, inner_writer = inner
            self._writers.add(inner_writer)
            try:
                await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
            finally:
                inner_writer.close()
                self._writers.discard(inner_writer)
        except (OSError, PlatformError) as error:
            log.info("debugger's connection ended id=%s: %s", self._sandbox.id, error)
        finally:
            self._joined -= 1
            writer.close()
            self._writers.discard(writer)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A client may come before the debugger listens; it waits as long as the sandbox lives.
        None: the client has gone, or the relay is closed."""
        while not (writer.is_closing() or reader.at_eof()):
            try:
                inner = await self._sandbox.connect(self._inside)
            except ConnectionRefusedError:
                await asyncio.sleep(_CONNECT_EVERY_S)
                continue
            try:
                if inner.family == socket.AF_UNIX:
                    return await asyncio.open_unix_connection(sock=inner)
                return await asyncio.open_connection(sock=inner)
            except BaseException:
                inner.close()
                raise
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
    if not writer.is_closing():
        with contextlib.suppress(OSError, RuntimeError):  # uvloop's word for a closed one
            writer.write_eof()
