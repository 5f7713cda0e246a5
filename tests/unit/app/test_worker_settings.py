"""A worker process is told what the control process knows, and finds nothing out by itself."""

from __future__ import annotations

from pathlib import Path

from firelet.app.worker import WorkerSettings
from firelet.linux.kvm import KvmVerdict
from firelet.model.isolation import Isolation
from firelet.sandbox.embryos import Bounds
from firelet.sandbox.interpreters import Interpreter
from firelet.sandbox.microvm.config import MicrovmConfig


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
        microvms=MicrovmConfig(
            images=Path("/var/lib/firelet/guest-images"),
            image="ab" * 32,
            firecracker=Path("/opt/firecracker"),
        ),
        kvm=KvmVerdict(True, False, "guests are emulated"),
        isolation=Isolation.MICROVM,
    )
    assert WorkerSettings.parse(settings.format()) == settings
