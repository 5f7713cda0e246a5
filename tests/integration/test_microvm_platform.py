"""A platform whose functions run in machines: what clients see, and what is left when things die.

Most tests share one platform. Machines are emulated here, so that each invocation does as much as
it can; what it is about in detail is tested with namespaces, by the tests of its name.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from extension_layers import ECHO, ExtensionLayers, invoke_to_the_end, log_of, until_logged
from firelet.model.isolation import TAG
from firelet.sandbox.host import HostFacts
from firelet.sandbox.java import ensure_client, find_javas, has_compiler, java_homes
from firelet.sandbox.microvm.choice import VmmKind
from guest_images import QEMU, MachineRoom
from running_platform import ACCOUNT, REGION, Deployer, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

MONITOR = Path(__file__).parents[2] / "examples" / "monitoring-extension" / "extensions" / "monitor"
PATIENCE_S = 100.0  # until a machine at rest has been made, with much else to do
MEMORY = 256  # all of a size, so that one machine at rest will do for each runtime
OWNER = 54_321
ARN = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:access-point/fsap-0123456789abcdef0"
DOES = """
import os, sys, time, uuid
BORN = uuid.uuid4().hex
def handler(event, context):
    kind, value = event
    if kind == "say":
        print("said", value)
        print("complained", file=sys.stderr)
        return {
            "kernel": os.uname().release, "greeting": os.environ["GREETING"],
            "note": open("/opt/note").read(), "memory": context.memory_limit_in_mb,
            "stream": context.log_stream_name, "tmp": os.listdir("/tmp"),
        }
    if kind == "echo":
        return value
    if kind == "raise":
        raise LookupError(value)
    if kind == "exit":
        os._exit(value)
    if kind == "eat":
        return len(b"x" * value * 2**20)
    if kind == "sleep":
        time.sleep(value)
    return {"born": BORN, "how": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]}
"""
APPENDS = """
import os
def handler(event, context):
    with open("/mnt/shared/file", "a") as file:
        file.write(event)
    return {
        "text": open("/mnt/shared/file").read(), "kernel": os.uname().release,
        "is_own": os.stat("/mnt/shared/file").st_uid == os.getuid(),
    }
"""
YIELDS = """
import time
def handler(event, context):
    yield b"first"
    time.sleep(event["pause"])
    print("goes on", flush=True)
    for _ in range(event["pieces"]):
        yield b"x" * 65536
"""
DRAWS = """
import com.amazonaws.services.lambda.crac.*;
import com.amazonaws.services.lambda.runtime.*;
import com.amazonaws.services.lambda.runtime.Context;
import java.security.SecureRandom;
import java.util.*;
public class Draws implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  static final SecureRandom RANDOM = new SecureRandom();
  static final String MADE = UUID.randomUUID().toString() + RANDOM.nextLong();
  static final List<String> TOLD = new ArrayList<>();
  static final Resource ONE = new Hooks("one"), OTHER = new Hooks("other");
  static class Hooks implements Resource {
    final String name;
    Hooks(String name) { this.name = name; Core.getGlobalContext().register(this); }
    public void beforeCheckpoint(com.amazonaws.services.lambda.crac.Context<? extends Resource> c) {
      TOLD.add("before " + name);
    }
    public void afterRestore(com.amazonaws.services.lambda.crac.Context<? extends Resource> c) {
      TOLD.add("after " + name + " " + UUID.randomUUID());
    }
  }
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    try { Thread.sleep(1000); } catch (InterruptedException error) { }
    return Map.of("made", MADE, "told", TOLD, "chance", List.of(
      UUID.randomUUID().toString(), String.valueOf(RANDOM.nextLong()),
      String.valueOf(new SecureRandom().nextLong())));
  }
}
"""
NODE = """
export const handler = async (event, context) => {
  if (event.fail) throw new RangeError("as told");
  return { got: event, version: process.version, memory: context.memoryLimitInMB };
};
"""
SENDS_METRICS = """
import socket, time
def handler(event, context):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"orders:%d|c" % event, ("127.0.0.1", 8125))
    time.sleep(0.1)
"""
COUNTS = """
import os, random, ssl, time, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot
made = uuid.uuid4().hex
order = []
register_before_snapshot(lambda: order.append("before"))
register_after_restore(lambda: order.append("after"))
ssl.RAND_bytes(1)
def handler(event, context):
    time.sleep(1)
    return {
        "made": made, "order": order, "how": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "chance": [random.random(), uuid.uuid4().hex, ssl.RAND_bytes(8).hex(),
                   os.urandom(8).hex()],
    }
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that is not root's."""
    shared = tmp_path_factory.mktemp("shared")
    if os.geteuid() == 0:
        os.chown(shared, OWNER, OWNER)
    return shared


@pytest.fixture(scope="module")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    accepted: str | None,
    machine_room: MachineRoom,
    shared: Path,
) -> Iterator[Platform]:
    """The platform that the tests of this module share; at the end it leaves nothing."""
    variables = {"FIRELET_ISOLATION": "microvm", "FIRELET_FILE_SYSTEMS": f"{ARN}={shared}"}
    made = Platform(tmp_path_factory.mktemp("machines") / "data", accepted, variables)
    made.data_dir.mkdir()
    machine_room.furnish(made.data_dir)
    made.start()
    yield made
    machines = machines_of(made)
    assert made.stop() == 0
    assert made.leftovers() == []
    assert [pid for pid in machines if is_qemu(pid)] == []


@pytest.fixture
def deploy(platform: Platform) -> Iterator[Deployer]:
    deployer = Deployer(platform, PATIENCE_S)
    yield deployer
    deployer.close()


@pytest.fixture
def worker(deploy: Deployer) -> str:
    return deploy(DOES, MemorySize=MEMORY, Timeout=60)


def test_a_function_has_what_it_is_promised(
    platform: Platform, deploy: Deployer, lambda_client: Any, machine_room: MachineRoom
) -> None:
    layer = lambda_client.publish_layer_version(
        LayerName="note", Content={"ZipFile": pack({"note": "of the layer"})}
    )
    name = deploy(
        DOES,
        MemorySize=MEMORY,
        Timeout=20,
        Layers=[layer["LayerVersionArn"]],
        Environment={"Variables": {"GREETING": "hello"}},
    )
    answer = platform.invoke(name, ["say", 1], LogType="Tail")
    said = answer.json
    stream = said.pop("stream")
    assert said == {
        "kernel": machine_room.image.manifest.release,
        "greeting": "hello",
        "note": "of the layer",
        "memory": str(MEMORY),
        "tmp": [],
    }
    lines = answer.log.splitlines()
    starts = [line.split(" ")[0].split("\t")[0] for line in lines]
    assert starts[starts.index("START") :] == ["START", "said", "complained", "END", "REPORT"]
    used = int(lines[-1].partition("Max Memory Used: ")[2].split(" ")[0])
    assert 0 < used < MEMORY
    group = f"/aws/lambda/{name}"
    wait_until(lambda: "said 1\n" in platform.log_lines(group), "the line is in the log")
    streams = platform.client("logs").describe_log_streams(logGroupName=group)["logStreams"]
    assert [found["logStreamName"] for found in streams] == [stream]


def test_errors_and_ends_are_told_and_the_next_invocation_works(
    platform: Platform, worker: str
) -> None:
    failed = platform.invoke(worker, ["raise", "as told"])
    assert failed.error == "Unhandled"
    assert (failed.json["errorType"], failed.json["errorMessage"]) == ("LookupError", "as told")
    assert "app.py" in failed.json["stackTrace"][0]

    exited = platform.invoke(worker, ["exit", 3])
    assert exited.json["errorType"] == "Runtime.ExitError"
    assert "Error: Runtime exited with error: exit status 3" in exited.json["errorMessage"]

    eaten = platform.invoke(worker, ["eat", 400], LogType="Tail")
    assert eaten.json["errorType"] == "Runtime.ExitError"
    assert eaten.json["errorMessage"].endswith("signal: killed")
    assert f"Max Memory Used: {MEMORY} MB" in eaten.log

    assert platform.invoke(worker, ["echo", "serves"]).json == "serves"


def test_an_invocation_that_takes_too_long_is_ended(platform: Platform, deploy: Deployer) -> None:
    name = deploy(DOES, MemorySize=MEMORY, Timeout=3)
    assert platform.invoke(name, ["echo", 1]).json == 1
    answer = platform.invoke(name, ["sleep", 60])
    assert answer.json["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 3.00 seconds" in answer.json["errorMessage"]
    assert platform.invoke(name, ["echo", 2]).json == 2


def test_the_largest_payloads_go_both_ways(platform: Platform, worker: str) -> None:
    text = "x" * (6 * 2**20 - 1_000)
    answer = platform.invoke(worker, ["echo", text])
    assert answer.json == text


def test_responses_are_streamed(platform: Platform, deploy: Deployer) -> None:
    name = deploy(YIELDS, MemorySize=MEMORY, Timeout=60)
    pieces = 20 * 2**20 // 65_536
    response = platform.client("lambda").invoke_with_response_stream(
        FunctionName=name, Payload=json.dumps({"pause": 5, "pieces": pieces}).encode()
    )
    events = iter(response["EventStream"])
    assert next(events)["PayloadChunk"]["Payload"] == b"first"
    assert "goes on\n" not in log_of(platform, name), "it was kept until there was more"
    size = 0
    complete = None
    for event in events:
        if "InvokeComplete" in event:
            complete = event["InvokeComplete"]
        else:
            size += len(event["PayloadChunk"]["Payload"])
    assert (size, complete) == (20 * 2**20, {})
    assert "goes on\n" in log_of(platform, name)


def test_node_runs(platform: Platform, deploy: Deployer, host: HostFacts) -> None:
    found = sorted(name for name in host.interpreters if name.startswith("nodejs"))
    if not found:
        pytest.skip("this host has no Node.js")
    name = deploy(
        {"index.mjs": NODE},
        Runtime=found[-1],
        Handler="index.handler",
        MemorySize=MEMORY,
        Timeout=20,
    )
    said = platform.invoke(name, {"n": 1}).json
    assert (said["got"], said["memory"]) == ({"n": 1}, str(MEMORY))
    assert said["version"].startswith("v" + found[-1].removeprefix("nodejs").partition(".")[0])
    assert platform.invoke(name, {"fail": True}).json["errorType"] == "RangeError"


def test_an_extension_takes_part_and_is_sent_telemetry(
    platform: Platform, deploy: Deployer, publish_extensions: ExtensionLayers
) -> None:
    """The example: it listens for telemetry and, on UDP, for what the function measures."""
    layer = publish_extensions(monitor=MONITOR.read_text())
    name = deploy(SENDS_METRICS, Layers=[layer], MemorySize=MEMORY, Timeout=20)
    answers = [invoke_to_the_end(platform, name, number) for number in (1, 2)]
    deploy.update(name, ECHO)
    lines = until_logged(platform, name, "METRICS")
    found = json.loads(next(line for line in lines if line.startswith("METRICS"))[8:])
    assert set(found["invocations"]) == {answer.request_id for answer in answers}
    assert {each["status"] for each in found["invocations"].values()} == {"success"}
    assert found["custom"] == {"orders": {"count": 2, "sum": 3.0}}


def test_environments_of_a_published_version_are_clones_that_differ(
    platform: Platform, deploy: Deployer, lambda_client: Any, host: HostFacts
) -> None:
    found = [name for name in ("python3.13", "python3.12") if name in host.interpreters]
    if not found:
        pytest.skip("SnapStart is for Python 3.12 and later")
    name = deploy(
        COUNTS,
        Runtime=found[0],
        MemorySize=MEMORY,
        Timeout=30,
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    said = invoke_clones(platform, lambda_client, name)
    assert len({each["made"] for each in said}) == 1
    assert {each["how"] for each in said} == {"snap-start"}
    assert all(each["order"] == ["before", "after"] for each in said)
    chance = [value for each in said for value in each["chance"]]
    assert len(set(chance)) == len(chance)


def test_java_is_cloned_as_well(
    platform: Platform, deploy: Deployer, lambda_client: Any, tmp_path: Path
) -> None:
    """A machine rests as a whole, so that a runtime which cannot be forked can be cloned."""
    javas = sorted(find_javas(java_homes()), key=lambda item: item.runtime)
    compilers = [java for java in javas if java.prefix and has_compiler(java.prefix)]
    if not compilers:
        pytest.skip("no JDK with javac is installed (JAVA_HOME, PATH, /usr/lib/jvm)")
    home = compilers[0].prefix
    assert home is not None
    (tmp_path / "Draws.java").write_text(DRAWS)
    subprocess.run(
        [
            *(home / "bin" / "javac", "-cp", ensure_client(javas, tmp_path / "clients")),
            *("-d", tmp_path, tmp_path / "Draws.java"),
        ],
        check=True,
        timeout=60,
    )
    name = deploy(
        {path.name: path.read_bytes() for path in tmp_path.glob("Draws*.class")},
        Runtime=javas[-1].runtime,
        Handler="Draws",
        MemorySize=MEMORY,
        Timeout=60,
        SnapStart={"ApplyOn": "PublishedVersions"},
    )
    said = invoke_clones(platform, lambda_client, name)
    assert len({each["made"] for each in said}) == 1
    chance = [value for each in said for value in each["chance"]]
    assert len(set(chance)) == len(chance)
    # Hooks run once, the last one first before the snapshot and the first one first after it.
    for each in said:
        assert [" ".join(line.split()[:2]) for line in each["told"]] == [
            *("before other", "before one"),
            *("after one", "after other"),
        ]
    assert len({line for each in said for line in each["told"]}) == 2 + 2 * len(said)


def test_environments_are_provisioned_and_others_come_as_they_are_needed(
    platform: Platform, worker: str, lambda_client: Any
) -> None:
    version = lambda_client.publish_version(FunctionName=worker)["Version"]
    lambda_client.put_provisioned_concurrency_config(
        FunctionName=worker, Qualifier=version, ProvisionedConcurrentExecutions=2
    )

    def is_ready() -> bool:
        config = lambda_client.get_provisioned_concurrency_config(
            FunctionName=worker, Qualifier=version
        )
        return bool(config["Status"] == "READY")

    wait_until(is_ready, "two environments are ready", PATIENCE_S)
    # Longer than it takes to restore a machine on a busy host.
    with ThreadPoolExecutor(4) as pool:
        said = list(
            pool.map(
                lambda _: platform.invoke(worker, ["sleep", 15], Qualifier=version).json, range(4)
            )
        )
    assert len({each["born"] for each in said}) == 4
    assert sorted(each["how"] for each in said) == [
        *["on-demand"] * 2,
        *["provisioned-concurrency"] * 2,
    ]


def test_disks_of_code_that_no_function_has_any_more_are_removed(
    platform: Platform, deploy: Deployer
) -> None:
    def disks() -> set[str]:
        return {path.name for path in (platform.data_dir / "microvm/disks").glob("package-*")}

    before = disks()
    name = deploy(KERNEL + "# once", MemorySize=MEMORY, Timeout=60)
    platform.invoke(name, 0)
    old = disks() - before
    assert len(old) == 1

    deploy.update(name, KERNEL + "# twice")
    platform.invoke(name, 0)
    wait_until(lambda: not old & disks(), "the disk of the code of before is gone")
    new = disks() - before
    assert len(new) == 1

    platform.client("lambda").delete_function(FunctionName=name)
    wait_until(lambda: not new & disks(), "that of the function is gone as well")


def test_a_directory_is_shared_with_functions_that_are_in_no_machine(
    platform: Platform, deploy: Deployer, shared: Path
) -> None:
    mounted: dict[str, Any] = {
        "MemorySize": MEMORY,
        "Timeout": 20,
        "FileSystemConfigs": [{"Arn": ARN, "LocalMountPath": "/mnt/shared"}],
        "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
    }
    inside = deploy(APPENDS, **mounted)
    outside = deploy(APPENDS, **mounted, Tags={TAG: "namespaces"})
    said = [platform.invoke(name, text).json for name, text in ((inside, "a"), (outside, "b"))]
    said.append(platform.invoke(inside, "c").json)
    assert [each["text"] for each in said] == ["a", "ab", "abc"]
    assert [each["is_own"] for each in said] == [True] * 3
    assert len({each["kernel"] for each in said}) == 2
    assert (shared / "file").read_text() == "abc"
    assert (shared / "file").stat().st_uid == shared.stat().st_uid


def test_the_end_of_a_machine_is_an_error_and_the_next_invocation_works(
    platform: Platform, worker: str
) -> None:
    assert platform.invoke(worker, ["echo", 1]).json == 1
    with ThreadPoolExecutor(1) as pool:
        others = set(machines_of(platform))
        asked = pool.submit(platform.invoke, worker, ["sleep", 50])
        wait_until(lambda: starts_of(platform, worker) == 2, "it is at work")
        for pid in sorted(others | set(machines_of(platform))):
            os.kill(pid, signal.SIGKILL)
        answer = asked.result(30)
    assert answer.error == "Unhandled"
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert platform.invoke(worker, ["echo", 2]).json == 2


def test_a_tag_is_enough_and_a_crash_leaves_no_machine(
    tmp_path: Path, accepted: str | None, machine_room: MachineRoom
) -> None:
    """On a platform of namespaces, which is killed in the middle of an invocation."""
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    platform = Platform(data_dir, accepted)
    machine_room.furnish(data_dir)
    platform.start()
    try:
        deploy = Deployer(platform, PATIENCE_S)
        plain = deploy(KERNEL)
        tagged = deploy(KERNEL, MemorySize=MEMORY, Timeout=60, Tags={TAG: "microvm"})
        assert platform.invoke(plain, 0).json == os.uname().release
        assert platform.invoke(tagged, 0).json == machine_room.image.manifest.release
        machines = machines_of(platform)
        assert machines
        status = read_status(platform)
        walls = {each["name"]: each["isolation"] for each in status["functions"]}
        assert walls == {plain: ["namespaces"], tagged: ["microvm"]}
        assert status["machines"] in {kind.value for kind in VmmKind}
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(platform.invoke, tagged, 50)
            wait_until(lambda: starts_of(platform, tagged) == 2, "it is at work")
            platform.kill()
            assert asked.exception(30) is not None
        wait_until(lambda: not platform.leftovers(), "nothing is left of it", 15)
        wait_until(lambda: not any(map(is_qemu, machines)), "no machine is left of it", 5)

        platform.start()
        made = machines_made(platform)
        assert platform.invoke(tagged, 0).json == machine_room.image.manifest.release
        assert machines_made(platform) == made, "it is restored, and not booted again"
    finally:
        if platform.is_running:
            platform.stop()


def invoke_clones(platform: Platform, client: Any, name: str) -> list[Any]:
    """What three environments of a version say that is published now."""
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda _: platform.invoke(name, {}, Qualifier=version).json, range(3)))


KERNEL = """
import os, time
def handler(event, context):
    time.sleep(event)
    return os.uname().release
"""


def read_status(platform: Platform) -> Any:
    with urllib.request.urlopen(f"{platform.url}/_firelet/status") as page:
        return json.load(page)


def machines_made(platform: Platform) -> int:
    """How many have been booted, to be put to rest."""
    return platform.log_path.read_bytes().count(b"machine made name=")


def starts_of(platform: Platform, name: str) -> int:
    """How many events its environments have been handed."""
    return sum(line.startswith("START ") for line in log_of(platform, name))


def machines_of(platform: Platform) -> list[int]:
    """The processes that run the machines of a platform."""
    return [pid for pid in platform.processes() if is_qemu(pid)]


def is_qemu(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return QEMU.encode() in command
