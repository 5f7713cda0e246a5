"""A worker process is told what the control process knows, and finds nothing out by itself."""

from __future__ import annotations

from pathlib import Path

from firelet.app.worker import WorkerSettings
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import Interpreter


def test_settings_survive_the_way_to_the_process() -> None:
    settings = WorkerSettings(
        data_dir=Path("/var/lib/firelet"),
        is_rootless=False,
        cgroup_version=None,
        interpreters={
            "python3.13": Interpreter("python3.13", "python", Path("/usr"), "bin/python3.13"),
            "provided": Interpreter("provided", "provided", None, None),
        },
        embryos=Bounds(2, 16),
        log_level=20,
    )
    assert WorkerSettings.parse(settings.format()) == settings
