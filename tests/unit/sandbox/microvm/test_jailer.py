"""The jailer's command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firelet.sandbox.microvm.jailer import Jail, build_command

PARTS: dict[str, Any] = {
    "id": "a1",
    "firecracker": Path("/usr/bin/firecracker"),
    "uid": 1001,
    "gid": 1002,
    "base": Path("/srv/jailer"),
    "cgroup_version": 2,
}


def test_a_jail_is_told_in_full() -> None:
    jail = Jail(
        **PARTS,
        parent_cgroup="firelet/7",
        limits={"memory.max": "300000000", "pids.max": "64"},
        network=Path("/run/netns/a1"),
        open_files_max=256,
    )
    assert build_command(jail) == [
        *("jailer", "--id", "a1", "--exec-file", "/usr/bin/firecracker"),
        *("--uid", "1001", "--gid", "1002", "--chroot-base-dir", "/srv/jailer"),
        *("--cgroup-version", "2", "--parent-cgroup", "firelet/7"),
        *("--cgroup", "memory.max=300000000", "--cgroup", "pids.max=64"),
        *("--netns", "/run/netns/a1", "--resource-limit", "no-file=256"),
        *("--new-pid-ns", "--", "--api-sock", "/run/firecracker.socket"),
    ]


def test_its_socket_is_below_its_root() -> None:
    jail = Jail(**PARTS)
    assert jail.socket == Path("/srv/jailer/firecracker/a1/root/run/firecracker.socket")


@pytest.mark.parametrize(
    "part",
    [
        {"id": "a/b"},
        {"id": ""},
        {"id": "x" * 65},
        {"firecracker": Path("/usr/bin/vmm")},
        {"cgroup_version": 3},
        {"uid": 0},
        {"gid": 0},
        {"parent_cgroup": "/firelet"},
        {"parent_cgroup": "firelet/../.."},
    ],
)
def test_what_the_jailer_would_refuse_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Jail(**{**PARTS, **part})
