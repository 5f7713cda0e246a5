"""The functions that are called: as little as a handler can do, so that the platform is seen."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from dataclasses import dataclass

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
MEMORY_MIB = 1769  # one vCPU: the CPU quota does not throttle

_PYTHON_SOURCE = """\
import time

INITIALISED_NS = time.monotonic_ns()


def no_op(event, context):
    return None


def echo(event, context):
    return event


def born(event, context):
    time.sleep(event)
    return INITIALISED_NS


def place(event, context):
    time.sleep(event)
    return context.log_stream_name
"""

_NODE_SOURCE = """\
const INITIALISED_NS = process.hrtime.bigint();
exports.born = async (seconds) => {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  return Number(INITIALISED_NS);
};
"""

NO_OP_EVENT = b"{}"
ECHO_EVENT = json.dumps({"text": "x" * 1_010}).encode()  # 1 KB


@dataclass(frozen=True, slots=True)
class Source:
    """A deployment package of one file."""

    file_name: str
    text: str

    def zip(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(self.file_name, self.text)
        return buffer.getvalue()


PYTHON_SOURCE = Source("app.py", _PYTHON_SOURCE)
NODE_SOURCE = Source("app.js", _NODE_SOURCE)
