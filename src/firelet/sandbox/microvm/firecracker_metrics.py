"""What Firecracker counts: the parts of a line of its metrics that firelet reads.

Firecracker writes a line each minute and when it is asked to. Counts are those since the line
before; times and what it calls ``latencies_us`` are the last. Names and meaning are its own.
Source: Firecracker's ``docs/metrics.md`` and the structures that it names.
"""

from __future__ import annotations

import msgspec


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A version that does not count something leaves it out."""


class Vcpus(Part, frozen=True, kw_only=True):
    exit_io_in: int = 0
    exit_io_out: int = 0
    exit_mmio_read: int = 0
    exit_mmio_write: int = 0
    failures: int = 0


class Disks(Part, frozen=True, kw_only=True):
    """All of them together."""

    read_bytes: int = 0
    write_bytes: int = 0
    read_count: int = 0
    write_count: int = 0
    rate_limiter_throttled_events: int = 0
    event_fails: int = 0


class Interfaces(Part, frozen=True, kw_only=True):
    """All of them together. ``rx`` is what the guest received."""

    rx_bytes_count: int = 0
    rx_packets_count: int = 0
    rx_fails: int = 0
    tx_bytes_count: int = 0
    tx_packets_count: int = 0
    tx_fails: int = 0


class Streams(Part, frozen=True, kw_only=True):
    """vsock. ``rx`` is what the guest received."""

    rx_bytes_count: int = 0
    tx_bytes_count: int = 0
    conns_added: int = 0
    conns_killed: int = 0


class Filter(Part, frozen=True, kw_only=True):
    """``num_faults``: system calls that Firecracker's own filter stopped."""

    num_faults: int = 0


class Latencies(Part, frozen=True, kw_only=True):
    """Microseconds that Firecracker itself took."""

    vmm_full_create_snapshot: int = 0
    vmm_load_snapshot: int = 0
    vmm_pause_vm: int = 0
    vmm_resume_vm: int = 0


class Monitor(Part, frozen=True, kw_only=True):
    panic_count: int = 0


class FirecrackerMetrics(Part, frozen=True, kw_only=True):
    utc_timestamp_ms: int
    vmm: Monitor = Monitor()
    vcpu: Vcpus = Vcpus()
    block: Disks = Disks()
    net: Interfaces = Interfaces()
    vsock: Streams = Streams()
    seccomp: Filter = Filter()
    latencies_us: Latencies = Latencies()


def parse_last(text: str) -> FirecrackerMetrics | None:
    """Of the last whole line. None where there is none; ValueError where it is not what it should
    be."""
    lines = [line for line in text[: text.rfind("\n") + 1].splitlines() if line]
    if not lines:
        return None
    try:
        return msgspec.json.decode(lines[-1], type=FirecrackerMetrics)
    except msgspec.DecodeError as error:
        raise ValueError(f"Firecracker's metrics cannot be read: {error}") from error
