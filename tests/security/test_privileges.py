"""What a function may do: no capability, no new privilege, no dangerous system call."""

from __future__ import annotations

import json
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


@pytest.mark.only_namespaces("users of different machines have nothing in common")
async def test_sandboxes_have_different_users(make_box: BoxMaker, needs_root: None) -> None:
    users = [(await status_of(await make_box(PYTHON)))["Uid"] for _ in range(2)]
    assert users[0] != users[1]


async def test_dangerous_system_calls_are_refused(box: Box) -> None:
    answers = (await box.run_python(CALL, json.dumps(CALLS))).json()
    assert {name: answer for name, answer in answers.items() if answer not in (EPERM, ENOSYS)} == {}


async def test_clone_makes_no_namespace(box: Box) -> None:
    ran = await box.run_python(
        """
        import ctypes, json, os, platform
        libc = ctypes.CDLL(None, use_errno=True)
        number = {"x86_64": 56, "aarch64": 220}[platform.machine()]
        answers = {}
        for name, flag in dict(
            mnt=0x00020000, cgroup=0x02000000, uts=0x04000000, ipc=0x08000000,
            user=0x10000000, pid=0x20000000, net=0x40000000,
        ).items():
            flags = ctypes.c_long(flag | 17)
            result = libc.syscall(ctypes.c_long(number), flags, *[ctypes.c_long(0)] * 4)
            if result == 0:
                os._exit(0)
            answers[name] = ctypes.get_errno() if result < 0 else "made"
        print(json.dumps(answers))
        """
    )
    answers = ran.json()
    assert len(answers) == 7
    assert {name: answer for name, answer in answers.items() if answer not in (EPERM, ENOSYS)} == {}


async def test_sockets_of_other_families_are_refused(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, socket
        families = dict(vsock=40, alg=38, packet=17, bluetooth=31, can=29, tipc=30, xdp=44, rds=21)
        kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
        made = []
        for name, number in families.items():
            for kind in kinds:
                try:
                    socket.socket(number, kind)
                    made.append(name)
                except OSError as error:
                    if error.errno not in (1, 38):
                        made.append([name, error.errno])
        print(json.dumps(made))
        """
    )
    assert ran.json() == []


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
            except OSError as error:  # kernels of guests have no IPv6
                print("refused" if error.errno == 97 else error)
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


async def test_setuid_programs_of_the_host_give_nothing(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, os, pathlib, stat, subprocess
        users = {}
        for path in pathlib.Path("/usr/bin").iterdir():
            try:
                if not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID):
                    continue
                process = subprocess.Popen([path], stdin=-1, stdout=-1, stderr=-1)
            except OSError:
                continue
            try:
                status = open(f"/proc/{process.pid}/status").read()
                line = next(line for line in status.splitlines() if line.startswith("Uid"))
                users[path.name] = sorted(set(line.split()[1:]))
            except (OSError, StopIteration):
                pass
            process.kill()
            process.wait()
        print(json.dumps([str(os.getuid()), users]))
        """
    )
    own, users = ran.json()
    assert own != "0"
    assert {name: found for name, found in users.items() if found != [own]} == {}


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
