"""The process that serves one directory of this host to one machine, and can reach nothing else.

Run as a program: ``directory_process.py SOCKET DIRECTORY GUEST_ID``, the descriptor of a connected
stream socket, the path, and the user and group that the function has in the guest. It acts as the
directory's owner, or where it is not root as the user that it was started as, in a mount namespace
that has the directory for its root, without a network or capabilities. It ends with its socket, and
with the first message that no kernel would send.

What it is not: started by anyone but ``directory_server``. Standard library and ``linux`` alone.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.abspath(__file__ + "/../../../.."))

from firelet.linux import mount, namespaces, process
from firelet.sandbox.microvm import fuse_protocol
from firelet.sandbox.microvm.fuse_protocol import Breach, Owners
from firelet.sandbox.microvm.shared_directory import Bounds, SharedDirectory

WANTED = Bounds(nodes=65_536, handles=4_096, locks=1_024)
_OTHER_FDS = 64
_NAMESPACES = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
)
_STAGE = "/tmp"  # noqa: S108 - any directory serves: the mount is seen by us alone
_LOCK_PAUSE_MS = 20  # between two attempts to get a lock that somebody else has
_READ_BYTES = 256 * 1024
_NOTHING_SPECIAL = mount.MOUNT_ATTR_NOSUID | mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_NOEXEC


def main(connection: socket.socket, directory: str, guest_id: int) -> None:
    """Until the other end is closed. Breach; OSError when the walls cannot be made."""
    own_fds = _confine(directory)
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    owners = Owners(os.geteuid(), os.getegid(), guest_id)
    _serve(connection, SharedDirectory(root, own_fds, owners, _allow_descriptors()))


def _confine(path: str) -> int:
    """Gives up all but the directory and the owner's rights. A descriptor of our own descriptors:
    the only part of /proc that is left."""
    uid, gid = os.geteuid(), os.getegid()
    is_root = uid == 0
    namespaces.unshare(_NAMESPACES if is_root else _NAMESPACES | namespaces.CLONE_NEWUSER)
    if not is_root:
        namespaces.map_single_user(0, uid, 0, gid)
    mount.make_private("/")
    # Only now: what was opened in another mount namespace cannot be bound in this one.
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    owner = os.fstat(directory)
    if is_root and 0 in (owner.st_uid, owner.st_gid):
        raise PermissionError(errno.EPERM, "The directory belongs to root")
    own_fds = mount.open_copy("/proc/self/fd")
    mount.bind(f"/proc/self/fd/{directory}", _STAGE)
    os.close(directory)
    mount.set_attributes(_STAGE, _NOTHING_SPECIAL)
    mount.pivot_into(_STAGE)
    process.drop_bounding_set()
    process.set_no_new_privileges()
    if is_root:
        os.setgroups([])
        os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
        os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
    process.drop_capabilities()
    process.set_dumpable(False)
    os.umask(0)  # the guest has applied its own
    return own_fds


def _allow_descriptors() -> Bounds:
    """As many as may be wanted, if there may be so many: each node, open file and owner of locks
    has one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(sum(WANTED) + _OTHER_FDS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    handles, locks = min(WANTED.handles, allowed // 4), min(WANTED.locks, allowed // 8)
    return Bounds(allowed - _OTHER_FDS - handles - locks, handles, locks)


def _serve(connection: socket.socket, shared: SharedDirectory) -> None:
    """One request after the other: whoever does not read the answers is not heard meanwhile."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    buffer = bytearray()
    while True:
        if poll.poll(_LOCK_PAUSE_MS if shared.locks.is_awaited else None):
            data = connection.recv(_READ_BYTES)
            if not data:
                return
            buffer += data
            for request in fuse_protocol.split(buffer):
                answer = shared.serve(request)
                if answer is not None:
                    connection.sendall(answer)
        for answer in shared.locks.retry():
            connection.sendall(answer)


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], int(sys.argv[3]))
    except Breach as breach:
        sys.exit(str(breach))
    except OSError as failure:
        sys.exit(failure.strerror)  # the path is nobody's business
