"""The command line of QEMU for one machine. Pure: nothing is looked at and nothing is started.

Source: qemu-system-x86_64(1), QEMU's documents on the ``microvm`` machine. What each guest option
is for was found by trying with Debian's kernel 6.1 under emulation:

- ``tsc_early_khz``: emulated, the guest cannot measure its time stamp counter and hangs without.
- ``nokaslr``, ``mitigations=off``: emulated guests start faster. They weaken the guest's kernel,
  so that they are left out where the machine is real.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from firelet.sandbox.microvm.vmm import Drive, Nic, VmSpec

PROGRAM = "qemu-system-x86_64"
MEMORY_FILE = "memory"
PORT = "firelet"

_KERNEL_OPTIONS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",  # restart at once, which ends the machine
    "reboot=t",
    "ipv6.disable=1",
)
_EMULATED_OPTIONS = ("tsc=reliable", "no_timer_check", "nokaslr", "mitigations=off")
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_BOGOMIPS = re.compile(r"^bogomips\s*:\s*([0-9.]+)", re.MULTILINE)
# The kernel's bogomips of a processor with a constant counter are twice its MHz.
_KHZ_OF_BOGOMIPS = 500


@dataclass(frozen=True, slots=True)
class QemuFds:
    """The numbers of inherited descriptors: connected stream sockets."""

    monitor: int
    channel: int


def build_command(
    spec: VmSpec,
    fds: QemuFds,
    *,
    has_kvm: bool,
    counter_khz: int,
    program: str = PROGRAM,
    memory: str | None = None,
) -> list[str]:
    """``memory``: the file of a snapshot, of which the machine gets a private copy on write; it
    waits for its state then. ``counter_khz`` matters to emulated machines only.

    ValueError for a path with a comma, which QEMU would take apart.
    """
    is_restored = memory is not None
    path = memory or str(spec.directory / MEMORY_FILE)
    drives = [str(drive.path) for drive in spec.drives]
    for text in (path, str(spec.kernel), str(spec.initrd), *drives):
        if "," in text:
            raise ValueError(f"QEMU cannot take a path with a comma: {text}")
    size = f"{spec.memory_mib}M"
    share = "off" if is_restored else "on"
    command = [program, "-M", "microvm,memory-backend=memory,rtc=on"]
    command += ["-accel", "kvm" if has_kvm else "tcg,thread=single"]
    command += ["-cpu", "host" if has_kvm else "max", "-smp", str(spec.vcpus), "-m", size]
    command += [
        "-object",
        f"memory-backend-file,id=memory,size={size},mem-path={path},share={share}",
    ]
    command += ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-sandbox", _SANDBOX]
    command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    command += ["-chardev", f"socket,id=monitor,fd={fds.monitor}"]
    command += ["-mon", "chardev=monitor,mode=control"]
    command += [
        "-chardev",
        f"socket,id=channel,fd={fds.channel}",
        "-device",
        "virtio-serial-device",
    ]
    command += ["-device", f"virtserialport,chardev=channel,name={PORT}"]
    command += _devices(spec)
    command += ["-kernel", str(spec.kernel), "-initrd", str(spec.initrd)]
    command += ["-append", _kernel_options(has_kvm, counter_khz)]
    if is_restored:
        command += ["-incoming", "defer"]
    return command


def _devices(spec: VmSpec) -> list[str]:
    """Their order is that in which the guest finds them, and with it the names of its disks. A
    snapshot is of this order too: its devices are told apart by their place."""
    options: list[str] = []
    for number, drive in enumerate(spec.drives):
        options += ["-drive", _drive(number, drive)]
        options += ["-device", f"virtio-blk-device,drive=drive{number}"]
    if spec.nic is not None:
        options += ["-netdev", _network(spec.nic)]
        options += ["-device", f"virtio-net-device,netdev=network,mac={spec.nic.mac}"]
    if spec.has_entropy:
        options += ["-object", "rng-random,id=entropy,filename=/dev/urandom"]
        options += ["-device", "virtio-rng-device,rng=entropy"]
    if spec.has_balloon:
        options += ["-device", "virtio-balloon-device,free-page-reporting=on"]
    return options


def _drive(number: int, drive: Drive) -> str:
    words = [f"id=drive{number}", f"file={drive.path}", "format=raw", "if=none", "readonly=on"]
    if drive.bytes_per_s is not None:
        words.append(f"throttling.bps-total={drive.bytes_per_s}")
    if drive.operations_per_s is not None:
        words.append(f"throttling.iops-total={drive.operations_per_s}")
    return ",".join(words)


def _network(nic: Nic) -> str:
    if isinstance(nic.tap, int):
        return f"tap,id=network,fd={nic.tap}"
    return f"tap,id=network,ifname={nic.tap},script=no,downscript=no"


def _kernel_options(has_kvm: bool, counter_khz: int) -> str:
    options = list(_KERNEL_OPTIONS)
    if not has_kvm:
        options += [f"tsc_early_khz={counter_khz}", *_EMULATED_OPTIONS]
    return " ".join(options)


def parse_counter_khz(cpuinfo: str) -> int:
    """The rate of the time stamp counter from the text of /proc/cpuinfo. ValueError without it."""
    found = _BOGOMIPS.search(cpuinfo)
    if found is None:
        raise ValueError("/proc/cpuinfo has no bogomips")
    return int(float(found[1]) * _KHZ_OF_BOGOMIPS)
