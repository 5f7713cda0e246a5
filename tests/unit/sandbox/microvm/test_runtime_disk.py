"""What of an interpreter goes onto a disk, and how a plan is rewritten. That the interpreters of
this host run from their disks is proven in ``tests/linux/test_runtime_disk``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import disks
from firelet.sandbox import rootfs
from firelet.sandbox.interpreter import Interpreter
from firelet.sandbox.microvm import interpreter_files, runtime_disk
from firelet.sandbox.microvm.base_system import BaseManifest
from firelet.sandbox.microvm.disk_store import DiskStore
from firelet.sandbox.microvm.host_tools import ImageBuildError
from firelet.sandbox.microvm.runtime_disk import RuntimeDisk, ensure_runtime_disk
from firelet.sandbox.rootfs import RootPlan, plan_root

pytestmark = pytest.mark.skipif(disks.MISSING is not None, reason=str(disks.MISSING))

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = BaseManifest("0" * 64, "0" * 64, "bookworm", VERSION, ("libc.so.6",))


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Of a Python, whose executable is a script that starts the one of these tests."""
    root = tmp_path / "prefix"
    library = f"lib/python{VERSION}"
    for name in (
        f"{library}/os.py",
        f"{library}/json/__init__.py",
        f"{library}/json/tests/test_json.py",
        f"{library}/test/support.py",
        f"{library}/idlelib/idle.py",
        f"{library}/ensurepip/_bundled/pip.whl",
        f"{library}/config-{VERSION}-x86_64/libpython.a",
        f"{library}/site-packages/customer.py",
        f"{library}/lib-dynload/_tkinter.so",
        f"{library}/lib-dynload/_json.so",
        f"{library}/__pycache__/os.cpython-{VERSION.replace('.', '')}.pyc",
        f"{library}/__pycache__/os.cpython-{VERSION.replace('.', '')}.opt-1.pyc",
        f"lib/libpython{VERSION}.so.1.0",
        "lib/pkgconfig/python.pc",
        "lib/other/file",
        "include/python.h",
        "share/man/python.1",
        "bin/pip",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    executable = root / f"bin/python{VERSION}"
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    executable.chmod(0o755)
    return root


@pytest.fixture
def python(prefix: Path) -> Interpreter:
    return Interpreter(f"python{VERSION}", "python", prefix, f"bin/python{VERSION}")


@pytest.fixture(autouse=True)
def short_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the AWS SDK and the debugger, which take seconds to compile."""
    monkeypatch.setattr(rootfs, "_python_binds", lambda _: {})


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "disks")


def plan_of(interpreter: Interpreter, tmp_path: Path) -> RootPlan:
    shared = {"arn:one": tmp_path}
    return plan_root(interpreter, tmp_path / "code", is_rootless=True, file_systems=shared)


def make(interpreter: Interpreter, store: DiskStore, tmp_path: Path) -> RuntimeDisk:
    return ensure_runtime_disk(interpreter, plan_of(interpreter, tmp_path), BASE, store)


def files_at(target: str, made: RuntimeDisk, place: Path) -> set[str]:
    """Files and empty directories of the disk at a path of the sandbox."""
    source = dict(made.plan.binds)[target]
    assert source.startswith(runtime_disk.RUNTIME)
    if not place.exists():
        disks.unpack(made.disk.path, place)
    root = Path(str(place) + source.removeprefix(runtime_disk.RUNTIME))
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if not path.is_dir() or not any(path.iterdir())
    }


def test_of_a_python_only_the_library_is_taken(
    python: Interpreter, store: DiskStore, tmp_path: Path
) -> None:
    made = make(python, store, tmp_path)
    tag = f"cpython-{VERSION.replace('.', '')}"
    library = f"lib/python{VERSION}"
    assert files_at("/var/lang", made, tmp_path / "found") == {
        "bin/python",
        "bin/python3",
        f"bin/python{VERSION}",
        f"{library}/os.py",
        f"{library}/json/__init__.py",
        f"{library}/json/__pycache__/__init__.{tag}.pyc",
        f"{library}/__pycache__/os.{tag}.pyc",
        f"{library}/site-packages",
        f"{library}/lib-dynload/_json.so",
        f"lib/libpython{VERSION}.so.1.0",
    }


def test_the_platforms_own_files_are_compiled_and_one_mount(
    python: Interpreter, store: DiskStore, tmp_path: Path
) -> None:
    made = make(python, store, tmp_path)
    found = files_at("/var/runtime", made, tmp_path / "found")
    tag = f"cpython-{VERSION.replace('.', '')}"
    assert {
        "client/bootstrap.py",
        "client/firelet/__init__.py",
        "client/firelet/guest/zygote.py",
        f"client/firelet/guest/__pycache__/zygote.{tag}.pyc",
        f"client/firelet/linux/__pycache__/mount.{tag}.pyc",
        "client/firelet/guest/node_runtime.cjs",
        "lib",
    } <= found
    assert not any(name.startswith("client/firelet/guest/java/") for name in found)
    below = [target for target, _ in made.plan.binds if target.startswith("/var/runtime")]
    assert below == ["/var/runtime"]


def test_the_plan_names_the_places_of_a_guest_and_nothing_of_the_host(
    python: Interpreter, store: DiskStore, tmp_path: Path
) -> None:
    made = make(python, store, tmp_path)
    binds = dict(made.plan.binds)
    assert binds["/usr"] == "/drives/base/usr"
    assert binds["/.firelet/code"] == "/drives/store"
    assert all(source.startswith("/drives/") for source in binds.values())
    assert not any(target.startswith("/.firelet/file_systems") for target in binds)
    links = dict(made.plan.links)
    assert links["/bin"] == "usr/bin"
    assert links["/lib64"] == "usr/lib64"
    assert links["/etc/localtime"] == "/usr/share/zoneinfo/UTC"
    assert made.plan.interpreter == f"/var/lang/bin/python{VERSION}"
    assert made.plan.is_rootless is False
    assert made.plan.covers == ()
    assert set(made.plan.message()) == set(plan_of(python, tmp_path).message())


def test_a_disk_is_made_again_only_when_its_files_change(
    python: Interpreter, store: DiskStore, tmp_path: Path, prefix: Path
) -> None:
    first = make(python, store, tmp_path)
    (prefix / "lib/other/file").write_text("not taken")
    assert make(python, DiskStore(tmp_path / "disks"), tmp_path) == first
    (prefix / f"lib/python{VERSION}/os.py").write_text("x = 1\n")
    second = make(python, store, tmp_path)
    assert second.disk.name != first.disk.name
    assert second.disk.digest != first.disk.digest


def test_the_same_files_give_the_same_bytes(
    python: Interpreter, store: DiskStore, tmp_path: Path
) -> None:
    other = make(python, DiskStore(tmp_path / "other"), tmp_path)
    assert make(python, store, tmp_path).disk.digest == other.disk.digest


def test_everybody_can_read_it_whatever_the_platforms_mask_is(
    python: Interpreter, store: DiskStore, tmp_path: Path
) -> None:
    mask = os.umask(0o077)
    try:
        made = make(python, store, tmp_path)
    finally:
        os.umask(mask)
    number = dict(made.plan.binds)["/var/runtime"].rpartition("/")[2]
    for directory in ("", f"/{number}", f"/{number}/client/firelet/guest/__pycache__"):
        for name, (mode, _, _) in disks.listing(made.disk.path, directory or "/").items():
            wanted = 0o755 if mode.startswith("04") else 0o444
            assert int(mode, 8) & wanted == wanted, (directory, name, mode)


def test_a_node_in_usr_is_taken_without_the_rest_of_usr(
    store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usr = tmp_path / "usr"
    (usr / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("true") or "/bin/true", usr / "bin/node")
    (usr / "bin/other").write_text("")
    made = make(Interpreter("nodejs20.x", "nodejs", usr, "bin/node"), store, tmp_path)
    assert files_at("/var/lang", made, tmp_path / "found") == {"bin/node"}
    assert made.plan.interpreter == "/usr/bin/python3"
    assert not any(target.startswith("/.firelet/lang") for target, _ in made.plan.binds)


@pytest.mark.skipif(shutil.which("ldd") is None, reason="ldd is missing")
def test_libraries_that_the_base_system_lacks_come_along(store: DiskStore, tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    program = shutil.which("bash")
    if program is None:
        pytest.skip("bash, which has a library of its own, is missing")
    shutil.copy(program, tmp_path / "usr/bin/node")
    made = make(Interpreter("nodejs20.x", "nodejs", tmp_path / "usr", "bin/node"), store, tmp_path)
    libraries = {
        name.removeprefix("lib/")
        for name in files_at("/var/runtime", made, tmp_path / "found")
        if name.startswith("lib/")
    }
    assert any(name.startswith("libtinfo.so") for name in libraries)
    assert "libc.so.6" not in libraries


def test_a_ruby_is_also_where_it_was_built_for(store: DiskStore, tmp_path: Path) -> None:
    prefix = tmp_path / "ruby"
    for name in ("bin/ruby", "lib/ruby/3.3.0/json.rb", "lib/libruby.so.3", "lib/libruby.a", "doc"):
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text("")
    made = make(Interpreter("ruby3.3", "ruby", prefix, "bin/ruby"), store, tmp_path)
    binds = dict(made.plan.binds)
    assert binds[str(prefix)] == binds["/var/lang"]
    assert files_at("/var/lang", made, tmp_path / "found") == {
        "bin/ruby",
        "lib/ruby/3.3.0/json.rb",
        "lib/libruby.so.3",
    }


def test_an_interpreter_that_has_gone_is_an_error(
    python: Interpreter, store: DiskStore, tmp_path: Path, prefix: Path
) -> None:
    plan = plan_of(python, tmp_path)
    (prefix / f"bin/python{VERSION}").unlink()
    with pytest.raises(ImageBuildError, match="is not there any more"):
        ensure_runtime_disk(python, plan, BASE, store)


def test_what_the_base_system_has_no_place_for_is_an_error(
    python: Interpreter, store: DiskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = interpreter_files.Part("", tmp_path)
    monkeypatch.setattr(runtime_disk, "find_files", lambda _: [("/usr/lib/strange", (part,))])
    with pytest.raises(ImageBuildError, match="needs /usr/lib/strange"):
        make(python, store, tmp_path)


def test_a_file_that_cannot_be_read_is_left_out_of_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    (tmp_path / "secret").chmod(0)
    (tmp_path / "dangling").symlink_to("nowhere")
    takes = runtime_disk._readable(tmp_path)
    assert takes("dangling", False)
    if os.geteuid() != 0:
        assert not takes("secret", False)
