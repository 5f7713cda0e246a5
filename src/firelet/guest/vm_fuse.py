"""Directories of the host in a microVM's guest: mounts of FUSE, whose requests the host answers.

The guest's kernel says what it wants of a file system in messages that it gives to whoever reads
``/dev/fuse``. Here they are carried, as they are, over a stream of the link; nobody in the guest
looks at more than their length. What cannot be sent for want of credit waits, and no further
request is read until then.
Called by ``vm_sandbox``. The other end is ``sandbox/microvm/shared_directory``.
Source: fuse(4); include/uapi/linux/fuse.h, struct fuse_in_header and fuse_out_header.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from firelet.guest import vm_drives
from firelet.guest.vm_link import Relay
from firelet.linux import mount, multiplex

# The least that the kernel takes is what it may write at once, and the head of that.
_REQUEST_MAX_BYTES = 128 * 1024 + 4096
_LENGTH_BYTES = 4
_ANSWER_MIN_BYTES = 16
_OPTIONS = "fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other"


def mount_file_system(mount_namespace: int, place: str) -> int:
    """Shows a new one at ``place`` of another mount namespace. Returns the descriptor from which
    its requests are read. Who may do what is for the host to say."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        flags = mount.MS_NOSUID | mount.MS_NODEV
        mount.mount("firelet", vm_drives.STAGE, "fuse", flags, _OPTIONS.format(fd=fd))
        vm_drives.show_stage(mount_namespace, place)
    except BaseException:
        os.close(fd)
        raise
    return fd


class FuseRelay(Relay):
    """One reading brings one request, and one writing takes one answer."""

    def __init__(self, fd: int, purpose: dict[str, Any]) -> None:
        super().__init__(fd, purpose)
        self._place = memoryview(bytearray(_REQUEST_MAX_BYTES))
        self._unsent = b""  # there is no credit while there is some
        self._answers = bytearray()

    def take(self, frame: multiplex.Frame) -> None:
        if frame.kind == multiplex.DATA:
            self._answers += frame.content
            self._link.mux.consume(self.stream, len(frame.content))
            self._write_answers()
        elif frame.kind == multiplex.CREDIT:
            self._send()
        else:
            self.close()  # whoever uses the file system is told that it is gone

    def _read(self) -> bool:
        if not self._link.mux.credit(self.stream):
            self._look_again()
            return False
        try:
            count = os.readv(self._fd, [self._place])
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False  # whoever asked was killed at that moment
            self._give_up()
            return False
        self._unsent = bytes(self._place[:count])
        self._send()
        return True

    def _send(self) -> None:
        count = min(len(self._unsent), self._link.mux.credit(self.stream))
        if count:
            self._link.mux.send(self.stream, self._unsent[:count])
            self._unsent = self._unsent[count:]
        self._look_again()
        self._link.flush()

    def _write_answers(self) -> None:
        while len(self._answers) >= _LENGTH_BYTES:
            length = max(_ANSWER_MIN_BYTES, int.from_bytes(self._answers[:_LENGTH_BYTES], "little"))
            if len(self._answers) < length:
                return
            try:
                os.write(self._fd, self._answers[:length])
            except OSError as error:
                if error.errno != errno.ENOENT:  # else nobody waits for it any more
                    self._give_up()
                    return
            del self._answers[:length]
