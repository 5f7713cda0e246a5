"""SnapStart: published versions whose environments are clones of one that has been through INIT."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from firelet.sandbox.host import HostFacts
from running_platform import Deployer, Platform, pack, wait_until

pytest_plugins = ("platform_fixtures",)

IS_ROOT = os.geteuid() == 0
SNAP_START = {"ApplyOn": "PublishedVersions"}

COUNTS = """
import os, random, time, uuid
made = uuid.uuid4().hex
drawn = random.random()
open("/tmp/from-init", "w").write("init")
calls = 0
def handler(event, context):
    global calls
    calls += 1
    if event and event.get("sleep"):
        time.sleep(event["sleep"])
    return {
        "made": made, "calls": calls, "random": random.random(), "drawn": drawn,
        "pid": os.getpid(), "tmp": sorted(os.listdir("/tmp")), "env": dict(os.environ),
    }
"""


@pytest.fixture
def runtime(host: HostFacts) -> str:
    found = sorted(name for name in ("python3.12", "python3.13") if name in host.interpreters)
    if not found:
        pytest.skip(
            "SnapStart is for Python 3.12 and later, and this host has neither 3.12 nor 3.13"
        )
    return found[-1]


def publish(
    deploy: Deployer, client: Any, runtime: str, code: str, **settings: Any
) -> tuple[str, str]:
    """A function with SnapStart and its first version, Active."""
    name = deploy.name()
    settings = {"Timeout": 20, "Runtime": runtime, "SnapStart": SNAP_START, **settings}
    deploy.create(name, pack({"app.py": code}), **settings)
    client.get_waiter("function_active_v2").wait(FunctionName=name)
    version = client.publish_version(FunctionName=name)["Version"]
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier=version)
    return name, version


def in_parallel(
    platform: Platform,
    name: str,
    version: str,
    count: int,
    events: Sequence[Any] | None = None,
) -> list[Any]:
    """Invocations that run at the same time, each in an environment of its own."""
    wanted = events or [{"sleep": 3}] * count
    with ThreadPoolExecutor(count) as pool:
        return list(
            pool.map(lambda event: platform.invoke(name, event, Qualifier=version).json, wanted)
        )


def test_environments_of_a_published_version_continue_from_its_init(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(deploy, lambda_client, runtime, COUNTS)

    first = platform.invoke(name, {}, Qualifier=version).json
    second = platform.invoke(name, {}, Qualifier=version).json

    assert first["made"] == second["made"]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert first["tmp"] == ["from-init"]
    assert first["env"]["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"


def test_each_clone_has_chance_files_and_processes_of_its_own(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        COUNTS.replace("global calls", 'global calls; open(f"/tmp/{uuid.uuid4()}", "w")'),
    )

    answers = in_parallel(platform, name, version, 3)

    assert len({answer["made"] for answer in answers}) == 1
    assert len({answer["drawn"] for answer in answers}) == 1
    assert len({answer["random"] for answer in answers}) == 3
    assert [answer["calls"] for answer in answers] == [1, 1, 1]
    assert [len(answer["tmp"]) for answer in answers] == [2, 2, 2]


def test_a_clone_reaches_nothing_of_its_siblings_and_of_the_snapshot(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "import ctypes, os, socket, time\n"
        "secret_file = open('/tmp/shared', 'w')\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "abstract = socket.socket(socket.AF_UNIX)\n"
        "abstract.bind('\\0snapshot'); abstract.listen()\n"
        "def refused(call, *arguments):\n"
        "    return call(*arguments) == -1 and ctypes.get_errno() == 1\n"
        "def handler(event, context):\n"
        "    time.sleep(3)\n"
        "    status = dict(l.split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)\n"
        "    pids = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())\n"
        "    names = [open(f'/proc/{p}/comm').read().strip() for p in pids]\n"
        "    try:\n"
        "        socket.socket(socket.AF_UNIX).connect('\\0snapshot'); met = True\n"
        "    except OSError:\n"
        "        met = False\n"
        "    try:\n"
        "        os.kill(1, 9); os.listdir('/.firelet'); hidden = True\n"
        "    except OSError:\n"
        "        hidden = False\n"
        "    mem = None\n"
        "    try:\n"
        "        open('/proc/1/mem', 'rb')\n"
        "    except OSError as error:\n"
        "        mem = error.errno\n"
        "    own = os.stat('/proc/self/ns/pid').st_ino\n"
        "    return {'capabilities': [status[k].strip() for k in ('CapPrm', 'CapEff', 'CapAmb')],\n"
        "        'filter': status['Seccomp'].strip(), 'privileges': status['NoNewPrivs'].strip(),\n"
        "        'names': names, 'met': met, 'hidden': hidden, 'mem': mem,\n"
        "        'mount': refused(libc.mount, b'x', b'/tmp', b'tmpfs', 0, None),\n"
        "        'unshare': refused(libc.unshare, 0x10000000),\n"
        "        'setns': refused(libc.setns, 0, 0),\n"
        "        'interfaces': [n for _, n in socket.if_nameindex()], 'pids': len(pids),\n"
        "        'namespaces': [os.stat(f'/proc/self/ns/{n}').st_ino for n in\n"
        "                       ('pid', 'mnt', 'net', 'ipc', 'uts', 'user', 'cgroup')]}\n",
        Timeout=10,
    )

    answers = in_parallel(platform, name, version, 2)

    for answer in answers:
        assert answer["capabilities"] == ["0000000000000000"] * 3
        assert (answer["filter"], answer["privileges"]) == ("2", "1")
        assert answer["names"] == ["firelet-init", runtime]
        assert not answer["met"]
        assert not answer["hidden"]
        assert answer["mem"] == 13
        assert answer["mount"]
        assert answer["unshare"]
        assert answer["setns"] or not IS_ROOT
        assert answer["interfaces"] == ["lo"]
    for one, other in zip(*(answer["namespaces"] for answer in answers), strict=True):
        assert one != other


def test_what_a_fork_would_share_is_the_clones_own(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "import asyncio, mmap, os, select, socket, time\n"
        "shared = mmap.mmap(-1, 4096); shared[:4] = b'init'\n"
        "ends = os.pipe()\n"
        "pair = socket.socketpair()\n"
        "poll = select.epoll(); poll.register(ends[0], select.EPOLLIN)\n"
        "log = open('/tmp/log', 'a+'); log.write('init '); log.flush()\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())\n"
        "loop = asyncio.new_event_loop()\n"
        "async def nothing():\n    await asyncio.sleep(0.01)\n    return 'ran'\n"
        "def handler(event, context):\n"
        "    before = bytes(shared[:4]); shared[:4] = event['mark'].encode()\n"
        "    os.write(ends[1], event['mark'].encode()); pair[0].send(event['mark'].encode())\n"
        "    log.write(event['mark']); log.flush()\n"
        "    time.sleep(3)\n"
        "    log.seek(0)\n"
        "    try:\n"
        "        client.send(b'x'); connected = True\n"
        "    except OSError:\n"
        "        connected = False\n"
        "    return {'before': before.decode(), 'after': bytes(shared[:4]).decode(),\n"
        "        'polled': len(poll.poll(0)), 'pipe': os.read(ends[0], 99).decode(),\n"
        "        'pair': pair[1].recv(99).decode(), 'log': log.read(), 'connected': connected,\n"
        "        'loop': loop.run_until_complete(nothing())}\n",
        Timeout=10,
    )

    marks = ["one.", "two."]
    answers = in_parallel(platform, name, version, 2, [{"mark": mark} for mark in marks])

    for mark, answer in zip(marks, answers, strict=True):
        assert answer == {
            "before": "init",
            "after": mark,
            "polled": 1,
            "pipe": mark,
            "pair": mark,
            "log": f"init {mark}",
            "connected": False,
            "loop": "ran",
        }


def test_hooks_run_before_the_snapshot_and_after_each_restore(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "from snapshot_restore_py import register_after_restore, register_before_snapshot\n"
        "seen = []\n"
        "register_before_snapshot(seen.append, 'before 1')\n"
        "register_before_snapshot(seen.append, 'before 2')\n"
        "@register_after_restore\n"
        "def restored():\n    seen.append('after 1')\n"
        "register_after_restore(seen.append, 'after 2')\n"
        "def handler(event, context):\n    return seen\n",
    )

    assert platform.invoke(name, Qualifier=version).json == [
        "before 2",
        "before 1",
        "after 1",
        "after 2",
    ]


def test_an_after_restore_hook_that_raises_is_a_snap_start_exception(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "from snapshot_restore_py import register_after_restore\n"
        "@register_after_restore\n"
        "def restored():\n    raise ValueError('no')\n"
        "def handler(event, context):\n    return 1\n",
    )

    with pytest.raises(lambda_client.exceptions.SnapStartException) as caught:
        lambda_client.invoke(FunctionName=name, Qualifier=version)

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.skipif(
    not os.environ.get("FIRELET_TEST_SLOW"), reason="waits for AWS's 10 s: set FIRELET_TEST_SLOW"
)
def test_a_restore_that_takes_too_long_is_a_timeout(
    deploy: Deployer, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "import time\n"
        "from snapshot_restore_py import register_after_restore\n"
        "register_after_restore(time.sleep, 60)\n"
        "def handler(event, context):\n    return 1\n",
    )

    with pytest.raises(lambda_client.exceptions.SnapStartTimeoutException) as caught:
        lambda_client.invoke(FunctionName=name, Qualifier=version)

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 408


def test_a_version_whose_init_fails_is_failed(
    deploy: Deployer, lambda_client: Any, runtime: str
) -> None:
    name = deploy.name()
    deploy.create(name, "raise ValueError('no')", Runtime=runtime, SnapStart=SNAP_START)
    deploy.settle(name)

    version = lambda_client.publish_version(FunctionName=name)["Version"]

    def failed() -> Any:
        found = lambda_client.get_function_configuration(FunctionName=name, Qualifier=version)
        return found if found["State"] == "Failed" else None

    found = wait_until(failed, "the version is Failed")
    assert found["StateReasonCode"] == "FunctionError"
    assert found["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "Off"}


def test_states_and_optimization_status(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name = deploy.name()
    # Longer than the answer to PublishVersion waits for it.
    code = "import time\ntime.sleep(5)\ndef handler(event, context):\n    return 1\n"
    deploy.create(name, code, Runtime=runtime, SnapStart=SNAP_START)
    deploy.settle(name)

    published = lambda_client.publish_version(FunctionName=name)
    assert published["State"] == "Pending"
    with pytest.raises(lambda_client.exceptions.SnapStartNotReadyException):
        lambda_client.invoke(FunctionName=name, Qualifier=published["Version"])

    waiter = lambda_client.get_waiter("published_version_active")
    waiter.config.delay = 0.2
    waiter.wait(FunctionName=name, Qualifier=published["Version"])
    of = lambda_client.get_function_configuration
    active = of(FunctionName=name, Qualifier=published["Version"])
    assert active["SnapStart"]["OptimizationStatus"] == "On"
    assert of(FunctionName=name)["SnapStart"]["OptimizationStatus"] == "Off"
    assert platform.invoke(name, Qualifier=published["Version"]).json == 1


def test_the_log_tells_of_the_restore(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy, lambda_client, runtime, "print('in init')\ndef handler(e, c):\n    print('hi')\n"
    )

    answer = platform.invoke(name, Qualifier=version, LogType="Tail")

    assert "Restore Duration: " in answer.log
    assert "Billed Restore Duration: " in answer.log
    assert "Init Duration" not in answer.log
    lines = platform.log_lines(f"/aws/lambda/{name}")
    assert any(line.startswith("RESTORE_START Runtime Version: ") for line in lines)
    assert any(line.startswith("RESTORE_REPORT Restore Duration: ") for line in lines)
    # $LATEST was initialised ahead of its first request, and the version for its snapshot.
    assert lines.count("in init\n") == 2
    assert sum(line.startswith("INIT_REPORT Init Duration: ") for line in lines) == 1


def test_credentials_are_fetched_with_the_token_of_the_clone(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        "import os, urllib.request, urllib.error\n"
        "import botocore.session\n"
        "def status(token):\n"
        "    request = urllib.request.Request(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'],\n"
        "        headers={'Authorization': token})\n"
        "    try:\n"
        "        return urllib.request.urlopen(request).status\n"
        "    except urllib.error.HTTPError as error:\n"
        "        return error.code\n"
        "def handler(event, context):\n"
        "    found = botocore.session.get_session().get_credentials().get_frozen_credentials()\n"
        "    return [found.access_key, 'AWS_ACCESS_KEY_ID' in os.environ, status('no'),\n"
        "            'AWS_LAMBDA_LOG_STREAM_NAME' in os.environ]\n",
        MemorySize=1024,
        Timeout=30,
    )

    key, *rest = platform.invoke(name, Qualifier=version).json

    assert key.startswith("ASIA")
    assert rest == [False, 403, False]


def test_a_clone_that_times_out_or_exits_is_replaced_by_a_fresh_one(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(
        deploy,
        lambda_client,
        runtime,
        COUNTS.replace("global calls", "global calls; event.get('exit') and os._exit(7)"),
        Timeout=2,
        MemorySize=1769,
    )

    assert platform.invoke(name, {}, Qualifier=version).json["calls"] == 1
    assert platform.invoke(name, {"sleep": 5}, Qualifier=version).error == "Unhandled"
    assert platform.invoke(name, {}, Qualifier=version).json["calls"] == 1
    answer = platform.invoke(name, {"exit": True}, Qualifier=version)
    assert answer.json["errorType"] == "Runtime.ExitError"
    assert "exit status 7" in answer.json["errorMessage"]
    assert platform.invoke(name, {}, Qualifier=version).json["calls"] == 1


def test_a_snapshot_that_dies_is_made_again(
    deploy: Deployer, platform: Platform, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(deploy, lambda_client, runtime, COUNTS)
    first = platform.invoke(name, {}, Qualifier=version).json
    for pid in platform.processes():
        # The end of one may be the end of the next one before it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == runtime:
                os.kill(pid, signal.SIGKILL)

    def fresh() -> Any:
        # The first one may meet the environment that was killed a moment ago.
        answer = platform.invoke(name, {}, Qualifier=version)
        return answer.json if answer.error is None else None

    second = wait_until(fresh, "a new snapshot serves")
    assert second["calls"] == 1
    assert second["made"] != first["made"]


def test_after_a_restart_the_snapshot_is_made_again(make_platform: Any, runtime: str) -> None:
    platform = make_platform()
    deployer = Deployer(platform)
    client = platform.client("lambda")
    name, version = publish(deployer, client, runtime, COUNTS)
    first = platform.invoke(name, {}, Qualifier=version).json
    platform.stop()
    platform.start()

    second = platform.invoke(name, {}, Qualifier=version).json

    assert (second["calls"], second["made"] != first["made"]) == (1, True)


def test_snap_start_excludes_what_it_excludes_on_aws(
    deploy: Deployer, lambda_client: Any, runtime: str
) -> None:
    name, version = publish(deploy, lambda_client, runtime, COUNTS)

    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException):
        lambda_client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier=version, ProvisionedConcurrentExecutions=1
        )
    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        deploy.create(
            deploy.name(),
            "",
            Runtime=runtime,
            SnapStart=SNAP_START,
            EphemeralStorage={"Size": 1024},
        )
    assert "SnapStart" in caught.value.response["Error"]["Message"]
