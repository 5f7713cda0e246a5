"""An initial file system whose pid 1 listens on the vsock port and sends back what it is sent.

It first says which port was called, as ``fake_firecracker`` does, so that the same tests serve
both. ``disks`` on that stream is answered by the first line of each disk, ``seed`` by random bytes.
"""

from __future__ import annotations

from pathlib import Path

from firelet.sandbox.microvm import cpio, initramfs
from firelet.sandbox.microvm.kernel import Kernel

_PROGRAM = r"""
import os, socket, sys, time, traceback
sys.path.insert(0, "/.firelet/code")
from firelet.linux import machine, mount

def load(directory):
    for name in sorted(os.listdir(directory)):
        machine.load_module(directory + "/" + name)

def answer(data):
    if data == b"disks":
        lines = []
        for name in sorted(os.listdir("/sys/block")):
            if name.startswith("vd"):
                fd = os.open("/dev/" + name, os.O_RDONLY)
                lines.append(name.encode() + b"=" + os.pread(fd, 512, 0).split(b"\n")[0])
                os.close(fd)
        return b" ".join(lines)
    if data == b"seed":
        return os.urandom(16)
    return data

def main():
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        os.makedirs(target, exist_ok=True)
        mount.mount(kind, target, kind, 0)
    load("/.firelet/modules")
    load("/.firelet/modules-optional")
    listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    listener.bind((socket.VMADDR_CID_ANY, 1024))
    listener.listen(8)
    print("echo: listening", flush=True)
    while True:
        stream, _ = listener.accept()
        try:
            stream.sendall(b"port 1024\n")
            while data := stream.recv(65536):
                if data == b"end":
                    return
                stream.sendall(answer(data))
        except OSError as error:  # the machine was at rest, and that stream with it
            print("echo:", error, flush=True)
        stream.close()

try:
    main()
except BaseException:
    traceback.print_exc()
finally:
    machine.restart_machine()
"""


def write(target: Path, kernel: Kernel) -> None:
    python = initramfs.default_python()
    program = f"#!{python} -ISB\n{_PROGRAM}".encode()
    entries = list(initramfs.build(kernel, python, None))
    # What comes later in the archive is in the place of what was there.
    entries.append(cpio.file("init", program, 0o755))
    with target.open("wb") as out:
        cpio.write(entries, out)
