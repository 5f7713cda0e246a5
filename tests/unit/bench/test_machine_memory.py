"""What a machine holds, from what the kernel says of its process."""

from __future__ import annotations

from bench.machine_memory import Held, median_of, parse_smaps

SMAPS = """\
7f0000000000-7f0080000000 rw-p 00000000 00:01 4242                       /memfd:machine (deleted)
Size:            2097152 kB
Rss:               40960 kB
Pss:               10240 kB
Shared_Clean:      30720 kB
Private_Clean:      1024 kB
Private_Dirty:      4096 kB
VmFlags: rd wr mr mw me ac sd
7f0080000000-7f0083fff000 rwxp 00000000 00:00 0
Pss:               18432 kB
Private_Clean:         0 kB
Private_Dirty:     18432 kB
7f0090000000-7f0090001000 r-xp 00001000 fe:00 77         /usr/bin/qemu-system-x86_64
Pss:                1024 kB
Private_Clean:       512 kB
Private_Dirty:         0 kB
55550000a000-55550000b000 rw-p 00000000 00:00 0                          [heap]
Pss:                5120 kB
Private_Clean:         0 kB
Private_Dirty:      5120 kB
"""


def test_memory_is_the_guests_translated_code_or_the_rest() -> None:
    held = parse_smaps(SMAPS)
    assert held == Held(guest=5.0, translated=18.0, rest=5.5, pss=34.0)
    assert held.private == 28.5


def test_what_is_shared_is_nobodys_own() -> None:
    shared = SMAPS.replace("Private_", "Shared_")
    assert parse_smaps(shared).private == 0


def test_of_many_machines_the_middle_one_of_each_part_is_told() -> None:
    held = [Held(1, 30, 5, 40), Held(2, 10, 6, 30), Held(9, 20, 7, 80)]
    assert median_of(held) == Held(2, 20, 6, 40)
