"""Functions that attack the platform from inside: every other function is served as ever."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
# Less than what one is held up for who waits for another; plenty for a machine with much to do.
PROMPT_S = 10.0
# ``api(bytes)`` sends to the Runtime API from a socket of the function's own.
SPEAKS = """
import os, socket
HOST, PORT = os.environ['AWS_LAMBDA_RUNTIME_API'].split(':')
def api(data, wait=True):
    with socket.create_connection((HOST, int(PORT)), timeout=5) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536).decode('latin-1') if wait else ''
        except OSError as error:
            return type(error).__name__
def post(path, body, headers=''):
    head = 'POST /2018-06-01/runtime/%s HTTP/1.1\\r\\nHost: a\\r\\n%sContent-Length: %d\\r\\n\\r\\n'
    return api((head % (path, headers, len(body))).encode() + body)
def status(response):
    return int(response.split(' ')[1]) if response.startswith('HTTP') else response
"""


def sandboxes(platform: Platform) -> dict[str, set[int]]:
    """The platform's processes by their pid namespace."""
    found: dict[str, set[int]] = defaultdict(set)
    for pid in platform.processes():
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/{pid}/ns/pid")].add(pid)
    return found


@pytest.fixture
def neighbour(deploy: Deployer, platform: Platform) -> Iterator[str]:
    """Another function, which must answer correctly and fast after the test, and its logs be its
    own."""
    name = deploy(ECHO)
    assert platform.invoke(name, "well").json == "well"
    yield name
    for number in range(5):
        began = time.monotonic()
        assert platform.invoke(name, {"n": number}).json == {"n": number}
        assert time.monotonic() - began < PROMPT_S


@pytest.mark.usefixtures("neighbour")
def test_garbage_at_the_runtime_api_is_refused_and_the_invocation_goes_on(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        SPEAKS + "def handler(event, context):\n"
        "    garbage = [b'\\0' * 5000, b'GET / HTTP/1.1\\r\\nno colon\\r\\n\\r\\n',\n"
        "               b'POST /' + b'x' * (2 << 20), os.urandom(100_000)]\n"
        "    return [status(api(data)) for data in garbage]\n",
        Timeout=20,
    )

    answer = platform.invoke(name)

    assert answer.error is None
    for result in answer.json:
        assert result in ("", "ConnectionResetError", "BrokenPipeError") or 400 <= result < 500


@pytest.mark.usefixtures("neighbour")
def test_an_answer_for_another_invocation_is_refused(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        SPEAKS + "def handler(event, context):\n"
        "    foreign = '8476a536-e9f4-11e8-9739-2dfe598c3fcd'\n"
        "    return [status(post('invocation/%s/response' % foreign, b'1')),\n"
        "            status(post('invocation/%s/error' % foreign, b'{}')),\n"
        "            status(post('invocation/../../x/response', b'1')),\n"
        "            status(post('init/error', b'{}'))]\n"
    )

    assert platform.invoke(name).json == [400, 400, 404, 403]


@pytest.mark.usefixtures("neighbour")
def test_only_the_first_of_two_answers_counts(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        SPEAKS + "seen = []\n"
        "def handler(event, context):\n"
        "    if event == 'what':\n        return seen\n"
        "    path = 'invocation/%s/response' % context.aws_request_id\n"
        "    seen.append(status(post(path, b'\"early\"')))\n"
        "    seen.append(status(post(path, b'\"again\"')))\n"
        "    return 'late'\n"
    )

    assert platform.invoke(name).json == "early"

    # The runtime client's own answer is refused as well, and that ends it: between invocations.
    for _ in range(2):
        answer = platform.invoke(name, "what")
        assert answer.error is None
        assert answer.json in ([202, 403], [])


@pytest.mark.usefixtures("neighbour")
def test_an_error_type_with_line_breaks_stays_inside_its_line(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        SPEAKS + "def handler(event, context):\n"
        '    body = b\'{"errorMessage": "m", "errorType": "A\\\\nREPORT RequestId: forged"}\'\n'
        "    post('invocation/%s/error' % context.aws_request_id, body)\n"
    )

    answer = platform.invoke(name, LogType="Tail")

    assert answer.error == "Unhandled"
    assert not [
        line for line in answer.log.splitlines() if line.startswith("REPORT RequestId: forged")
    ]


@pytest.mark.usefixtures("neighbour")
def test_children_that_are_left_behind_end_with_the_environment(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "import os, signal, time\n"
        "def handler(event, context):\n"
        "    for _ in range(20):\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "            signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "            time.sleep(600)\n"
        "            os._exit(0)\n"
        "    return len([p for p in os.listdir('/proc') if p.isdigit()])\n",
        Timeout=10,
    )
    seen_inside = platform.invoke(name).json
    assert seen_inside >= 22
    sandbox = max(sandboxes(platform).values(), key=len)
    assert len(sandbox) == seen_inside

    platform.client("lambda").delete_function(FunctionName=name)

    wait_until(lambda: not sandbox & platform.processes(), "every child has ended")


@pytest.mark.usefixtures("neighbour")
def test_a_fork_bomb_hits_its_own_limit(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "import os, time\n"
        "def handler(event, context):\n"
        "    count = 0\n"
        "    try:\n"
        "        while True:\n"
        "            if os.fork() == 0:\n"
        "                time.sleep(600)\n"
        "            count += 1\n"
        "    except OSError as error:\n"
        "        return [count, error.errno]\n",
        Timeout=20,
        MemorySize=2048,
    )

    answer = platform.invoke(name)

    if answer.error is None:
        count, number = answer.json
        assert count <= 1_024
        assert number in (11, 12)


@pytest.mark.usefixtures("neighbour")
def test_a_flood_of_50_mb_on_stdout_is_survived_and_the_function_answers(
    deploy: Deployer, platform: Platform
) -> None:
    name = deploy(
        "import sys\ndef handler(event, context):\n"
        "    for _ in range(50):\n        sys.stdout.write('x' * 999_999 + '\\n')\n"
        "    return 'done'\n",
        Timeout=60,
        MemorySize=1024,
    )

    answer = platform.invoke(name, LogType="Tail")

    assert answer.json == "done"
    assert len(answer.log) == 4_096


@pytest.mark.usefixtures("neighbour")
def test_a_flood_without_line_breaks_is_survived(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "import os\ndef handler(event, context):\n"
        "    for _ in range(200):\n        os.write(1, b'y' * 65536)\n"
        "    return 'done'\n",
        Timeout=60,
        MemorySize=1024,
    )

    assert platform.invoke(name).json == "done"


@pytest.mark.usefixtures("neighbour")
def test_a_neighbour_answers_fast_during_a_flood(
    deploy: Deployer, platform: Platform, neighbour: str
) -> None:
    name = deploy(
        "import os, time\ndef handler(event, context):\n"
        "    end = time.time() + 3\n"
        "    while time.time() < end:\n        os.write(1, b'line\\n' * 10_000)\n",
        Timeout=20,
    )
    with ThreadPoolExecutor(1) as pool:
        flood = pool.submit(platform.invoke, name)
        wait_until(lambda: platform.status_of(name)["busy"], "it is flooded")
        for number in range(5):
            assert platform.invoke(neighbour, number).json == number
        assert not flood.done(), "the neighbour waited for the end of the flood"
        assert flood.result().error is None


@pytest.mark.usefixtures("neighbour")
@pytest.mark.parametrize(
    "deed",
    [
        "os.close(1); os.close(2)",
        "os.closerange(0, 64)",
        "sys.stdout.close(); sys.stderr.close()",
        "os.write(3, os.urandom(100_000))",
        "os.write(3, b'\\xa5\\x5a\\x00\\x03\\xff\\xff\\xff\\xff' + b'\\0' * 8)",
        "os.kill(-1, signal.SIGKILL)",
        "os.kill(1, signal.SIGKILL)",
        "os.killpg(0, signal.SIGSTOP)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))",
    ],
)
def test_harm_that_a_function_does_to_itself_is_its_own(
    deploy: Deployer, platform: Platform, deed: str
) -> None:
    name = deploy(
        "import os, resource, signal, sys\n"
        f"def handler(event, context):\n    if event:\n        {deed}\n    return 'ok'\n",
        Timeout=2,
    )

    answer = platform.invoke(name, True)

    assert answer.body == b'"ok"' or answer.error == "Unhandled"
    again = platform.invoke(name, False)
    assert again.body == b'"ok"' or again.error == "Unhandled"
    assert platform.invoke(name, False).json == "ok", "in the end it has healed"


@pytest.mark.usefixtures("neighbour")
def test_a_full_tmp_is_the_functions_own_trouble(deploy: Deployer, platform: Platform) -> None:
    name = deploy(
        "def handler(event, context):\n"
        "    try:\n"
        "        with open('/tmp/fill', 'wb') as file:\n"
        "            for _ in range(600):\n                file.write(b'x' * (1 << 20))\n"
        "    except OSError as error:\n        return error.errno\n",
        Timeout=20,
        MemorySize=1024,
    )

    assert platform.invoke(name).json == 28


@pytest.mark.usefixtures("neighbour")
def test_functions_do_not_see_each_other(deploy: Deployer, platform: Platform) -> None:
    writes = deploy(
        "def handler(event, context):\n    open('/tmp/secret', 'w').write('s')\n    return 1\n"
    )
    looks = deploy(
        "import os\ndef handler(event, context):\n"
        "    return [os.listdir(path) for path in ('/tmp', '/var/task', '/mnt', '/opt')]\n"
    )
    platform.invoke(writes)

    assert platform.invoke(looks).json == [[], ["app.py"], [], ["lib"]]
