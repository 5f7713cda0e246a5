"""``firelet dev``: what is saved is served, and nobody else notices."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firelet.cli.dev import watch
from running_platform import FIRELET, Deployer, Platform, clean_environment

pytest_plugins = ("platform_fixtures",)

WHO = """
import os
MARK = os.urandom(8).hex()
def handler(event, context):
    return MARK
"""
_WITHIN_S = 30.0


def code(answer: str) -> str:
    return f"def handler(event, context):\n    print('said {answer}')\n    return '{answer}'\n"


class Developer:
    """A running ``firelet dev`` and what it printed, line by line."""

    def __init__(self, folder: Path, platform: Platform, *options: str) -> None:
        self.process = subprocess.Popen(
            [*FIRELET, "dev", str(folder), "--endpoint", platform.url, *options],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def wait_for(self, part: str) -> str:
        """The next line with this in it."""
        while True:
            line = self._lines.get(timeout=_WITHIN_S)
            if part in line:
                return line

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(_WITHIN_S)
        self._reader.join(_WITHIN_S)
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "greeter"
    folder.mkdir()
    (folder / "main.py").write_text(code("one"))
    return folder


@pytest.fixture
def developer(folder: Path, platform: Platform) -> Iterator[Developer]:
    developer = Developer(folder, platform, "--event", "{}", "--name", "greeter-dev")
    yield developer
    developer.end()


def test_a_save_is_served_and_other_functions_stay_warm(
    developer: Developer, folder: Path, deploy: Deployer, platform: Platform
) -> None:
    other = deploy(WHO)
    mark = platform.invoke(other).json
    developer.wait_for("created greeter-dev in ")
    developer.wait_for("said one")
    developer.wait_for('"one"')
    developer.wait_for("watching ")

    (folder / "main.py").write_text(code("two"))

    developer.wait_for(" → greeter-dev in ")
    developer.wait_for('"two"')
    assert platform.invoke("greeter-dev").json == "two"
    assert platform.invoke(other).json == mark
    assert developer.end() == 0


def test_broken_code_is_told_and_the_next_save_mends_it(developer: Developer, folder: Path) -> None:
    developer.wait_for("watching ")
    (folder / "main.py").write_text("def handler(:\n")
    developer.wait_for("greeter-dev failed: Runtime.UserCodeSyntaxError")
    (folder / "main.py").write_text(code("mended"))
    developer.wait_for('"mended"')


def test_a_folder_without_files_is_told_and_waited_out(developer: Developer, folder: Path) -> None:
    developer.wait_for("watching ")
    (folder / "main.py").unlink()
    developer.wait_for("holds no files to deploy")
    (folder / "main.py").write_text(code("back"))
    developer.wait_for('"back"')


class TestWatch:
    @pytest.fixture
    def seen(self, folder: Path) -> Iterator[queue.Queue[str]]:
        (folder / "__pycache__").mkdir()
        names: queue.Queue[str] = queue.Queue()
        stop = threading.Event()

        def follow() -> None:
            for name in watch(folder, stop):
                names.put(name)

        thread = threading.Thread(target=follow)
        thread.start()
        yield names
        stop.set()
        thread.join(_WITHIN_S)

    def test_what_changed_before_the_kernel_watched_is_asked_for_once(
        self, seen: queue.Queue[str], folder: Path
    ) -> None:
        assert seen.get(timeout=_WITHIN_S) == folder.name

    def test_what_no_package_holds_is_no_change(self, seen: queue.Queue[str], folder: Path) -> None:
        assert seen.get(timeout=_WITHIN_S) == folder.name
        (folder / "__pycache__" / "main.pyc").write_bytes(b"x")
        (folder / "main.pyc").write_bytes(b"x")
        (folder / ".DS_Store").write_bytes(b"x")
        (folder / "later.py").write_text("x")
        assert seen.get(timeout=_WITHIN_S) == "later.py"

    def test_a_file_replaced_by_a_rename_is_a_change(
        self, seen: queue.Queue[str], folder: Path
    ) -> None:
        assert seen.get(timeout=_WITHIN_S) == folder.name
        draft = folder.parent / "draft"
        draft.write_text("x")
        os.replace(draft, folder / "main.py")
        assert seen.get(timeout=_WITHIN_S) == "main.py"


def test_one_file_alone_is_watched(folder: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    changes = watch(folder / "main.py", stop)
    assert next(changes) == "main.py"  # after the quiet time
    (folder / "other.py").write_text("x")
    (folder / "main.py").write_text("x")
    assert next(changes) == "main.py"
    stop.set()


def test_a_template_is_no_code(platform: Platform, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("Resources: {}\n")
    said = subprocess.run(
        [*FIRELET, "dev", str(template), "--endpoint", platform.url],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    assert said.returncode == 1
    assert "is a template" in said.stderr
