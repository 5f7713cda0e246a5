"""The network between a machine and its host: addresses, and how either side is set up.

All machines have the same addresses, each in a network namespace of its own, so that clones of a
snapshot need not be renumbered. They are of the link-local range: that is never routed, so that no
network that a function may want to reach can have them. The hardware address of the host's side
is the same everywhere too: a clone remembers the one of its template.

Started as a program, this makes the host's side for a platform that may not make network
namespaces itself: in a user namespace of its own, whose descriptors it sends through the socket
that it is given. Python 3.8 and newer, standard library only.
"""

from __future__ import annotations

import os
import socket
import sys

if __name__ == "__main__":
    # Started by path with -I -S: nothing but the standard library is importable yet.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from firelet.linux import interfaces, messages, namespaces, tap

TAP_NAME = "tap0"
HOST_ADDRESS = "169.254.100.1"
GUEST_ADDRESS = "169.254.100.2"
PREFIX_LENGTH = 30
HOST_HARDWARE = "02:fc:00:00:00:01"  # locally administered
GUEST_HARDWARE = "02:fc:00:00:00:02"


def build_host_side(device: str, owner: int | None) -> int:
    """Makes the TAP device in the network namespace of the calling thread: a descriptor of it, in
    front of whose frames there is a header (``tap.HEADER_BYTES``). The namespace's loopback stays
    down. For ``device`` and the errors see ``tap.open_tap``, for ``owner`` ``tap.keep_tap``."""
    interfaces.disable_ipv6()
    # There is nowhere to pass anything on to. But only a host that would do it says that a network
    # cannot be reached (five times at once, then once a second); else every call to the outside
    # would wait for minutes.
    interfaces.write_setting("ipv4/ip_forward", "1")
    interfaces.write_setting("ipv4/icmp_ratelimit", "0")  # the same tokens would be taken twice
    fd = tap.open_tap(TAP_NAME, device)
    try:
        tap.keep_tap(fd, owner)
        hardware = bytes.fromhex(HOST_HARDWARE.replace(":", ""))
        interfaces.set_hardware_address(TAP_NAME, hardware)
        interfaces.add_address(TAP_NAME, HOST_ADDRESS, PREFIX_LENGTH)
        interfaces.set_up(TAP_NAME)
    except BaseException:
        os.close(fd)
        raise
    return fd


def configure_guest_side(name: str) -> None:
    """In the guest, in the namespace that the device ``name`` is in."""
    interfaces.configure(name, GUEST_ADDRESS, PREFIX_LENGTH, HOST_ADDRESS)


def main(channel: socket.socket, device: str) -> None:
    """Sends the descriptors of a TAP device and its namespace, or the reason why there are none."""
    fds = []
    try:
        namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET)
        fds.append(build_host_side(device, None))
        fds.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        messages.send(channel, {}, fds)
    except OSError as error:
        messages.send(
            channel,
            {"errno": error.errno, "reason": error.strerror, "path": error.filename},
        )


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
