"""What every pid 1 of a sandbox has from its zygote."""

from __future__ import annotations

from typing import NamedTuple

from firelet.guest.steps import ProcCovers


class Inheritance(NamedTuple):
    """``final_filter`` is the system call filter for the last step. ``mount_namespace`` is a
    descriptor of the zygote's, which shows the store of packages; pid 1 closes it when it has its
    packages. ``makes_snapshots``: what the zygote makes is to be cloned, and has no filter yet."""

    final_filter: bytes
    mount_namespace: int
    proc_covers: ProcCovers
    makes_snapshots: bool
