"""First stage of a zygote: builds the read-only base root of one runtime and moves into it.

Started by the platform with its own interpreter and a SOCK_SEQPACKET socket as descriptor
``argv[1]``. Receives one message, the plan of the root, carries it out in new user (rootless),
mount and pid namespaces, and executes the second stage (``zygote``) on the interpreter that the
plan names, now a path inside the new root. From there on nothing of the host is visible that the
plan does not list. A failure is sent back with its step, errno and path.
"""

from __future__ import annotations

import os
import socket
import sys

if __name__ == "__main__":
    # Started by path with -I -S: nothing but the standard library is importable yet.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from firelet.guest import base_root
from firelet.linux import messages, namespaces, process


def main(channel: socket.socket) -> None:
    plan, _ = messages.receive(channel)
    try:
        process.reset_signals()
        uid, gid = os.geteuid(), os.getegid()
        flags = namespaces.CLONE_NEWNS | namespaces.CLONE_NEWPID
        if plan["rootless"]:
            flags |= namespaces.CLONE_NEWUSER
        namespaces.unshare(flags)
        if plan["rootless"]:
            namespaces.map_single_user(0, uid, 0, gid)
        if os.fork() > 0:
            # The zygote is pid 1 of a namespace of its own: when it ends, so do all sandboxes.
            os._exit(0)
        pidfd = process.pidfd_open(os.getpid())
        messages.send(channel, {"event": "entered"}, [pidfd])
        os.close(pidfd)
        base_root.build(plan)
        channel.set_inheritable(True)
        arguments = [plan["interpreter"], "-I", "-S", "-B", plan["zygote"], str(channel.fileno())]
        os.execve(arguments[0], arguments, plan["environment"])
    except OSError as error:
        messages.send(
            channel,
            {"event": "error", "errno": error.errno, "step": str(error), "path": error.filename},
        )
        os._exit(1)


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])))
    except (EOFError, ConnectionError):
        sys.exit(1)  # the platform has gone away already
