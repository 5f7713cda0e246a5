"""Looks around in its sandbox and tells what it can see and touch."""

from __future__ import annotations

import os
import socket
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {
        "uid": os.getuid(),
        "hostname": socket.gethostname(),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in event["namespaces"]},
        "host_file": os.path.exists(event["host_file"]),
        "write_to_root": _try_to_write("/written-by-the-demo"),
        "write_to_code": _try_to_write("/var/task/written-by-the-demo"),
        "write_to_tmp": _try_to_write("/tmp/written-by-the-demo"),  # noqa: S108
    }


def _try_to_write(path: str) -> str:
    try:
        with open(path, "w") as file:
            file.write("x")
    except OSError as error:
        return error.strerror or type(error).__name__
    return "written"
