"""The host's memory as the kernel tells it, with and without a limit on the container."""

from __future__ import annotations

from pathlib import Path

import pytest

from firelet.worker.memory import (
    HostMemory,
    MemoryUse,
    parse_meminfo,
    parse_version_1,
    parse_version_2,
)

MEMINFO = """\
MemTotal:        8388608 kB
MemFree:          524288 kB
MemAvailable:    6291456 kB
Buffers:           43740 kB
HugePages_Total:       0
"""
V1_STAT = """\
cache 1
hierarchical_memory_limit 2147483648
total_inactive_file 104857600
total_active_file 104857600
"""
V2_STAT = "anon 1\ninactive_file 104857600\nactive_file 104857600\n"
GIB = 2**30


def test_what_is_available_is_not_in_use() -> None:
    assert parse_meminfo(MEMINFO) == MemoryUse(used_mib=2_048, total_mib=8_192)


def test_the_page_cache_of_a_group_is_not_in_use() -> None:
    assert parse_version_1(f"{GIB}\n", V1_STAT) == MemoryUse(used_mib=824, total_mib=2_048)
    assert parse_version_2(f"{2 * GIB}\n", f"{GIB}\n", V2_STAT) == MemoryUse(824, 2_048)


def test_a_group_without_a_limit_tells_nothing() -> None:
    assert parse_version_2("max\n", "4096\n", V2_STAT) is None


class Host:
    """The files of a host below a directory."""

    def __init__(self, root: Path) -> None:
        self.cgroups = root / "cgroup"
        self.cgroups.mkdir()
        self._meminfo = root / "meminfo"
        self._meminfo.write_text(MEMINFO)

    def read(self) -> MemoryUse:
        return HostMemory(self._meminfo, self.cgroups).read()

    def limit(self, version: int, total: int, used: int) -> None:
        if version == 1:
            home = self.cgroups / "memory"
            stat = V1_STAT.replace("2147483648", str(total))
            files = {"memory.usage_in_bytes": f"{used}\n", "memory.stat": stat}
        else:
            home = self.cgroups
            files = {
                "memory.max": f"{total}\n",
                "memory.current": f"{used}\n",
                "memory.stat": V2_STAT,
            }
        home.mkdir(exist_ok=True)
        for name, text in files.items():
            (home / name).write_text(text)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_control_groups_it_is_the_host_s(host: Host) -> None:
    assert host.read() == MemoryUse(2_048, 8_192)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_limit_counts(host: Host, version: int) -> None:
    host.limit(version, 2 * GIB, GIB)
    assert host.read() == MemoryUse(824, 2_048)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_no_more_than_its_host_has_left(host: Host, version: int) -> None:
    host.limit(version, 7 * GIB, GIB)
    assert host.read() == MemoryUse(7_168 - 6_144, 7_168)


@pytest.mark.parametrize("limit", [9_223_372_036_854_771_712, 8 * GIB])
def test_a_limit_that_is_none_does_not(host: Host, limit: int) -> None:
    host.limit(1, limit, GIB)
    assert host.read() == MemoryUse(2_048, 8_192)


def test_this_host_can_be_read() -> None:
    use = HostMemory().read()
    assert 0 < use.used_mib < use.total_mib
