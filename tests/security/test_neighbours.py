"""What a function can do to others: to its own init, to other sandboxes, to the host."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from boxes import PYTHON, SHELL, Box, BoxMaker, processes_in


class TestInit:
    async def test_a_signal_to_pid_1_does_nothing(self, box: Box) -> None:
        numbers = [*range(1, 32), 40]
        ran = await box.run_python(
            """
            import json, os, signal, sys
            for number in json.loads(sys.argv[1]):
                try:
                    os.kill(1, number)
                except PermissionError:
                    pass
                os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
                print("lives after", number, flush=True)
            """,
            json.dumps([n for n in numbers if n not in (signal.SIGCHLD, signal.SIGCONT)]),
        )
        assert ran.output.splitlines()[-1:] == ["lives after 40"]
        assert ran.ending.code == 0
        assert not box.sandbox.is_dead
        assert (await box.run_python("print('serves')")).output == "serves\n"

    async def test_its_memory_and_maps_cannot_be_read(self, box: Box) -> None:
        ran = await box.run_python(
            """
            import json, os
            found = {}
            for name in ("mem", "maps", "environ", "auxv", "stack", "syscall", "io", "pagemap"):
                try:
                    os.read(os.open("/proc/1/" + name, os.O_RDONLY), 10)
                    found[name] = "read"
                except OSError as error:
                    found[name] = "refused"
            for name in ("root", "cwd", "exe", "fd/0", "ns/net", "ns/mnt"):
                try:
                    os.readlink("/proc/1/" + name)
                    found[name] = "read"
                except OSError as error:
                    found[name] = "refused"
            print(json.dumps(found))
            """
        )
        assert [name for name, answer in ran.json().items() if answer != "refused"] == []

    async def test_a_function_that_cripples_it_harms_only_itself(self, make_box: BoxMaker) -> None:
        one, other = await make_box(PYTHON), await make_box(PYTHON)
        await one.run_python(
            """
            import resource
            for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CPU):
                try:
                    resource.prlimit(1, kind, (0, 0))
                except PermissionError:
                    pass
            """
        )
        assert (await other.run_python("print('serves')")).output == "serves\n"


class TestNeighbours:
    async def test_a_signal_to_everyone_reaches_only_its_own_sandbox(
        self, make_box: BoxMaker
    ) -> None:
        victim, attacker = await make_box(SHELL), await make_box(SHELL)
        victim.start_shell("echo ready; while true; do sleep 0.05; echo alive; done")
        await victim.says("ready")
        attacker.start_shell(
            "trap '' TERM; kill -TERM -1; kill -TERM 0; kill -KILL -1; kill -KILL 0; sleep 1"
        )
        await attacker.finish()
        victim.output = b""
        await victim.says("alive")
        assert victim.endings == []

    @pytest.mark.only_namespaces("the host has no processes of machines' functions")
    async def test_its_process_group_and_session_are_its_own(self, make_box: BoxMaker) -> None:
        # Process groups reach across pid namespaces: a shared one lets kill(0) reach the others.
        boxes = [await make_box(PYTHON) for _ in range(2)]
        groups = []
        for box in boxes:
            box.start_python("import time; print('ready'); time.sleep(1000)")
            await box.says("ready")
            init, runtime = processes_in(box)
            groups.append((os.getpgid(runtime), os.getsid(runtime)))
            assert os.getpgid(runtime) == runtime
            assert os.getsid(init) in (init, runtime)
        assert groups[0] != groups[1]

    async def test_another_sandbox_s_runtime_api_is_not_reachable(self, make_box: BoxMaker) -> None:
        other, box = await make_box(PYTHON), await make_box(PYTHON)
        listener = other.sandbox.listener
        # That of a machine is a socket in a directory of the platform's.
        assert listener.family == socket.AF_UNIX or listener.getsockname()[1] == 9001
        box.start_python(
            """
            import socket
            client = socket.create_connection(("127.0.0.1", 9001), timeout=2)
            print("connected")
            """
        )
        await box.says("connected")
        await box.finish()
        # Its own listener has the connection, the other one's has none.
        other.sandbox.listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.sandbox.listener.accept()
        box.sandbox.listener.accept()[0].close()

    async def test_tmp_is_its_own(self, make_box: BoxMaker) -> None:
        one, other = await make_box(SHELL), await make_box(SHELL)
        await one.run_shell("echo secret > /tmp/file")
        assert (await other.run_shell("ls -A /tmp")).output == ""

    async def test_shared_memory_and_message_queues_are_its_own(self, make_box: BoxMaker) -> None:
        make = """
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        print(libc.shmget(0x5EC2E7, 4096, 0o1666), libc.msgget(0x5EC2E7, 0o1666))
        """
        find = make.replace("0o1666", "0o666")
        one, other = await make_box(PYTHON), await make_box(PYTHON)
        assert "-1" not in (await one.run_python(make)).output
        assert (await other.run_python(find)).output == "-1 -1\n"

    async def test_abstract_unix_sockets_are_its_own(self, make_box: BoxMaker) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("\0firelet-test")
            server.listen()
            box = await make_box(PYTHON)
            ran = await box.run_python(
                """
                import socket
                client = socket.socket(socket.AF_UNIX)
                try:
                    client.connect("\\0firelet-test")
                    print("connected")
                except ConnectionRefusedError:
                    print("refused")
                """
            )
        assert ran.output == "refused\n"


class TestHost:
    async def test_a_server_on_the_host_s_loopback_is_not_reachable(self, box: Box) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address):
                server.accept()[0].close()  # it is there for us
            ran = await box.run_python(
                """
                import socket, sys
                for host in ("127.0.0.1", "localhost", "0.0.0.0"):
                    try:
                        socket.create_connection((host, int(sys.argv[1])), timeout=2)
                        print("connected")
                    except OSError:
                        print("refused")
                """,
                str(address[1]),
            )
        assert ran.output == "refused\n" * 3

    async def test_no_address_outside_is_reachable(self, box: Box) -> None:
        addresses = json.dumps(["8.8.8.8", "169.254.169.254", "10.0.0.1", "192.168.0.1"])
        ran = await box.run_python(
            """
            import errno, json, socket, sys
            for host in json.loads(sys.argv[1]):
                try:
                    socket.create_connection((host, 80), timeout=2)
                    print("connected")
                except OSError as error:
                    print(error.errno == errno.ENETUNREACH)
            """,
            addresses,
        )
        assert ran.output == "True\n" * 4

    async def test_its_names_are_its_own(self, box: Box) -> None:
        ran = await box.run_python(
            """
            import json, os, socket
            names = os.listdir("/proc/self/ns")
            spaces = {name: os.readlink("/proc/self/ns/" + name) for name in names}
            print(json.dumps([socket.gethostname(), spaces]))
            """
        )
        name, spaces = ran.json()
        assert name == "sandbox" != socket.gethostname()
        for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert spaces[kind] != os.readlink(f"/proc/self/ns/{kind}"), kind

    async def test_its_control_group_looks_like_the_root_and_cannot_be_changed(
        self, box: Box, needs_cgroups: None
    ) -> None:
        ran = await box.run_python("print(open('/proc/self/cgroup').read())")
        assert "firelet" not in ran.output

    async def test_a_fork_bomb_is_contained_while_others_are_served(
        self, make_box: BoxMaker, needs_cgroups: None
    ) -> None:
        bomb, other = await make_box(SHELL), await make_box(PYTHON)
        bomb.sandbox.set_vcpus(0.2)
        bomb.start_shell("echo ready; b() { b | b & }; while true; do b; done 2>/dev/null")
        await bomb.says("ready")
        for number in range(3):
            assert (await other.run_python(f"print({number})")).output == f"{number}\n"
        root = Path("/sys/fs/cgroup")
        groups = [
            *root.glob(f"pids/firelet/**/{bomb.sandbox.id}"),
            *root.glob(f"firelet/**/{bomb.sandbox.id}"),
        ]
        assert groups
        for group in groups:  # that of a machine has the threads of what runs it
            assert int((group / "pids.current").read_text()) <= 1024
        await bomb.close()

    async def test_descriptors_are_limited(self, box: Box) -> None:
        ran = await box.run_python(
            """
            import os
            count = 0
            try:
                while True:
                    os.dup(0)
                    count += 1
            except OSError as error:
                print(count, error.errno)
            """
        )
        count, number = map(int, ran.output.split())
        assert number == 24
        assert count <= 1024 - 4

    async def test_a_flood_of_output_does_not_stop_the_platform(self, make_box: BoxMaker) -> None:
        flood, other = await make_box(SHELL), await make_box(PYTHON)
        flood.forget_pipes()  # nobody reads: the writer must block, and only the writer
        flood.start_shell("yes")
        assert (await other.run_python("print('served')")).output == "served\n"
        await flood.sandbox.kill_processes()
