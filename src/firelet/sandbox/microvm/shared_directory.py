"""A directory of this host as a guest's kernel asks for it over FUSE: each request, and its answer.

What it is: who serves which operation, with the rights of whoever calls. What it is not: a process
(``directory_process``) nor a way to the guest. A request names files by nodes that the guest was
told of, and what is in a directory by one plain name, so that no path leads anywhere; links are the
guest's to follow.

What is not served is refused with ENOSYS, which the kernel takes for an answer once and for all:
extended attributes first of all.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from firelet.sandbox.microvm import fuse_protocol as fuse
from firelet.sandbox.microvm.fuse_protocol import (
    Breach,
    Fields,
    Operation,
    Operations,
    Owners,
    Request,
)
from firelet.sandbox.microvm.shared_files import Files
from firelet.sandbox.microvm.shared_locks import Locks
from firelet.sandbox.microvm.shared_names import Names
from firelet.sandbox.microvm.shared_nodes import Handles, Nodes

_COUNT = struct.Struct("<Q")
_BATCH = struct.Struct("<I4x")
_FORGET_ONE = struct.Struct("<QQ")


class Bounds(NamedTuple):
    """On what a guest may know, have open, and have locked or wait for."""

    nodes: int
    handles: int
    locks: int


class SharedDirectory:
    """Owns ``root``, an O_PATH descriptor of the directory, and all that the guest has open, until
    ``close``. ``own_fds`` is a descriptor of /proc/self/fd of this very process."""

    def __init__(self, root: int, own_fds: int, owners: Owners, bounds: Bounds) -> None:
        self._nodes = Nodes(root, own_fds, owners, bounds.nodes)
        self._handles = Handles(bounds.handles)
        self.locks = Locks(self._nodes, self._handles, bounds.locks)
        self._operations: Operations = {
            **Names(self._nodes, self._handles).operations,
            **Files(self._nodes, self._handles, self.locks).operations,
            **self.locks.operations,
            Operation.DESTROY: lambda _number, _fields: b"",
        }
        self._is_agreed = False

    def serve(self, request: Request) -> bytes | None:
        """The answer, if there is one by now. Breach for what no kernel would ask."""
        operation, unique, number, body = request
        fields = Fields(body)
        if operation == Operation.INIT:
            return fuse.answer(unique, self._agree(body))
        if not self._is_agreed:
            raise Breach(f"operation {operation} before INIT")
        if operation == Operation.INTERRUPT:
            # All that does not wait has been answered: one comes after the other.
            return self.locks.interrupt(*fields.take(_COUNT))
        if operation in (Operation.FORGET, Operation.BATCH_FORGET):
            self._forget(operation, number, fields)
            return None
        if operation == Operation.SETLKW:
            return self.locks.wait(unique, number, fields)
        serve = self._operations.get(operation)
        if serve is None:
            return fuse.refusal(unique, errno.ENOSYS)
        try:
            return fuse.answer(unique, serve(number, fields))
        except OSError as error:
            return fuse.refusal(unique, error.errno or errno.EIO)

    def close(self) -> None:
        self.locks.close()
        self._handles.close()
        self._nodes.close()

    def _agree(self, body: memoryview) -> bytes:
        if self._is_agreed:
            raise Breach("a second INIT")
        self._is_agreed = True
        return fuse.answer_init(body)

    def _forget(self, operation: int, number: int, fields: Fields) -> None:
        if operation == Operation.FORGET:
            self._nodes.forget(number, *fields.take(_COUNT))
            return
        (count,) = fields.take(_BATCH)
        for _ in range(count):
            self._nodes.forget(*fields.take(_FORGET_ONE))
