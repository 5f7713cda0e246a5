"""Runs a command in an emulated machine whose KVM is real: for hosts that have none.

    python tests/firecracker/nested.py KERNEL_PACKAGE COMMAND [ARGUMENT…]

QEMU emulates a processor with AMD's virtualization, which a Debian cloud kernel uses as any other
(kvm-amd). The machine's root is this host's, read-only and with a layer of memory over it, by
QEMU's ``virtiofsd``; the command runs in the same directory and as root. What it writes is lost,
but for its output. Ends with the command's status. Needs root, qemu-system-x86_64, busybox,
dpkg-deb and virtiofsd (of Debian 12's qemu-system-common). Everything takes some 20 times as long.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from firelet.sandbox.microvm import cpio
from firelet.sandbox.microvm.qemu_command import parse_counter_khz

MEMORY_MIB = 3072
TIMEOUT_S = 1500.0
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MODULES = ("virtio_mmio", "virtiofs", "overlay", "kvm_amd", "tun", "vsock")
KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "FIRELET_FIRECRACKER",
    "FIRELET_TEST_KERNEL_PACKAGE",
    "PYTHONPATH",
)
_TAG = "host"
_SHARE = ("source=/", "cache=always", "sandbox=chroot")
_END = re.compile(rb"^nested: the command ended with (\d+)\r?$", re.MULTILINE)
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_OPTIONS = (
    "console=ttyS0 quiet panic=-1 reboot=t tsc=reliable no_timer_check nokaslr mitigations=off"
    " ipv6.disable=1"
)

_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do insmod "$module" || echo "nested: $module was not loaded"; done
mount -t virtiofs -o ro {tag} /lower || reboot -f
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root
mount --move /proc /root/proc
mount --move /sys /root/sys
mount --move /dev /root/dev
for place in tmp run; do mount -t tmpfs -o mode=1777 tmpfs /root/$place; done
for place in {seen}; do
    mkdir -p "/root$place" && mount --bind "/lower$place" "/root$place"
done
mkdir -p /root/dev/net /root/dev/shm
[ -e /root/dev/net/tun ] || mknod /root/dev/net/tun c 10 200
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
ip link set lo up
# Over the first root, not only into it: /proc would tell paths as seen from there.
cd /root && mount --move . / && chroot . /bin/sh -c {command} <dev/null
echo "nested: the command ended with $?"
reboot -f
"""


def main(package: Path, command: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="firelet-nested-") as name:
        place = Path(name)
        subprocess.run(["dpkg-deb", "-x", package, place / "kernel"], check=True)
        kernel = next((place / "kernel" / "boot").glob("vmlinuz-*"))
        with (place / "initrd").open("wb") as out:
            cpio.write(_initial_files(place / "kernel", command), out)
        return _run(place, kernel)


def _initial_files(kernel: Path, command: list[str]) -> list[cpio.Entry]:
    busybox = Path(shutil.which("busybox") or "busybox").resolve()
    kept = [f"{name}={os.environ[name]}" for name in KEPT_VARIABLES if name in os.environ]
    words = shlex.join(["env", "-i", *kept, *command])
    script = f"cd {shlex.quote(os.getcwd())} && exec {words}"
    # Below /tmp there is memory; what the command is about may be there.
    named = [os.getcwd(), *(os.environ.get(name, "") for name in KEPT_VARIABLES[2:4])]
    seen = [str(Path(path).resolve().parent) for path in named if path.startswith("/tmp/")]
    init = _INIT.format(
        tag=_TAG, command=shlex.quote(script), seen=" ".join(map(shlex.quote, seen))
    )
    directories = ("bin", "dev", "proc", "sys", "modules", "lower", "upper", "root")
    entries = [cpio.directory(name) for name in directories]
    entries.append(cpio.character_device("dev/console", 5, 1))
    entries.append(cpio.file("bin/busybox", busybox.read_bytes(), 0o755))
    entries.append(cpio.file("init", init.encode(), 0o755))
    for number, (name, data) in enumerate(_modules(kernel).items()):
        entries.append(cpio.file(f"modules/{number:02}-{name}.ko", data))
    return entries


def _modules(kernel: Path) -> dict[str, bytes]:
    """What is asked for and what that needs, in order; without what is built in."""
    files = {path.stem.replace("-", "_"): path for path in kernel.glob("lib/modules/*/**/*.ko")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        data = files[name].read_bytes()
        match = _DEPENDS.search(data)
        for needed in match[1].decode().split(",") if match else ():
            add(needed.replace("-", "_"))
        found[name] = data

    for name in MODULES:
        add(name)
    return found


def _run(place: Path, kernel: Path) -> int:
    server = subprocess.Popen(
        [VIRTIOFSD, f"--socket-path={place / 'fs'}", "-o", ",".join(_SHARE)],
        stderr=subprocess.DEVNULL,  # it reports the end of the machine as a fault
    )
    counter_khz = parse_counter_khz(Path("/proc/cpuinfo").read_text())
    machine = ["qemu-system-x86_64", "-M", "microvm,memory-backend=memory,rtc=on"]
    machine += ["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", f"{MEMORY_MIB}M"]
    machine += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on"]
    machine += ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio"]
    machine += ["-chardev", f"socket,id=fs,path={place / 'fs'}"]
    machine += ["-global", "virtio-mmio.force-legacy=false"]
    machine += ["-device", f"vhost-user-fs-device,chardev=fs,tag={_TAG}"]
    machine += ["-kernel", str(kernel), "-initrd", str(place / "initrd")]
    machine += ["-append", f"{_OPTIONS} tsc_early_khz={counter_khz}"]
    output = b""
    try:
        with subprocess.Popen(
            machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as emulator:
            assert emulator.stdout is not None
            end = threading.Timer(TIMEOUT_S, emulator.kill)
            end.start()
            try:
                for line in emulator.stdout:
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                    output = (output + line)[-10_000:]
            finally:
                end.cancel()
                emulator.kill()
    finally:
        server.kill()
        server.wait()
    ended = _END.search(output)
    return int(ended[1]) if ended else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
