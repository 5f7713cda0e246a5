"""What a function can see: its own code, the runtime, and nothing else of the host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from boxes import DIGEST, OTHER_DIGEST, PYTHON, SHELL, Box, BoxMaker, Packages

LISTING = """
import json, os, sys
def attempt(path):
    try:
        if os.path.isdir(path):
            return os.listdir(path)
        return open(path, "rb").read(50).decode("latin-1")
    except OSError as error:
        return error.errno
print(json.dumps({path: attempt(path) for path in sys.argv[1:]}))
"""


async def look(box: Box, *paths: str) -> dict[str, object]:
    """What a read of each path gives: a listing, the first bytes, or errno."""
    found: dict[str, object] = (await box.run_python(LISTING, *paths)).json()
    return found


HOST_PLACES = """
/root /home /boot /sys /run /srv /work /etc/shadow /etc/ssh /etc/machine-id
/dev/mem /dev/kvm /dev/fuse /dev/net /dev/shm /dev/tty /dev/pts /var/log /var/run /var/lib
"""


async def test_places_of_the_host_are_not_there(box: Box) -> None:
    paths = HOST_PLACES.split()
    assert await look(box, *paths) == dict.fromkeys(paths, 2)


async def test_the_root_holds_what_is_listed_and_nothing_else(box: Box) -> None:
    found = set((await look(box, "/"))["/"])  # type: ignore[call-overload]
    allowed = {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "mnt", "opt", "proc", "sbin"}
    assert found <= allowed | {"tmp", "usr", "var", ".firelet"}


async def test_the_platform_s_data_is_not_reachable(
    box: Box, data_directory: Path, packages: Packages
) -> None:
    paths = [str(data_directory), str(data_directory / "platform-secret"), str(packages.root)]
    paths += [f"/proc/1/root{path}" for path in paths]
    assert set((await look(box, *paths)).values()) <= {2, 13}


async def test_the_platform_s_own_code_and_packages_are_not_there(box: Box) -> None:
    import firelet

    package = Path(firelet.__file__).parent
    # A host may have installed firelet for everyone below /usr, which every sandbox sees.
    paths = [path for path in (str(package), sys.prefix) if not path.startswith("/usr")]
    paths.append("/var/runtime/client/firelet/sandbox")
    assert set((await look(box, *paths)).values()) == {2}


async def test_other_functions_code_is_not_reachable(
    make_box: BoxMaker, packages: Packages
) -> None:
    packages.add(OTHER_DIGEST, {"secret.py": "TOKEN = 'of the other function'\n"})
    box = await make_box(PYTHON)
    assert (await look(box, "/var/task"))["/var/task"] == ["app.py"]
    paths = ["/.firelet", "/.firelet/code", f"/.firelet/code/{OTHER_DIGEST}"]
    paths += [f"{root}{path}" for path in paths for root in ("/proc/1/root", "/proc/1/cwd/..")]
    paths += [f"/var/task/../{OTHER_DIGEST}", f"/proc/self/root/.firelet/code/{OTHER_DIGEST}"]
    found = await look(box, *paths)
    # The place where the stores were may be seen, and is empty.
    assert {path: answer for path, answer in found.items() if answer not in (2, 13, [])} == {}


async def test_no_descriptor_leads_out_of_the_sandbox(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, os
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                fds = os.listdir(f"/proc/{pid}/fd")
            except OSError as error:
                found[pid] = error.errno
                continue
            for fd in fds:
                link = f"/proc/{pid}/fd/{fd}"
                try:
                    found[pid + "/" + fd] = os.readlink(link)
                except OSError:
                    pass  # refused, or the one that the listing had open
        print(json.dumps([os.getpid(), found]))
        """
    )
    own, targets = ran.json()
    targets.pop("1", None)
    assert sorted(targets) == [f"{own}/{fd}" for fd in range(4)]
    assert targets.pop(f"{own}/0") == "/dev/null"
    assert all(target.startswith("pipe:") for target in targets.values())


async def test_no_program_starts_with_a_descriptor_of_the_platform(make_box: BoxMaker) -> None:
    box = await make_box(SHELL)
    ran = await box.run_shell("ls /proc/$$/fd")
    assert ran.output.split() == ["0", "1", "2", "3"]


async def test_only_its_own_processes_can_be_seen(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, os
        pids = sorted(map(int, filter(str.isdigit, os.listdir("/proc"))))
        print(json.dumps([os.getpid(), pids]))
        """
    )
    own, pids = ran.json()
    assert pids == [1, own]


async def test_nothing_but_tmp_can_be_written(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, os
        points = [line.split()[4] for line in open("/proc/self/mountinfo")]
        written = []
        for point in points:
            if os.path.isdir(point):
                for root, directories, files in os.walk(point):
                    directories[:] = directories[:20] if root.count("/") < 4 else []
                    if root.startswith(("/tmp", "/proc")) and point not in ("/tmp", "/proc"):
                        continue
                    try:
                        os.mkdir(root + "/made-by-test")
                        written.append(root)
                    except OSError:
                        pass
                    if point in ("/tmp", "/proc"):
                        break
            else:
                try:
                    os.close(os.open(point, os.O_WRONLY | os.O_APPEND))
                    written.append(point)
                except OSError:
                    pass
        print(json.dumps(sorted(set(written))))
        """
    )
    devices = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}
    masked = {"/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/kcore"}
    masked |= {"/proc/latency_stats", "/proc/sched_debug"}
    assert set(ran.json()) - devices - masked == {"/tmp"}


async def test_every_mount_but_tmp_and_proc_says_read_only(box: Box) -> None:
    ran = await box.run_python(
        """
        import json
        rows = [line.split() for line in open("/proc/self/mountinfo")]
        print(json.dumps([[row[4], row[5].split(",")] for row in rows]))
        """
    )
    for point, options in ran.json():
        if point not in ("/tmp", "/proc"):
            assert "ro" in options, point
        assert "nosuid" in options or not point.startswith(("/usr", "/var", "/tmp")), point
        if not point.startswith("/dev/") and not point.startswith("/proc"):
            assert "nodev" in options, point


SWITCHES = """
/proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/overcommit_memory
/proc/sys/net/ipv4/ip_forward /proc/sysrq-trigger /proc/irq/default_smp_affinity
/proc/1/oom_score_adj /proc/1/mem /proc/self/uid_map /proc/self/loginuid
"""


async def test_the_kernel_s_switches_cannot_be_moved(box: Box) -> None:
    ran = await box.run_python(
        """
        import json, os, sys
        written = []
        for path in sys.argv[1:]:
            try:
                os.write(os.open(path, os.O_WRONLY), b"0 0 1")
                written.append(path)
            except OSError:
                pass
        print(json.dumps(written))
        """,
        *SWITCHES.split(),
    )
    assert ran.json() == []


async def test_what_tells_of_the_host_is_covered(box: Box) -> None:
    names = ("kcore", "keys", "timer_list", "sched_debug", "kmsg", "latency_stats")
    found = await look(box, *(f"/proc/{name}" for name in names))
    assert {path: answer for path, answer in found.items() if answer not in ("", 1, 2, 13)} == {}


async def test_the_environment_holds_nothing_of_the_platform(box: Box) -> None:
    os.environ["FIRELET_TEST_SECRET"] = "of the platform"
    try:
        ran = await box.run_python(
            """
            import json, os
            texts = []
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    texts.append(open(f"/proc/{pid}/environ").read())
                except OSError:
                    texts.append("refused")
            print(json.dumps([sorted(os.environ), texts]))
            """
        )
        names, texts = ran.json()
    finally:
        del os.environ["FIRELET_TEST_SECRET"]
    assert set(names) <= {"LD_LIBRARY_PATH", "LC_CTYPE"}
    assert texts[0] == "refused"
    assert not any("FIRELET_TEST_SECRET" in text for text in texts)


async def test_the_accounts_of_the_host_are_not_there(make_box: BoxMaker) -> None:
    box = await make_box(SHELL)
    ran = await box.run_shell("cut -d: -f1 /etc/passwd /etc/group")
    assert set(ran.output.split()) == {"root", "sbx_user1051"}


async def test_its_own_package_is_read_only(make_box: BoxMaker, packages: Packages) -> None:
    box = await make_box(SHELL)
    ran = await box.run_shell("echo x > /var/task/app.py; rm /var/task/app.py; echo done")
    assert "done" in ran.output
    assert (packages.root / DIGEST / "app.py").read_text().startswith("def handler")
