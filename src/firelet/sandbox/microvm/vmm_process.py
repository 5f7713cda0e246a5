"""The process that runs one machine: started inside its control groups, followed, ended.

What it is: everything about such a program that does not depend on which one it is. What it is
not: a machine; see ``vmm``. Called by the adapters.

The program is started through two others, which become it: ``setpriv`` has the kernel kill it when
this process ends (prctl(2), PR_SET_PDEATHSIG: to be exact, when the thread ends that started it,
which is the one that runs the event loop, or that of a ``Starter``), and a shell joins the control
groups, so that no thread of the program was ever outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from firelet.linux import process as processes
from firelet.sandbox.microvm.console import Console
from firelet.sandbox.microvm.vmm import VmmMissing
from firelet.sandbox.microvm.vmm_starter import Starter

_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
# Whoever becomes another user has to ask again. The program's own files are open already.
_AS_USER = (
    *("setpriv", "--reuid", "{user}", "--regid", "{user}", "{groups}"),
    *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--pdeathsig", "KILL", "--"),
)
_SHELL = "/bin/sh"
# A parent that ended before the kernel was asked to tell is not told of.
_HAS_PARENT = '[ "$PPID" = {parent} ]'
# By the parent's descriptor: the program must not have one of its own.
_JOIN = "echo 0 >>/proc/{parent}/fd/{file}"
_READ_BYTES = 16 * 1024
_TIMEOUT_S = 10.0
_READ_PAUSE_S = 0.02


class VmmProcess:
    """Started by ``start``. The console is read in pieces with pauses between them: a guest that
    writes without end waits for us (800 KB/s), not we for it."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        output: int,
        console: Console,
        cgroup_files: Sequence[int],
    ) -> None:
        """Owns them all. ``output`` is what the console is read from, without waiting."""
        self._child = child
        self._cgroup_files = list(cgroup_files)
        self._output = output
        self._console = console
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = processes.pidfd_open(child.pid)
        self._loop.add_reader(self._pidfd, self._on_end)
        self._resumption: asyncio.TimerHandle | None = None
        self._loop.add_reader(output, self._on_output)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def pidfd(self) -> int:
        """Becomes readable when the process ends. Ours, until ``close``."""
        return self._pidfd

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def wait(self) -> int:
        """The exit status, negative for a signal, once it has ended and its console is read."""
        return await asyncio.shield(self._ended)

    async def kill(self) -> None:
        """Ends it at once. A group of version 1 that is frozen has to be thawed by its owner."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError):
                processes.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        await self.wait()

    def close(self) -> None:
        """After it has ended. May be called again."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        while self._cgroup_files:
            os.close(self._cgroup_files.pop())

    def _on_end(self) -> None:
        status = self._child.poll()
        if status is None:
            return
        self._loop.remove_reader(self._pidfd)
        self._finish_output()
        self._ended.set_result(status)

    def _on_output(self) -> None:
        self._loop.remove_reader(self._output)
        if self._read():
            self._resumption = self._loop.call_later(_READ_PAUSE_S, self._resume_output)

    def _resume_output(self) -> None:
        self._resumption = None
        self._loop.add_reader(self._output, self._on_output)

    def _read(self) -> bool:
        """Reads one piece; whether there was one."""
        try:
            data = os.read(self._output, _READ_BYTES)
        except BlockingIOError:
            return False
        self._console.write(data)
        return bool(data)

    def _finish_output(self) -> None:
        """What the pipe still holds. The program starts no others that could write on."""
        if self._resumption is not None:
            self._resumption.cancel()
        self._loop.remove_reader(self._output)
        while self._read():
            pass
        os.close(self._output)


def start(
    command: Sequence[str],
    console: Console,
    *,
    fds: Sequence[int] = (),
    cgroup_files: Sequence[int] = (),
    user: int | None = None,
    groups: Sequence[int] = (),
    has_huge_pages: bool = True,
    starter: Starter | None = None,
) -> VmmProcess:
    """Starts ``command``, which inherits ``fds`` under their numbers, in the control groups whose
    files ``cgroup_files`` are; with ``user`` as that one (and its group, and ``groups``), without
    capabilities; without ``has_huge_pages`` it gets none, even if it asks for them. It has what the
    thread of ``starter`` has, or this one. Takes a millisecond, in which the loop stands still.
    VmmMissing."""
    if user is not None:
        command = [*_as_user(user, groups), *command]
    with contextlib.ExitStack() as undo:
        output, their_output = os.pipe()
        undo.callback(os.close, output)
        os.set_blocking(output, False)
        with open(their_output, "wb") as their_end:
            # The shell uses these after we have returned: their numbers must not be another's then.
            joined = []
            for file in cgroup_files:
                joined.append(os.dup(file))
                undo.callback(os.close, joined[-1])
            # What is started is like us in this, and nothing else can make it so.
            were_forbidden = has_huge_pages or processes.forbid_huge_pages(True)

            def spawn() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    [*_WITH_PARENT, _SHELL, "-c", _script(joined), _SHELL, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=their_end,
                    stderr=subprocess.STDOUT,
                    pass_fds=tuple(fds),
                    start_new_session=True,
                )

            try:
                child = spawn() if starter is None else starter.run(spawn)
            except FileNotFoundError as error:
                raise VmmMissing(f"{_WITH_PARENT[0]} is not installed.") from error
            finally:
                if not were_forbidden:
                    processes.forbid_huge_pages(False)
        undo.callback(child.wait)
        undo.callback(child.kill)
        process = VmmProcess(child, output, console, joined)
        undo.pop_all()
        return process


def _as_user(user: int, groups: Sequence[int]) -> list[str]:
    listed = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return [word.format(user=user, groups=listed) for word in _AS_USER]


def read_version(program: str | Path, pattern: re.Pattern[str]) -> str:
    """What ``program --version`` says, by the first group of ``pattern``. Blocks. VmmMissing."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VmmMissing(f"{program} cannot be used: {error}.") from error
    found = pattern.search(answer.stdout)
    if found is None:
        raise VmmMissing(f"{program} does not say its version.")
    return found[1]


def _script(cgroup_files: Sequence[int]) -> str:
    parent = os.getpid()
    steps = [_HAS_PARENT.format(parent=parent)]
    steps += [_JOIN.format(parent=parent, file=file) for file in cgroup_files]
    return " && ".join([*steps, 'exec "$@"'])
