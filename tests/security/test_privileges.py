"""What a function may do: no capability, no new privilege, no dangerous system call."""

from __future__ import annotations

import signal

import pytest

from boxes import PYTHON, SHELL, Box, BoxMaker

EPERM, ENOSYS = 1, 38

STATUS = """
import json
lines = open("/proc/self/status").read().splitlines()
print(json.dumps(dict(line.split(":", 1) for line in lines)))
"""

# Numbers are those of x86-64 and of aarch64. The arguments are harmless where a call would work.
CALLS = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "clone3": (435, 435),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "sethostname": (170, 161),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "fanotify_init": (300, 262),
    "move_pages": (279, 239),
    "vhangup": (153, 58),
}

CALL = """
import ctypes, json, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
column = ["x86_64", "aarch64"].index(platform.machine())
answers = {}
for name, numbers in json.loads(sys.argv[1]).items():
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(numbers[column]), *[ctypes.c_long(0)] * 6)
    answers[name] = ctypes.get_errno() if result < 0 else "done"
print(json.dumps(answers))
"""


async def status_of(box: Box) -> dict[str, str]:
    return {name: value.strip() for name, value in (await box.run_python(STATUS)).json().items()}


async def test_it_has_no_capability_and_can_get_none(box: Box) -> None:
    status = await status_of(box)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind


async def test_no_new_privileges_and_the_filter_are_on(box: Box) -> None:
    status = await status_of(box)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


async def test_it_is_one_user_and_in_no_other_group(box: Box) -> None:
    status = await status_of(box)
    assert len(set(status["Uid"].split())) == len(set(status["Gid"].split())) == 1
    assert status["Uid"].split()[0] not in ("0", "65534")
    assert set(status["Groups"].split()) <= {status["Gid"].split()[0], "65534"}


async def test_sandboxes_have_different_users(make_box: BoxMaker, needs_root: None) -> None:
    users = [(await status_of(await make_box(PYTHON)))["Uid"] for _ in range(2)]
    assert users[0] != users[1]


async def test_dangerous_system_calls_are_refused(box: Box) -> None:
    import json

    answers = (await box.run_python(CALL, json.dumps(CALLS))).json()
    assert {name: answer for name, answer in answers.items() if answer not in (EPERM, ENOSYS)} == {}


@pytest.mark.parametrize(
    "flag",
    [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000],
    ids=["mnt", "cgroup", "uts", "ipc", "user", "pid", "net"],
)
async def test_clone_makes_no_namespace(box: Box, flag: int) -> None:
    ran = await box.run_python(
        """
        import ctypes, os, platform, sys
        libc = ctypes.CDLL(None, use_errno=True)
        number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
        flags = ctypes.c_long(int(sys.argv[1]) | 17)
        result = libc.syscall(ctypes.c_long(number), flags, *[ctypes.c_long(0)] * 4)
        if result == 0:
            os._exit(0)
        print(result, ctypes.get_errno())
        """,
        str(flag),
    )
    assert ran.output in (f"-1 {EPERM}\n", f"-1 {ENOSYS}\n")


@pytest.mark.parametrize("name", ["AF_VSOCK", "AF_ALG", "AF_PACKET", "AF_BLUETOOTH", "AF_CAN"])
async def test_sockets_of_other_families_are_refused(box: Box, name: str) -> None:
    numbers = {"AF_VSOCK": 40, "AF_ALG": 38, "AF_PACKET": 17, "AF_BLUETOOTH": 31, "AF_CAN": 29}
    ran = await box.run_python(
        """
        import socket, sys
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(int(sys.argv[1]), kind)
                print("made")
            except OSError as error:
                print(error.errno in (1, 38))
        """,
        str(numbers[name]),
    )
    assert ran.output == "True\n" * 4


async def test_raw_sockets_of_the_internet_families_are_refused(box: Box) -> None:
    ran = await box.run_python(
        """
        import socket
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMP)
                print("made")
            except PermissionError:
                print("refused")
        """
    )
    assert ran.output == "refused\nrefused\n"


@pytest.mark.parametrize("number", [0x40000000 | 165, 0x40000000 | 39], ids=["mount", "getpid"])
async def test_the_second_set_of_numbers_of_x86_64_is_no_way_around(box: Box, number: int) -> None:
    ran = await box.run_python(
        """
        import ctypes, platform, sys
        if platform.machine() == "x86_64":
            libc = ctypes.CDLL(None, use_errno=True)
            libc.syscall.restype = ctypes.c_long
            print(libc.syscall(ctypes.c_long(int(sys.argv[1])), *[ctypes.c_long(0)] * 5))
        else:
            print(-1)
        """,
        str(number),
    )
    assert ran.ending.signal == signal.SIGSYS or ran.output == "-1\n"


@pytest.mark.parametrize("program", ["su", "mount", "passwd", "newgrp", "chsh"])
async def test_setuid_programs_of_the_host_give_nothing(make_box: BoxMaker, program: str) -> None:
    box = await make_box(SHELL)
    ran = await box.run_shell(
        f"path=$(command -v {program}) || {{ echo missing; exit; }};"
        f" $path --version < /dev/null > /dev/null 2>&1 &"
        " grep -h Uid /proc/$!/status 2>/dev/null | cut -f2-5; id -u; wait"
    )
    if ran.output.startswith("missing"):
        pytest.skip(f"this host has no {program}")
    *seen, own = ran.output.splitlines()
    assert own != "0"
    assert all(set(line.split()) == {own} for line in seen)


async def test_a_setuid_copy_of_its_own_gives_nothing(make_box: BoxMaker) -> None:
    box = await make_box(SHELL)
    ran = await box.run_shell("cp /usr/bin/id /tmp/id; chmod 6755 /tmp/id; id -u; /tmp/id -u")
    one, other = ran.output.split()
    assert one == other != "0"


async def test_device_nodes_cannot_be_made(box: Box) -> None:
    ran = await box.run_python(
        """
        import os, stat
        for kind, device in ((stat.S_IFCHR, (1, 1)), (stat.S_IFBLK, (254, 0))):
            try:
                os.mknod("/tmp/node", kind | 0o666, os.makedev(*device))
                os.open("/tmp/node", os.O_RDONLY)
                print("opened")
            except OSError:
                print("refused")
        """
    )
    assert ran.output == "refused\nrefused\n"


async def test_it_cannot_become_another_user(box: Box) -> None:
    ran = await box.run_python(
        """
        import os
        for change in (os.setuid, os.setgid, lambda number: os.setgroups([number])):
            for number in (0, 1, 65534):
                try:
                    change(number)
                    print("changed", number)
                except (OSError, OverflowError):
                    pass
        print(os.getuid() == os.geteuid() != 0)
        """
    )
    assert ran.output == "True\n"


async def test_limits_cannot_be_raised(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, resource
        found = {}
        for name in ("NOFILE", "NPROC", "CORE", "MEMLOCK", "STACK"):
            kind = getattr(resource, "RLIMIT_" + name)
            soft, hard = resource.getrlimit(kind)
            found[name] = hard
            try:
                resource.setrlimit(kind, (hard + 1, hard + 1))
                found[name] = "raised"
            except (OSError, ValueError):
                pass
        print(json.dumps(found))
        """
    )
    assert ran.json() == {
        "NOFILE": 1024,
        "NPROC": 1024,
        "CORE": 0,
        "MEMLOCK": 64 * 1024,
        "STACK": 8 * 2**20,
    }
