"""What this host offers for isolation, found out by trying. Behind ``firelet doctor`` and ``up``.

Each finding says what is there, and what firelet does because of it. Nothing weaker is chosen
here: ``app`` refuses to start when something is missing that the operator has not accepted.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from firelet.linux import seccomp
from firelet.linux.kvm import KvmVerdict, probe_kvm
from firelet.sandbox import cgroups
from firelet.sandbox.interpreters import Interpreter, discover
from firelet.sandbox.microvm.config import MicrovmConfig
from firelet.sandbox.microvm.egress import probe_nat
from firelet.sandbox.microvm.network import probe_network
from firelet.sandbox.microvm.offer import MicrovmOffer, fault_of, find_offer

_KERNEL_NEEDED = (5, 12)
_PROBE_TIMEOUT_S = 10.0

# In a child of its own: unshare changes the process for good, and needs a single thread.
_NAMESPACE_PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
from firelet.linux import namespaces as n
flags = n.CLONE_NEWNS | n.CLONE_NEWPID | n.CLONE_NEWNET | n.CLONE_NEWIPC | n.CLONE_NEWUTS
n.unshare(flags | (n.CLONE_NEWUSER if sys.argv[2] == "rootless" else 0))
"""


class Level(StrEnum):
    """How a finding bears on running functions."""

    OK = "ok"
    WEAKER = "weaker"  # functions can run, with less than the full walls
    MISSING = "missing"  # functions cannot run
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report. ``name`` is also what ``--accept`` takes."""

    name: str
    level: Level
    detail: str
    consequence: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The findings, and what the drivers need to know of them."""

    findings: tuple[Finding, ...]
    is_rootless: bool
    cgroup_version: int | None
    interpreters: dict[str, Interpreter]

    def missing(self) -> list[Finding]:
        return [item for item in self.findings if item.level is Level.MISSING]

    def weaker(self) -> list[Finding]:
        return [item for item in self.findings if item.level is Level.WEAKER]


def probe_host(microvms: MicrovmConfig | None = None) -> HostFacts:
    """Looks at everything; takes well under a second. With ``microvms`` also at what they need,
    for which it tries to run a guest."""
    is_rootless = os.geteuid() != 0
    version = cgroups.find_version()
    interpreters = discover()
    findings = [
        _kernel(),
        _privilege(is_rootless),
        _namespaces(is_rootless),
        _cgroups(version),
        _seccomp(),
        _overlay(),
    ]
    if microvms is not None:
        verdict = probe_kvm()
        offer = find_offer(microvms, verdict)
        findings += [_kvm(verdict), _microvm(offer), _guest_images(offer, microvms.images)]
        findings += _networks()
    findings.append(_runtimes(interpreters))
    return HostFacts(tuple(findings), is_rootless, version, interpreters)


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split(".")[:2] if part.isdigit())
    if platform.system() == "Linux" and numbers >= _KERNEL_NEEDED:
        return Finding("kernel", Level.OK, f"Linux {release}", "mount_setattr is there")
    return Finding(
        "kernel",
        Level.MISSING,
        f"{platform.system()} {release}",
        "functions need Linux 5.12 or newer: a read-only root that holds for submounts",
    )


def _privilege(is_rootless: bool) -> Finding:
    if is_rootless:
        return Finding(
            "privilege",
            Level.NOTE,
            f"uid {os.geteuid()}",
            "sandboxes are made in a user namespace and share this host user",
        )
    return Finding("privilege", Level.OK, "root", "every sandbox gets a user of its own")


def _namespaces(is_rootless: bool) -> Finding:
    package = str(Path(__file__).resolve().parent.parent.parent)
    kind = "rootless" if is_rootless else "root"
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _NAMESPACE_PROBE, package, kind],
        capture_output=True,
        text=True,
        timeout=_PROBE_TIMEOUT_S,
        check=False,
    )
    kinds = "mount, pid, net, ipc, uts" + (", user" if is_rootless else "")
    if answer.returncode == 0:
        return Finding("namespaces", Level.OK, kinds, "each sandbox gets all of them")
    reason = answer.stderr.strip().rpartition("\n")[2]
    return Finding("namespaces", Level.MISSING, reason, "no sandbox can be made")


def _cgroups(version: int | None) -> Finding:
    if version is not None:
        return Finding(
            "cgroups",
            Level.OK,
            f"version {version} with memory, cpu, pids, freezer",
            "memory, CPU and process limits hold for each sandbox as a whole",
        )
    return Finding(
        "cgroups",
        Level.WEAKER,
        "no writable hierarchy with memory, cpu and pids",
        "memory and process limits would hold per process only (rlimits), CPU would not be"
        " limited and Max Memory Used not measured",
    )


def _seccomp() -> Finding:
    try:
        seccomp.load_library()
    except OSError:
        return Finding(
            "seccomp",
            Level.MISSING,
            "libseccomp.so.2 not found",
            "install libseccomp2: functions are not run without a system call filter",
        )
    return Finding("seccomp", Level.OK, "libseccomp", "system calls are filtered")


def _overlay() -> Finding:
    if "overlay" in Path("/proc/filesystems").read_text().split():
        return Finding("overlay", Level.OK, "in the kernel", "layers can be merged at /opt")
    return Finding("overlay", Level.NOTE, "not in the kernel", "several layers cannot be merged")


def _kvm(verdict: KvmVerdict) -> Finding:
    consequence = (
        "hardware isolation is possible" if verdict.is_usable else "microVMs would be emulated"
    )
    return Finding("kvm", Level.NOTE, verdict.detail, consequence)


def _microvm(offer: MicrovmOffer) -> Finding:
    choice = offer.choice
    detail = choice.reason if choice.kind is None else f"{choice.kind.value} ({choice.reason})"
    consequence = "functions may ask for microVMs"
    if offer.missing:
        consequence = f"functions that ask for microVMs do not run: {' '.join(offer.missing)}"
    return Finding("microvm", Level.NOTE, detail, consequence)


def _guest_images(offer: MicrovmOffer, directory: Path) -> Finding:
    found = f"{len(offer.images)} in {directory}"
    if offer.image is None or fault_of(offer.image) is not None:
        return Finding("guest images", Level.NOTE, found, "`firelet image build` makes one")
    started = f"{offer.image.digest[:12]}…"
    return Finding("guest images", Level.NOTE, found, f"microVMs start {started}")


def _networks() -> list[Finding]:
    network, nat = probe_network(), probe_nat()
    device = "microVMs can have a device" if network.is_possible else "microVMs have no network"
    way_out = "microVMs can have a way out: microvm_egress"
    return [
        Finding("network", Level.NOTE, network.detail, device),
        Finding(
            "nat", Level.NOTE, nat.detail, way_out if nat.is_possible else "there is no way out"
        ),
    ]


def _runtimes(interpreters: dict[str, Interpreter]) -> Finding:
    return Finding(
        "runtimes",
        Level.OK,
        ", ".join(sorted(interpreters)),
        "functions of other runtimes are created with State Failed",
    )
