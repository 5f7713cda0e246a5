"""From what machines were measured to take to rows, with what is aimed at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.machine_memory import CLONES, USED_MIB, Clones, GivenBack
from bench.machines import AT_ONCE, STREAM_BYTES, Boots, Calls, Starts, Streams
from bench.rows import Limit, Row, percentile
from firelet.linux.kvm import KvmVerdict

HELLO_GOAL_MS = Limit(2_500, is_at_most=True)
FROM_BOOT_GOAL_MS = Limit(5_000, is_at_most=True)
CLONE_GOAL_MS = Limit(250, is_at_most=True)
WARM_GOAL_MS = Limit(3, is_at_most=True)
PRIVATE_GOAL_MIB = Limit(40, is_at_most=True)

# Source: Firecracker's SPECIFICATION.md and the description of its snapshots.
KVM_BOOT_GOAL_MS = Limit(125, is_at_most=True)
KVM_OVERHEAD_GOAL_MIB = Limit(5, is_at_most=True)
KVM_STARTS_GOAL_PER_S = Limit(150, is_at_most=False)
KVM_RESTORE_GOAL_MS = Limit(15, is_at_most=True)


@dataclass(slots=True)
class Measured:
    """All of one run; ``clones`` and ``embryos`` by runtime. What stays empty was not measured."""

    boots: Boots = field(default_factory=Boots)
    first_ms: float | None = None
    embryos: dict[str, Starts] = field(default_factory=dict)
    clones: dict[str, Starts] = field(default_factory=dict)
    calls: Calls | None = None
    namespaces: Calls | None = None
    work_ms: list[float] = field(default_factory=list)
    work_in_namespaces_ms: list[float] = field(default_factory=list)
    ping_ms: list[float] = field(default_factory=list)
    streams: Streams | None = None
    starts_per_s: float | None = None
    clones_per_s: float | None = None
    held: Clones | None = None
    given_back: GivenBack | str = "not measured"


def make_rows(found: Measured) -> list[Row]:
    """What was measured, whatever runs the machines."""
    return [
        *_boot_rows(found),
        *_start_rows(found),
        *_call_rows(found),
        *_stream_rows(found.streams),
        *_sustained_rows(found),
        *_memory_rows(found.held),
        *_given_back_rows(found.given_back),
    ]


def make_kvm_rows(found: Measured, verdict: KvmVerdict) -> list[Row]:
    """What Firecracker promises of machines with KVM. Without a KVM that runs guests there is no
    figure for any of it: an emulated machine's is not one."""
    if not verdict.is_usable:
        note = f"not measured: no working KVM: {verdict.detail}"
        return [
            Row(label, unit, None, goal=goal, note=note, is_less_better=goal.is_at_most)
            for label, unit, goal in _KVM
        ]
    restored_ms = [ms for starts in found.clones.values() for ms in starts.ready_ms]
    held = found.held
    values = (
        _median(found.boots.hello_ms),
        None if held is None else held.held.translated + held.held.rest,
        found.starts_per_s,
        _median(restored_ms),
    )
    return [
        Row(label, unit, value, goal=goal, is_less_better=goal.is_at_most)
        for (label, unit, goal), value in zip(_KVM, values, strict=True)
    ]


_KVM = (
    ("KVM: boot, until the guest's pid 1 says hello, p50", "ms", KVM_BOOT_GOAL_MS),
    ("KVM: VMM without its guest's memory", "MiB", KVM_OVERHEAD_GOAL_MIB),
    ("KVM: starts, sustained", "/s", KVM_STARTS_GOAL_PER_S),
    ("KVM: restore, p50", "ms", KVM_RESTORE_GOAL_MS),
)


def _boot_rows(found: Measured) -> list[Row]:
    boots = found.boots
    note = _count(boots.hello_ms, "machines")
    return [
        Row(
            "boot, pid 1 says hello, p50",
            "ms",
            _median(boots.hello_ms),
            goal=HELLO_GOAL_MS,
            note=note,
        ),
        Row("boot, embryo waits, p50", "ms", _median(boots.embryo_ms)),
        Row(
            "boot, INIT, first answer, p50",
            "ms",
            _median(boots.answer_ms),
            goal=FROM_BOOT_GOAL_MS,
            note="no embryo, none made",
        ),
        Row(
            "very first start of a runtime",
            "ms",
            found.first_ms,
            note="its embryo is made, kept, restored; once",
        ),
    ]


def _start_rows(found: Measured) -> list[Row]:
    rows = []
    for kind, by_runtime, ready, going, goal in (
        ("embryo", found.embryos, "sandbox ready", "INIT done", None),
        ("SnapStart", found.clones, "restored", "goes on", CLONE_GOAL_MS),
    ):
        for runtime, starts in by_runtime.items():
            label = f"{runtime}, from {kind}"
            rows += [
                Row(f"{label}: {ready}, p50", "ms", _median(starts.ready_ms)),
                Row(f"{label}: {going}, p50", "ms", _median(starts.init_ms)),
                Row(
                    f"{label}: first answer, p50",
                    "ms",
                    _median(starts.answer_ms),
                    goal=goal,
                    note=_count(starts.answer_ms, "starts"),
                ),
                Row(
                    f"{label}: CPU of the VMM, p50",
                    "ms",
                    _median(starts.cpu_ms),
                    note="until the first answer",
                ),
            ]
    return rows


def _call_rows(found: Measured) -> list[Row]:
    calls = found.calls or Calls([], None)
    other = _median(found.namespaces.taken_ms) if found.namespaces is not None else None
    warm = _median(calls.taken_ms)
    ratio = warm / other if warm and other else None
    work, other_work = _median(found.work_ms), _median(found.work_in_namespaces_ms)
    slower = work / other_work if work and other_work else None
    note = _count(calls.taken_ms, "calls")
    return [
        Row("warm call, p50", "ms", warm, goal=WARM_GOAL_MS, note=note),
        Row("warm call, p99", "ms", percentile(sorted(calls.taken_ms), 0.99)),
        Row("warm call, CPU of the VMM, mean", "ms", calls.cpu_ms),
        Row("the same in namespaces, p50", "ms", other),
        Row("warm call / the same in namespaces", "x", ratio),
        Row("work of the processor, p50", "ms", work, note=_count(found.work_ms, "calls")),
        Row("work of the processor / the same in namespaces", "x", slower),
        Row("floor: question to pid 1 of a guest, p50", "ms", _median(found.ping_ms)),
    ]


def _stream_rows(streams: Streams | None) -> list[Row]:
    if streams is None:
        return []
    note = f"{len(streams.mb_per_s)} streams of {STREAM_BYTES // 1_048_576} MiB"
    return [
        Row("stream, first byte, p50", "ms", _median(streams.first_ms)),
        Row("stream", "MB/s", _median(streams.mb_per_s), note=note, is_less_better=False),
    ]


def _sustained_rows(found: Measured) -> list[Row]:
    note = f"start, one call, end; {AT_ONCE} at once"
    return [
        Row(f"starts from {what}, sustained", "1/s", value, note=note, is_less_better=False)
        for what, value in (("embryo", found.starts_per_s), ("SnapStart", found.clones_per_s))
    ]


def _memory_rows(clones: Clones | None) -> list[Row]:
    if clones is None:
        return [
            Row(
                f"{CLONES} clones held, private memory each",
                "MiB",
                None,
                goal=PRIVATE_GOAL_MIB,
                note="not measured",
            )
        ]
    held = clones.held
    label = f"{clones.count} clones held, each"
    return [
        Row(f"{label}: private", "MiB", clones.private, goal=PRIVATE_GOAL_MIB),
        Row(f"{label}: of it the guest's memory", "MiB", held.guest),
        Row(f"{label}: of it translated code", "MiB", held.translated),
        Row(f"{label}: of it the rest of the VMM", "MiB", held.rest),
        Row(f"{label}: VMM without its guest's memory", "MiB", held.translated + held.rest),
        Row(f"{label}: PSS", "MiB", held.pss),
        Row(
            f"{label}: charged to its control group",
            "MiB",
            clones.charged,
            note="" if clones.charged is not None else "no control groups",
        ),
    ]


def _given_back_rows(given: GivenBack | str) -> list[Row]:
    label = f"of {USED_MIB} MiB that a function has used and freed, given back when idle"
    if isinstance(given, str):
        return [Row(label, "MiB", None, note=given)]
    return [
        Row(
            label,
            "MiB",
            given.used - given.idle,
            note=f"charged: {given.before:.0f} MiB before, {given.used:.0f} after,"
            f" {given.idle:.0f} idle for {given.idle_s:.0f} s",
            is_less_better=False,
        )
    ]


def _median(values: Sequence[float]) -> float | None:
    return percentile(sorted(values), 0.5)


def _count(values: Sequence[float], what: str) -> str:
    """How many there were, and the best: what they take when nothing else wants the host."""
    return f"{len(values)} {what}, best {min(values):,.1f} ms" if values else "not measured"
