"""``python -m bench.dev``: from a save under ``firelet dev`` to the first answer of the new code.

A caller asks all the while; what is timed ends with the first answer that the saved code gave.
The floor is one deployment through the API by a client that needs not watch anything.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.platforms import Firelet, running_firelet
from bench.processes import environment, stop
from bench.rows import percentile
from bench.wire import Line
from firelet.cli.deployment import wait_until
from firelet.cli.endpoint import Endpoint
from firelet.cli.package import open_package

_NAME = "greeter"
_SAVES = 40
_PAUSE_S = 0.3
_WITHIN_S = 20.0
_GOAL_MS = 150


def _write(folder: Path, mark: str) -> None:
    source = f"def handler(event, context):\n    return '{mark}'\n"
    (folder / "main.py").write_text(source)


def _await_answer(firelet: Firelet, mark: str) -> None:
    wanted = f'"{mark}"'.encode()
    call = firelet.call(_NAME, b"{}")
    deadline = time.monotonic() + _WITHIN_S
    with Line(call.host, call.port, _WITHIN_S) as line:
        while line.ask(call)[0] != wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no answer {wanted!r} within {_WITHIN_S:.0f} s")
            time.sleep(0.001)


def _measure(firelet: Firelet, prefix: str, save: Callable[[str], None]) -> list[float]:
    samples = []
    for number in range(_SAVES):
        time.sleep(_PAUSE_S)
        mark = f"{prefix}-{number}"
        started = time.perf_counter()
        save(mark)
        _await_answer(firelet, mark)
        samples.append((time.perf_counter() - started) * 1_000)
    return sorted(samples)


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="firelet-bench-") as name:
        scratch = Path(name)
        folder = scratch / _NAME
        folder.mkdir()
        _write(folder, "first")
        with running_firelet(scratch) as firelet:
            call = firelet.call(_NAME, b"{}")
            address = f"http://{call.host}:{call.port}"
            command = [str(Path(sys.executable).with_name("firelet")), "dev", str(folder)]
            watcher = subprocess.Popen(
                [*command, "--endpoint", address],
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert watcher.stderr is not None
            try:
                while "watching" not in watcher.stderr.readline():
                    if watcher.poll() is not None:
                        raise RuntimeError("firelet dev ended")
                time.sleep(2)  # the first look at what changed before the watch
                saved = _measure(firelet, "saved", lambda mark: _write(folder, mark))
            finally:
                stop(watcher)
                watcher.stderr.close()
            functions = Endpoint(address, {}).client("lambda")

            def deploy(mark: str) -> None:
                _write(folder, mark)
                functions.update_function_code(
                    FunctionName=_NAME, ZipFile=open_package(folder).zipped
                )
                wait_until(functions, "function_updated_v2", _NAME)

            deployed = _measure(firelet, "deployed", deploy)
    for label, samples in (("save to first answer", saved), ("deployed by a call", deployed)):
        p50, p99 = percentile(samples, 0.5), percentile(samples, 0.99)
        print(f"{label}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(samples)} times")
    print(f"goal: {_GOAL_MS} ms from save to first answer")


if __name__ == "__main__":
    main()
