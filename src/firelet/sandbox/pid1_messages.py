"""What the platform says to pid 1 of a sandbox (``guest/pid1``), as messages, and how it hears of
ends. The same for a sandbox of this host and for one in a machine's guest. Pure.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from firelet.model import limits
from firelet.model.errors import FileSystemMountFailure, PlatformError
from firelet.model.layout import NODE_EMBRYO
from firelet.sandbox.driver import ExtensionStart, LaunchFailure, RuntimeExit, RuntimeStart
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.rootfs import HOSTNAME, START_ENVIRONMENT


@dataclass(frozen=True, slots=True)
class Preload:
    """A runtime process to start in the embryo; it waits there for its function."""

    arguments: tuple[str, ...] = ()  # none: the Python client that the zygote has loaded
    environment: Mapping[str, str] = field(default_factory=dict)

    def message(self) -> dict[str, Any]:
        return {"arguments": self.arguments, "environment": dict(self.environment)}


def preload_of(interpreter: Interpreter) -> Preload | None:
    """The runtime process that is started in embryos; only these two can be."""
    if interpreter.family == "python":
        return Preload()
    if interpreter.family == "nodejs":
        return Preload(
            arguments=(f"/var/lang/{interpreter.executable}", NODE_EMBRYO),
            environment={**START_ENVIRONMENT, "PATH": "/var/lang/bin:/usr/bin:/bin"},
        )
    return None


def spawn_request(
    uid: int, *, is_rootless: bool, processes: int | None, preload: Preload | None
) -> dict[str, Any]:
    """For the zygote, which hands it to the new pid 1. ``processes`` limits what the user may have;
    None where that user has several sandboxes."""
    return {
        "rootless": is_rootless,
        "hostname": HOSTNAME,
        "port": limits.RUNTIME_API_PORT,
        "uid": uid,
        "gid": uid,
        "open_files": limits.OPEN_FILES_MAX,
        "processes": processes,
        "tmp_mib": limits.EPHEMERAL_MIN_MIB,
        "preload": None if preload is None else preload.message(),
    }


def assign_message(
    uid: int,
    *,
    code: str,
    layers: Sequence[str],
    image: Sequence[str],
    tmp_mib: int,
    file_systems: Sequence[tuple[str, str]] = (),
    data_bytes: int | None = None,
) -> dict[str, Any]:
    """``code``, ``layers`` and ``image`` are names below the hidden store; ``file_systems`` are
    (source there, path in the sandbox). ``data_bytes`` stands in for a memory control group."""
    return {
        "op": "assign",
        "code": code,
        "image": image,
        "layers": layers,
        "file_systems": file_systems,
        "tmp_mib": tmp_mib,
        "uid": uid,
        "gid": uid,
        "data_bytes": data_bytes,
    }


def start_message(start: RuntimeStart) -> dict[str, Any]:
    return {
        "op": "start",
        "environment": dict(start.environment),
        "arguments": start.arguments,
        "plain": start.plain,
        "name": start.name,
        "directory": start.directory,
        "image": start.is_image,
    }


def extension_message(start: ExtensionStart) -> dict[str, Any]:
    return {
        "op": "extension",
        "name": start.name,
        "path": start.path,
        "environment": dict(start.environment),
    }


def parse_ending(message: Mapping[str, Any]) -> RuntimeExit:
    """Pid 1's message ``exited``. Errors of many kinds for what cannot be one."""
    ending = parse_wait_status(message["status"])
    failure = message.get("launch")
    if failure is None:
        return ending
    return RuntimeExit(
        ending.code, ending.signal, launch_failure=msgspec.convert(failure, LaunchFailure)
    )


def parse_wait_status(status: int) -> RuntimeExit:
    if os.WIFSIGNALED(status):
        return RuntimeExit(None, os.WTERMSIG(status))
    return RuntimeExit(os.WEXITSTATUS(status), None)


def step_error(step: str) -> PlatformError:
    """What the caller is told of a step that failed; it begins with the step's name."""
    if step.startswith("mount_file_systems"):
        return FileSystemMountFailure(f"The function couldn't mount its file system: {step}")
    return PlatformError(f"A sandbox failed at: {step}")
