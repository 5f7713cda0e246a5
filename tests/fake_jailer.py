"""Firecracker's jailer, as its documentation says what it does, but for two things: it does not
change its root (``fake_firecracker`` needs a Python), and it makes no device files.

It refuses arguments that the real one would, copies the program, makes the control groups and the
resource limits, gives the jail's directories to the user, starts in the jail's root and becomes the
program as that user, with no descriptors but the standard ones and no environment.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import resource
import shlex
import shutil
import sys
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIMITS = {"no-file": resource.RLIMIT_NOFILE, "fsize": resource.RLIMIT_FSIZE}


def write_program(directory: Path) -> Path:
    """An executable in ``directory`` that is this file."""
    script = directory / "jailer"
    command = shlex.join([sys.executable, "-ISB", str(Path(__file__).resolve())])
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return script


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("id", "exec-file", "uid", "gid"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--chroot-base-dir", default="/srv/jailer")
    parser.add_argument("--cgroup-version", choices=("1", "2"), default="1")
    parser.add_argument("--parent-cgroup", default="firecracker")
    parser.add_argument("--cgroup", action="append", default=[])
    parser.add_argument("--netns")
    parser.add_argument("--resource-limit", action="append", default=["no-file=2048"])
    split = words.index("--") if "--" in words else len(words)
    given, theirs = parser.parse_args(words[:split]), words[split + 1 :]
    if not re.fullmatch("[A-Za-z0-9-]{1,64}", given.id):
        sys.exit("Invalid instance ID")
    program = Path(given.exec_file).resolve(strict=True)
    if "firecracker" not in program.name:
        sys.exit("Invalid filename: it must contain firecracker")
    _enter_groups(given)
    for limit in given.resource_limit:
        name, value = limit.split("=")
        resource.setrlimit(_LIMITS[name], (int(value), int(value)))
    if given.netns:
        _enter_network(given.netns)
    _enter_root(given, program, theirs)


def _enter_network(path: str) -> None:
    with open(path) as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) < 0:
            sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")


def _enter_groups(given: argparse.Namespace) -> None:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    for setting in given.cgroup:
        file, value = setting.split("=")
        controller = file.partition(".")[0]
        places = [
            Path(place)
            for _, place, kind, options, *_ in mounts
            if (kind == "cgroup2" and given.cgroup_version == "2")
            or (
                kind == "cgroup"
                and given.cgroup_version == "1"
                and controller in options.split(",")
            )
        ]
        group = places[0] / given.parent_cgroup / given.id
        group.mkdir(parents=True, exist_ok=True)
        if given.cgroup_version == "2":
            for above in (places[0], group.parent):
                (above / "cgroup.subtree_control").write_text(f"+{controller}")
        (group / file).write_text(value)
        (group / "cgroup.procs").write_text(str(os.getpid()))


def _enter_root(given: argparse.Namespace, program: Path, theirs: list[str]) -> None:
    uid, gid = int(given.uid), int(given.gid)
    base = Path(given.chroot_base_dir).resolve(strict=True)
    root = base / program.name / given.id / "root"
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, root / program.name)
    for folder in (root, root / "dev", root / "run"):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, uid, gid)
    os.chdir(root)
    os.closerange(3, 1024)
    # The Python of the fake may be where only root looks; the right to read is no right to write.
    reader = "+dac_read_search"
    command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    command += [f"--inh-caps=-all,{reader}", f"--ambient-caps=-all,{reader}", "--"]
    command += [f"./{program.name}", "--id", given.id, *theirs]
    os.execve(shutil.which("setpriv") or "setpriv", command, {})


if __name__ == "__main__":
    main(sys.argv[1:])
