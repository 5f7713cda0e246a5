"""What QEMU's adapter decides by itself."""

from __future__ import annotations

import os
import stat

import pytest

from firelet.sandbox.microvm.qemu import groups_for_kvm
from firelet.sandbox.microvm.vmm import VmmError


def device(mode: int, gid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFCHR | mode, 1, 1, 1, 0, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "gid", "groups"), [(0o660, 104, (104,)), (0o666, 0, ()), (0o666, 104, ())]
)
def test_another_user_gets_at_kvm_by_the_group_of_the_device(
    mode: int, gid: int, groups: tuple[int, ...]
) -> None:
    assert groups_for_kvm(device(mode, gid)) == groups


@pytest.mark.parametrize(("mode", "gid"), [(0o600, 104), (0o660, 0), (0o640, 104)])
def test_nobody_is_put_into_the_group_of_root(mode: int, gid: int) -> None:
    with pytest.raises(VmmError, match="needs a group"):
        groups_for_kvm(device(mode, gid))
