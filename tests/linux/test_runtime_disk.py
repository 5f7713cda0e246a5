"""The disks of guests in use: interpreters of this host run in a root that has nothing but what is
on them. No machine is needed for that: disks are unpacked and bound where a guest mounts them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import disks
import guest_images
from firelet.model.layout import JAVA_CLIENT
from firelet.sandbox import interpreters, java
from firelet.sandbox.microvm import base_system, runtime_disk
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.rootfs import RootPlan, plan_root

_MISSING = guest_images.missing_base() or ("needs root" if os.geteuid() != 0 else None)
pytestmark = pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING))

SOURCES = Path(__file__).resolve().parents[2] / "src"
FOUND = interpreters.discover()
MINORS = [int(name.rpartition(".")[2]) for name in FOUND if name.startswith("python")]
# In a root of its own: argv[2] and what follows it.
ENTER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from firelet.guest import base_root
from firelet.linux import namespaces
plan = json.loads(sys.stdin.read())
namespaces.unshare(namespaces.CLONE_NEWNS)
base_root.build(plan)
os.execve(sys.argv[2], sys.argv[2:], {**plan["environment"], "PATH": "/var/lang/bin:/bin"})
"""
# Prints what has to be compiled, because it has no bytecode or that is not up to date.
COMPILED_HERE = """
import sys
from importlib.machinery import SourceFileLoader
compile_source = SourceFileLoader.source_to_code
def note(self, data, path, **options):
    print(path)
    return compile_source(self, data, path, **options)
SourceFileLoader.source_to_code = note
sys.path[1:1] = ["/var/runtime/client", "/var/runtime"]
import asyncio, boto3, http.client, logging, sqlite3, unittest
import firelet.guest.python_runtime, firelet.guest.zygote
"""
ZYGOTE_IMPORTS = "import sys; sys.path[0] = '/var/runtime/client'; import firelet.guest.zygote"


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    manifest: BaseManifest
    files: Path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    place = tmp_path_factory.mktemp("base")
    suite = base_system.host_suite()
    manifest = base_system.build(guest_images.base_archive(), suite, place / "disk")
    disks.check(place / "disk")
    return Base(manifest, disks.unpack(place / "disk", place / "files"))


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """A runtime's root as a guest would have it."""

    plan: RootPlan

    def run(self, *command: str) -> str:
        answer = subprocess.run(
            [sys.executable, "-c", ENTER, str(SOURCES), *command],
            input=json.dumps(self.plan.message()),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stderr
        return answer.stdout


def make_root(runtime: str, base: Base, store: DiskStore, place: Path) -> Root:
    """Skips when this host has no such runtime."""
    if runtime not in FOUND:
        pytest.skip(f"this host has no {runtime}")
    interpreter = FOUND[runtime]
    code = place / "code"
    code.mkdir()
    client = None
    if interpreter.family == "java":
        client = java.ensure_client(FOUND.values(), place / "java")
    plan = plan_root(interpreter, code, is_rootless=False, java_client=client)
    made = runtime_disk.ensure_runtime_disk(interpreter, plan, base.manifest, store)
    disks.check(made.disk.path)
    files = disks.unpack(made.disk.path, place / "files")
    places = {
        runtime_disk.BASE: base.files,
        runtime_disk.RUNTIME: files,
        runtime_disk.STORE: code,
    }
    binds = []
    for target, source in made.plan.binds:
        (drive,) = [drive for drive in places if source == drive or source.startswith(drive + "/")]
        binds.append((target, str(places[drive]) + source.removeprefix(drive)))
    return Root(dataclasses.replace(made.plan, binds=tuple(binds)))


@pytest.mark.parametrize("minor", sorted({min(MINORS), max(MINORS)}))
def test_a_python_runs_on_its_disk(
    minor: int, base: Base, store: DiskStore, tmp_path: Path
) -> None:
    root = make_root(f"python3.{minor}", base, store, tmp_path)
    program = (
        "import ssl, sqlite3, ctypes, bz2, lzma, sys, json; print(sys.version_info[1], sys.prefix)"
    )
    assert root.run(root.plan.interpreter, "-c", program).split() == [str(minor), "/var/lang"]
    # What is on the path comes before the base system's own.
    assert root.run("/bin/sh", "-c", "command -v python3").strip() == "/var/lang/bin/python3"
    root.run(root.plan.interpreter, "-S", "-c", ZYGOTE_IMPORTS)


def test_a_python_has_bytecode_for_all_that_it_and_the_platform_import(
    base: Base, store: DiskStore, tmp_path: Path
) -> None:
    name = f"python3.{sys.version_info.minor}"
    root = make_root(name, base, store, tmp_path)
    assert root.run(root.plan.interpreter, "-S", "-c", COMPILED_HERE).strip() == ""


def test_a_node_runs_on_its_disk(base: Base, store: DiskStore, tmp_path: Path) -> None:
    runtime = next((name for name in FOUND if name.startswith("nodejs")), "nodejs")
    root = make_root(runtime, base, store, tmp_path)
    program = (
        "import('node:https').then(() => fetch('data:,6')).then(r => r.text()).then(console.log)"
    )
    assert root.run("/var/lang/bin/node", "-e", program).strip() == "6"


def test_a_ruby_runs_on_its_disk(base: Base, store: DiskStore, tmp_path: Path) -> None:
    runtime = next((name for name in FOUND if name.startswith("ruby")), "ruby")
    root = make_root(runtime, base, store, tmp_path)
    program = 'require "json"; require "openssl"; require "psych"; puts JSON.dump([6 * 7])'
    assert root.run("/var/lang/bin/ruby", "-e", program).strip() == "[42]"


@pytest.mark.parametrize("runtime", [name for name in FOUND if name.startswith("java")])
def test_a_java_runs_on_its_disk(
    runtime: str, base: Base, store: DiskStore, tmp_path: Path
) -> None:
    root = make_root(runtime, base, store, tmp_path)
    assert "openjdk" in root.run("/var/lang/bin/java", "--version")
    root.run("/bin/sh", "-c", f"test -s {JAVA_CLIENT}")


@pytest.mark.parametrize("family", ["nodejs", "ruby", "java", "provided"])
def test_where_the_runtime_cannot_fork_the_base_systems_python_does(
    family: str, base: Base, store: DiskStore, tmp_path: Path
) -> None:
    runtime = next((name for name in FOUND if name.startswith(family)), family)
    root = make_root(runtime, base, store, tmp_path)
    assert root.plan.interpreter == "/usr/bin/python3"
    root.run(root.plan.interpreter, "-I", "-S", "-B", "-c", ZYGOTE_IMPORTS)


def test_the_base_system_has_what_functions_may_expect(
    base: Base, store: DiskStore, tmp_path: Path
) -> None:
    root = make_root("provided.al2023", base, store, tmp_path)
    for command in (
        "ls / | grep -c . | sed s/x/y/",
        "echo a b | awk '{ print $2 }' | tr b c | xargs echo",
        "curl --version && openssl version && tar --version && gzip --version && which env",
        "TZ=Europe/Berlin date +%Z",
        "grep -c BEGIN /etc/ssl/certs/ca-certificates.crt",
        "bash -c 'echo ${BASH_VERSION}'",
    ):
        assert root.run("/bin/sh", "-ec", command).strip() != "", command
    assert root.run("/bin/sh", "-c", "TZ=Europe/Berlin date -d 2026-07-01 +%Z").strip() == "CEST"
    assert root.run("/bin/sh", "-c", "find / -xdev -perm /6000 2>/dev/null; true") == ""


def test_the_same_archive_gives_the_same_base_system(base: Base, tmp_path: Path) -> None:
    suite = base_system.host_suite()
    again = base_system.build(guest_images.base_archive(), suite, tmp_path / "disk")
    assert again == base.manifest
