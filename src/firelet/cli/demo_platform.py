"""The demo's own platform: ``firelet up`` in a process and a folder of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from firelet.cli.failure import CliError
from firelet.cli.terminal import say

_START_S = 15.0
_STOP_S = 10.0
_LINES_WITH_FAILURE = 20


class DemoPlatform:
    """Starts on entry, stops on exit and leaves nothing behind. ``url`` is where it answers."""

    def __init__(self, accept: str | None) -> None:
        self._accept: Sequence[str] = () if accept is None else ("--accept", accept)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start_s = 0.0

    def __enter__(self) -> DemoPlatform:
        self._folder = tempfile.TemporaryDirectory(prefix="firelet-demo-")
        try:
            self._start(Path(self._folder.name))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, Exception) and self._folder is not None:
                for line in self._log_lines(Path(self._folder.name))[-_LINES_WITH_FAILURE:]:
                    say(f"platform: {line}")
        finally:
            # Also when nobody reads what we say any more, as under `firelet demo | head`.
            code = self.stop()
        if error is None and code != 0:
            raise CliError(f"the platform did not stop cleanly (exit code {code})")

    def _start(self, folder: Path) -> None:
        command = [sys.executable, "-m", "firelet.cli", "up", "--port", "0"]
        command += ["--data-dir", str(folder / "data"), *self._accept]
        started = time.monotonic()
        with (folder / "stderr").open("wb") as stderr:
            # A session of its own, so that Ctrl-C reaches the demo alone, which then stops it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        line = self._read_line(started + _START_S)
        self.start_s = time.monotonic() - started
        if not line.startswith("ready "):
            raise CliError(f"the platform did not start: {self._last_words(folder)}")
        self.url = line.removeprefix("ready ").strip()

    def _read_line(self, deadline: float) -> str:
        """The first line of stdout, or what there is of it when time or the process ends."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd, received = self._process.stdout.fileno(), b""
        while not received.endswith(b"\n"):
            readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(fd, 4_096) if readable else b""
            if not chunk:
                break
            received += chunk
        return received.decode(errors="replace")

    def _last_words(self, folder: Path) -> str:
        lines = self._log_lines(folder)
        return lines[-1].removeprefix("firelet: ") if lines else f"no answer in {_START_S:.0f} s"

    def _log_lines(self, folder: Path) -> list[str]:
        return (folder / "stderr").read_text(errors="replace").strip().splitlines()

    def stop(self) -> int | None:
        """Ends the process as an operator would, and kills it only if it does not listen.
        Returns its exit code; None when there is no process."""
        code = None
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                code = self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        return code
