"""What a sandbox can see, as data: nothing of the host beyond what is listed here."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

import firelet
from firelet.model.layout import CLIENT
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.rootfs import HIDDEN, HOSTNAME, RootPlan, file_system_source, plan_root

STORE = Path("/srv/firelet/code")
PACKAGE = Path(firelet.__file__).parent
PLATFORM_PACKAGES = Path(sysconfig.get_path("purelib"))
CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/ssl/cert.pem")


def plan_for(interpreter: Interpreter, *, is_rootless: bool = False) -> RootPlan:
    return plan_root(interpreter, STORE, is_rootless=is_rootless)


@pytest.fixture
def python(tmp_path: Path) -> Interpreter:
    """A Python 3.13 with packages of its host in it."""
    (tmp_path / "lib/python3.13/site-packages").mkdir(parents=True)
    return Interpreter("python3.13", "python", tmp_path, "bin/python3.13")


@pytest.fixture
def node(tmp_path: Path) -> Interpreter:
    return Interpreter("nodejs22.x", "nodejs", tmp_path, "bin/node")


PROVIDED = Interpreter("provided.al2023", "provided", None, None)


def is_allowed(source: str, interpreter: Interpreter) -> bool:
    """Whether a path of the host may be seen: the system's programs, the interpreter, the SDK,
    firelet's own clients, the certificates, and the code store (which is hidden again)."""
    if source in ("/usr", str(STORE), "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        return True
    path = Path(source)
    if interpreter.prefix is not None and path == interpreter.prefix:
        return True
    if interpreter.family != "python" and source == sys.base_prefix:
        return True
    if path.parent == PLATFORM_PACKAGES:
        return path.stem in (
            "boto3",
            "debugpy",
            "botocore",
            "s3transfer",
            "jmespath",
            "dateutil",
            "urllib3",
            "six",
            "snapshot_restore_py",
        )
    if path in (
        PACKAGE / "guest",
        PACKAGE / "linux",
        PACKAGE / "__init__.py",
        PACKAGE / "guest" / "python_bootstrap.py",
    ):
        return True
    resolved = {str(Path(name).resolve()) for name in CERTIFICATES}
    return source in resolved or any(source.startswith(name) for name in CERTIFICATES)


def test_nothing_of_the_host_is_seen_but_what_is_allowed(
    python: Interpreter, node: Interpreter
) -> None:
    for interpreter in (python, node, PROVIDED):
        refused = [
            source
            for _, source in plan_for(interpreter).binds
            if not is_allowed(source, interpreter)
        ]
        assert refused == []


def test_the_platform_s_own_modules_stay_outside(python: Interpreter) -> None:
    for interpreter in (python, PROVIDED):
        sources = {Path(source) for _, source in plan_for(interpreter).binds}
        assert not {PACKAGE, PACKAGE.parent, PLATFORM_PACKAGES} & sources


def test_no_path_is_given_twice_and_none_leaves_the_root(python: Interpreter) -> None:
    plan = plan_for(python)
    targets = [path for path, _ in (*plan.binds, *plan.files, *plan.links)]
    assert len(targets) == len(set(targets))
    for target in targets:
        assert target.startswith("/")
        assert ".." not in Path(target).parts


def test_the_stores_of_all_functions_lie_in_the_hidden_directory(python: Interpreter) -> None:
    stores = [path for path, source in plan_for(python).binds if source == str(STORE)]
    assert stores == [f"{HIDDEN}/code"]
    assert plan_for(python).message()["proc"].startswith(HIDDEN + "/")


def test_a_python_runtime_forks_from_the_function_s_own_interpreter(python: Interpreter) -> None:
    plan = plan_for(python)
    assert plan.interpreter == "/var/lang/bin/python3.13"
    assert dict(plan.binds)["/var/lang"] == str(python.prefix)


def test_a_python_runtime_does_not_see_the_host_s_packages(python: Interpreter) -> None:
    assert plan_for(python).covers == ("/var/lang/lib/python3.13/site-packages",)


def test_a_debian_python_does_not_see_the_host_s_packages_either(tmp_path: Path) -> None:
    (tmp_path / "lib/python3/dist-packages").mkdir(parents=True)
    interpreter = Interpreter("python3.11", "python", tmp_path, "bin/python3.11")
    assert plan_for(interpreter).covers == ("/var/lang/lib/python3/dist-packages",)


def test_a_python_runtime_has_the_sdk(python: Interpreter) -> None:
    binds = dict(plan_for(python).binds)
    assert {"/var/runtime/boto3", "/var/runtime/botocore"} <= set(binds)


def test_a_python_that_the_sdk_does_not_support_goes_without_it(tmp_path: Path) -> None:
    old = Interpreter("python3.8", "python", tmp_path, "bin/python3.8")
    assert "/var/runtime/boto3" not in dict(plan_for(old).binds)


def test_a_node_runtime_is_started_by_the_platform_s_python_from_the_hidden_directory(
    node: Interpreter,
) -> None:
    plan = plan_for(node)
    assert plan.interpreter.startswith(f"{HIDDEN}/lang/bin/python3.")
    binds = dict(plan.binds)
    assert binds["/var/lang"] == str(node.prefix)
    assert binds[f"{HIDDEN}/lang"] == sys.base_prefix
    assert plan.covers == ()
    assert "/var/runtime/boto3" not in binds


def test_a_custom_runtime_has_no_interpreter_of_its_own() -> None:
    binds = dict(plan_for(PROVIDED).binds)
    assert "/var/lang" not in binds
    assert f"{HIDDEN}/lang" in binds


def test_every_runtime_has_firelet_s_clients(python: Interpreter, node: Interpreter) -> None:
    for interpreter in (python, node, PROVIDED):
        plan = plan_for(interpreter)
        binds = dict(plan.binds)
        assert Path(binds[f"{CLIENT}/bootstrap.py"]).is_file()
        zygote = plan.message()["zygote"].removeprefix(f"{CLIENT}/firelet/guest")
        assert Path(binds[f"{CLIENT}/firelet/guest"] + zygote).is_file()


def test_etc_is_written_from_nothing(python: Interpreter) -> None:
    plan = plan_for(python)
    sources = [source for path, source in plan.binds if path.startswith("/etc")]
    assert all("cert" in source or "ca-bundle" in source for source in sources)
    files = dict(plan.files)
    assert HOSTNAME in files["/etc/hosts"]
    assert "/etc/shadow" not in {*files, *dict(plan.links), *dict(plan.binds)}


def test_the_devices_are_the_harmless_ones(python: Interpreter) -> None:
    assert set(plan_for(python).message()["devices"]) == {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
    }


def test_directories_that_the_linker_looks_into_exist_from_the_start(python: Interpreter) -> None:
    directories = {path for path, _ in plan_for(python).directories}
    assert {"/var/task/lib", "/opt/lib", "/var/runtime/lib"} <= directories


def test_the_hidden_directory_is_closed_to_all_but_root(python: Interpreter) -> None:
    assert dict(plan_for(python).directories)[HIDDEN] == 0o700


def test_the_plan_says_whether_a_user_namespace_is_needed(python: Interpreter) -> None:
    assert plan_for(python, is_rootless=True).message()["rootless"] is True
    assert plan_for(python).message()["rootless"] is False


def test_directories_to_share_are_in_the_hidden_store_if_they_exist(tmp_path: Path) -> None:
    there, missing = "arn:aws:elasticfilesystem:there", "arn:aws:elasticfilesystem:missing"
    directories = {there: tmp_path, missing: tmp_path / "missing"}
    binds = dict(plan_root(PROVIDED, STORE, is_rootless=False, file_systems=directories).binds)
    assert binds[file_system_source(there)] == str(tmp_path)
    assert file_system_source(there).startswith(f"{HIDDEN}/file_systems/")
    assert file_system_source(missing) not in binds


def test_names_are_asked_of_who_is_there_to_answer() -> None:
    def servers(resolver: str | None) -> str:
        planned = plan_root(PROVIDED, STORE, is_rootless=False, resolver=resolver)
        return dict(planned.files)["/etc/resolv.conf"]

    assert servers("192.0.2.53") == "nameserver 192.0.2.53\n"
    # Where nobody answers, nobody is to wait for long either.
    assert servers(None).startswith("nameserver 127.0.0.1\noptions timeout:1")
