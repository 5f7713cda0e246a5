"""The guest's way to the platform: a virtio serial port (QEMU), or a vsock (Firecracker).

Both are byte streams that are read and written by their descriptor. A serial port goes on in a
clone as it was; a vsock's connection does not survive a snapshot, and the platform makes a new one.
Which of them a machine has is told by its kernel's command line.
Called by ``vm_init``. Source: vsock(7); Documentation/admin-guide/kernel-parameters, "console".
"""

from __future__ import annotations

import os
import socket
import time

NAME = "firelet"  # of the serial port
VSOCK_OPTION = "firelet.vsock="  # of the command line, with the number to listen on

_PORTS = "/sys/class/virtio-ports"
_PATIENCE_S = 10.0
_PAUSE_S = 0.01


class SerialPort:
    """Owns ``fd``."""

    def __init__(self) -> None:
        """Waits for the port to appear. TimeoutError when the machine has none of that name."""
        self.fd = _open_serial()

    def renew(self) -> None:
        """It was read to its end while at rest, which does not happen to one of these."""
        raise EOFError("the serial port has ended")


class VsockPort:
    """Owns ``fd``, the connection, and what listens for the next one."""

    def __init__(self, number: int) -> None:
        """Waits until the platform has connected."""
        self._listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        self._listener.bind((socket.VMADDR_CID_ANY, number))
        self._listener.listen(1)
        self._connection = self._listener.accept()[0]

    @property
    def fd(self) -> int:
        return self._connection.fileno()

    def renew(self) -> None:
        """The connection is gone; waits for another one."""
        self._connection.close()
        self._connection = self._listener.accept()[0]


def vsock_number(command_line: str) -> int | None:
    """What the kernel was told, if it has a vsock."""
    for word in command_line.split():
        if word.startswith(VSOCK_OPTION):
            return int(word[len(VSOCK_OPTION) :])
    return None


def _open_serial() -> int:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        for device in os.listdir(_PORTS) if os.path.isdir(_PORTS) else ():
            if _name_of(device) == NAME:
                return os.open(f"/dev/{device}", os.O_RDWR | os.O_CLOEXEC)
        time.sleep(_PAUSE_S)
    raise TimeoutError(f"no virtio serial port is named {NAME}")


def _name_of(device: str) -> str | None:
    """None for a port that the machine has announced and not yet named."""
    try:
        with open(f"{_PORTS}/{device}/name") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
