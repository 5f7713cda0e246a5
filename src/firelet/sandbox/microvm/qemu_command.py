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

from firelet.sandbox.microvm.vmm import VmSpec

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
    for text in (path, str(spec.kernel), str(spec.initrd)):
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
    command += ["-kernel", str(spec.kernel), "-initrd", str(spec.initrd)]
    command += ["-append", _kernel_options(has_kvm, counter_khz)]
    if is_restored:
        command += ["-incoming", "defer"]
    return command


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
