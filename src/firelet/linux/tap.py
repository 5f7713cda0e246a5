"""TAP devices: an Ethernet port whose other side is a file descriptor.

A device is made in the network namespace of the calling thread. Called by whoever makes the
network of a machine, whose monitor gets the descriptor or the name.
Source: Documentation/networking/tuntap.rst, include/uapi/linux/if_tun.h.
"""

from __future__ import annotations

import fcntl
import os
import struct

DEVICE = "/dev/net/tun"
# What precedes each frame on the descriptor (struct virtio_net_hdr): with it the guest may leave
# checksums to the host and hand over segments of up to 64 KiB.
HEADER_BYTES = 10

_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_IFREQ = "16sH22x"


def open_tap(name: str, device: str = DEVICE) -> int:
    """A descriptor, closed on exec, of the TAP device ``name``, which is made if it is not there.
    It is not blocking, as machine monitors want it.

    OSError: ENOENT or EACCES without a usable ``device``, EPERM without CAP_NET_ADMIN over the
    namespace (an owner needs none), EBUSY while it is open elsewhere.
    """
    fd = _open(device)
    try:
        request = struct.pack(_IFREQ, name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        _control(f"open tap {name}", fd, _TUNSETIFF, request)
    except BaseException:
        os.close(fd)
        raise
    return fd


def keep_tap(fd: int, owner: int | None = None) -> None:
    """Lets the device outlive its descriptors: it goes with its namespace. That ends in the
    background, where the close of a last descriptor would wait some 30 ms for the whole network.
    ``owner``: a uid that may open the device."""
    if owner is not None:
        _control(f"give tap to uid {owner}", fd, _TUNSETOWNER, owner)
    _control("keep tap", fd, _TUNSETPERSIST, 1)


def _open(device: str) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"open: {os.strerror(number)}", device) from None


def _control(step: str, fd: int, request: int, argument: bytes | int) -> None:
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"{step}: {os.strerror(number)}") from None
