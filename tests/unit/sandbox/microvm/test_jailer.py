"""The jailer's command line, and what is around it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from firelet.sandbox.microvm import jailer
from firelet.sandbox.microvm.jailer import Jail, JailPolicy

POLICY = JailPolicy(uid=1001, gid=1002)
FULL = JailPolicy(
    uid=1001,
    gid=1002,
    parent_cgroup="firelet/7",
    limits={"memory.max": "300000000", "pids.max": "64"},
    network=Path("/run/netns/a1"),
    open_files_max=256,
    file_size_max_bytes=1 << 30,
)
PARTS: dict[str, Any] = {
    "id": "a1",
    "firecracker": Path("/usr/bin/firecracker"),
    "base": Path("/srv/jailer"),
    "policy": POLICY,
}
# As the kernel tells them, shortened.
V1 = "cgroup /c/memory cgroup rw,memory 0 0\ncgroup /c/cpu cgroup rw,cpu,cpuacct 0 0\n"
V2 = "cgroup2 /c/unified cgroup2 rw,relatime 0 0\nproc /proc proc rw 0 0\n"


def test_a_jail_is_told_in_full() -> None:
    jail = Jail(**{**PARTS, "policy": FULL})
    assert jailer.build_command(jail, ["--api-sock", "api.socket"]) == [
        *("jailer", "--id", "a1", "--exec-file", "/usr/bin/firecracker"),
        *("--uid", "1001", "--gid", "1002", "--chroot-base-dir", "/srv/jailer"),
        *("--cgroup-version", "2", "--parent-cgroup", "firelet/7"),
        *("--cgroup", "memory.max=300000000", "--cgroup", "pids.max=64"),
        *("--netns", "/run/netns/a1"),
        *("--resource-limit", "no-file=256", "--resource-limit", "fsize=1073741824"),
        *("--", "--api-sock", "api.socket"),
    ]


def test_without_limits_the_jailer_makes_no_control_groups() -> None:
    command = jailer.build_command(Jail(**PARTS), [])
    assert not [word for word in command if "cgroup" in word]
    assert jailer.control_groups(Jail(**PARTS), V1 + V2) == []


def test_the_jail_is_in_namespaces_and_its_files_are_bound_there() -> None:
    jail = Jail(**PARTS)
    words = jailer.wrap_command(jail, {"vda": Path("/images/base")}, ["jailer", "--id", "a1"])
    assert words[:6] == ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]
    root = "/srv/jailer/firecracker/a1/root"
    assert (
        words[9:]
        == [
            *("/bin/sh", "/srv/jailer/init", "/images/base", f"{root}/vda"),
            *("--", "jailer", "--id", "a1"),
        ][-len(words[9:]) :]
    )


@pytest.mark.parametrize(
    ("version", "limits", "found"),
    [
        (2, {"memory.max": "1", "pids.max": "1"}, ["/c/unified/firelet/a1"]),
        (1, {"memory.limit_in_bytes": "1"}, ["/c/memory/firelet/a1"]),
        (
            1,
            {"memory.limit_in_bytes": "1", "cpu.shares": "2"},
            ["/c/memory/firelet/a1", "/c/cpu/firelet/a1"],
        ),
    ],
)
def test_the_groups_that_the_jailer_leaves_are_known(
    version: int, limits: dict[str, str], found: list[str]
) -> None:
    policy = JailPolicy(
        uid=1, gid=1, cgroup_version=version, parent_cgroup="firelet", limits=limits
    )
    jail = Jail(**{**PARTS, "policy": policy})
    assert list(map(str, jailer.control_groups(jail, V1 + V2))) == found


@pytest.mark.parametrize(
    "part",
    [
        {"id": "a/b"},
        {"id": ""},
        {"id": "x" * 65},
        {"firecracker": Path("/usr/bin/vmm")},
    ],
)
def test_what_the_jailer_would_refuse_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Jail(**{**PARTS, **part})


@pytest.mark.parametrize(
    "part",
    [
        {"cgroup_version": 3},
        {"uid": 0},
        {"gid": 0},
        {"parent_cgroup": "/firelet"},
        {"parent_cgroup": "firelet/../.."},
        {"parent_cgroup": "./firelet"},
        {"limits": {"memory.max": "1"}},
    ],
)
def test_a_policy_that_would_hold_nothing_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        JailPolicy(**{"uid": 1, "gid": 1, **part})


@pytest.mark.parametrize(
    ("mode", "owner", "group", "expected"),
    [
        (0o400, 5, 0, True),
        (0o044, 5, 6, False),  # the owner's bits count for the owner, whatever others may
        (0o040, 0, 6, True),
        (0o404, 0, 6, False),
        (0o004, 0, 0, True),
        (0o440, 0, 0, False),
    ],
)
def test_who_may_read_a_file(mode: int, owner: int, group: int, expected: bool) -> None:
    found = os.stat_result((0o100000 | mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    assert jailer.is_readable(found, uid=5, gid=6) is expected
