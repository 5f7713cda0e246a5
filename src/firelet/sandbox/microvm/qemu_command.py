"""The command line of QEMU for one machine. Pure: nothing is looked at and nothing is started.

Source: qemu-system-x86_64(1), QEMU's documents on the ``microvm`` machine. What each guest option
is for was found by trying with Debian's kernel 6.1 under emulation:

- ``tsc_early_khz``: emulated, the guest cannot measure its time stamp counter and hangs without.
- ``cryptomgr.notests``, ``8250.nr_uarts=1``: 0.2 and 0.1 s that an emulated kernel spends on tests
  of its own and on the search for serial ports that are not there.
- ``nokaslr``, ``mitigations=off``, ``noreplace-smp``: emulated guests start faster. The first two
  weaken the guest's kernel, so that they are left out where the machine is real.
- ``la57=off`` of the processor: emulated, each level of page tables costs.

A restored machine gets neither kernel nor options: its memory has them, and QEMU would keep a copy
of both files for each clone (14 MB) and read them (5 ms).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from firelet.sandbox.microvm.vmm import Drive, Nic, VmSpec

PROGRAM = "qemu-system-x86_64"
PORT = "firelet"
MACHINE = "microvm,memory-backend=memory,rtc=on"
EMULATED_PROCESSOR = "max,la57=off"
# What an emulated machine keeps of translated code; all of it is dropped when that is full. QEMU
# would take up to 1 GiB by itself. After 14 starts of Python in a guest it had 90 MiB of its own
# with this and 317 MiB with 512, and needed the same time of the processor.
_TRANSLATED_MIB = 64

_KERNEL_OPTIONS = (
    "console=ttyS0",
    "quiet",
    "panic=-1",  # restart at once, which ends the machine
    "reboot=t",
    "ipv6.disable=1",
    "cryptomgr.notests",
    "8250.nr_uarts=1",
)
_EMULATED_OPTIONS = (
    "tsc=reliable",
    "no_timer_check",
    "noreplace-smp",
    "nokaslr",
    "mitigations=off",
)
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_BOGOMIPS = re.compile(r"^bogomips\s*:\s*([0-9.]+)", re.MULTILINE)
# The kernel's bogomips of a processor with a constant counter are twice its MHz.
_KHZ_OF_BOGOMIPS = 500


@dataclass(frozen=True, slots=True)
class QemuFds:
    """The numbers of inherited descriptors: two connected stream sockets, a memory file, and the
    machine's files, open for reading. A restored machine has no ``kernel`` and no ``initrd``."""

    monitor: int
    channel: int
    memory: int
    drives: tuple[int, ...] = ()
    kernel: int = -1
    initrd: int = -1


def build_command(
    spec: VmSpec,
    fds: QemuFds,
    *,
    has_kvm: bool,
    counter_khz: int,
    program: str = PROGRAM,
    is_restored: bool = False,
) -> list[str]:
    """A restored machine waits for its state. It maps the memory privately, unless the file is
    its own. ``counter_khz`` matters to emulated machines only. No path of a file is in it: QEMU may
    run as a user who could not reach them, and would take apart those with a comma."""
    size = f"{spec.memory_mib}M"
    share = "off" if is_restored and not spec.has_own_memory else "on"
    command = [program, "-M", MACHINE]
    command += ["-accel", "kvm" if has_kvm else f"tcg,thread=multi,tb-size={_TRANSLATED_MIB}"]
    command += ["-cpu", "host" if has_kvm else EMULATED_PROCESSOR]
    command += ["-smp", str(spec.vcpus), "-m", size]
    command += [
        "-object",
        f"memory-backend-file,id=memory,size={size},mem-path=/proc/self/fd/{fds.memory},share={share}",
    ]
    command += ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-sandbox", _SANDBOX]
    command += ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]
    command += ["-chardev", f"socket,id=monitor,fd={fds.monitor}"]
    command += ["-mon", "chardev=monitor,mode=control"]
    command += ["-chardev", f"socket,id=channel,fd={fds.channel}"]
    for number, fd in enumerate(fds.drives):
        command += ["-add-fd", f"fd={fd},set={number}"]
    command += _devices(spec)
    if is_restored:
        return [*command, "-incoming", "defer"]
    command += ["-kernel", f"/proc/self/fd/{fds.kernel}"]
    command += ["-initrd", f"/proc/self/fd/{fds.initrd}"]
    return [*command, "-append", _kernel_options(has_kvm, counter_khz)]


def device_names(spec: VmSpec) -> tuple[str, ...]:
    """What the guest finds, in order."""
    pairs = pairwise(_devices(spec))
    return tuple(value.partition(",")[0] for option, value in pairs if option == "-device")


def _devices(spec: VmSpec) -> list[str]:
    """Their order is that in which the guest finds them, and with it the names of its disks. A
    snapshot is of this order too: its devices are told apart by their place."""
    options = ["-device", "virtio-serial-device"]
    options += ["-device", f"virtserialport,chardev=channel,name={PORT}"]
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
    words = [f"id=drive{number}", f"file=/dev/fdset/{number}"]
    words += ["format=raw", "if=none", "readonly=on"]
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
