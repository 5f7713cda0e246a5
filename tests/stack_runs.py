"""``firelet deploy`` and ``firelet delete`` for tests of stacks, and what a platform holds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from running_platform import FIRELET, Platform, clean_environment


class Stacks:
    """Runs the command line with a state directory of its own. ``folder`` holds the template."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.folder = folder
        self._platform = platform
        self._before = self.everything()

    def write(self, template: str | Mapping[str, Any]) -> Path:
        text = template if isinstance(template, str) else json.dumps(template)
        path = self.folder / "template.yaml"
        path.write_text(text)
        return path

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=250)
        assert process.returncode == expect, stdout + stderr
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*FIRELET, *arguments, "--endpoint", self._platform.url],
            env={**clean_environment(), "XDG_STATE_HOME": str(self.folder / "state")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def deploy(self, path: Path, name: str, *options: str) -> tuple[dict[str, str], list[str]]:
        """Outputs, and what was done as ``action Type LogicalId``."""
        done = self.run("deploy", str(path), "--stack", name, *options)
        outputs = dict(line.split("\t") for line in done.stdout.splitlines())
        changes = [
            " ".join(line.split()[:3]) for line in done.stderr.splitlines() if " AWS::" in line
        ]
        return outputs, changes

    def delete(self, name: str) -> None:
        self.run("delete", "--stack", name)

    def everything(self) -> dict[str, list[str]]:
        """What the platform holds of all that a stack can make. A function's own log group is
        made when it writes, and stays."""
        functions, iam = self._platform.client("lambda"), self._platform.client("iam")
        logs = self._platform.client("logs")
        found = {
            "functions": [item["FunctionArn"] for item in functions.list_functions()["Functions"]],
            "mappings": [
                item["UUID"]
                for item in functions.list_event_source_mappings()["EventSourceMappings"]
            ],
            "layers": [item["LayerArn"] for item in functions.list_layers()["Layers"]],
            "roles": [item["Arn"] for item in iam.list_roles()["Roles"]],
            "policies": [item["Arn"] for item in iam.list_policies(Scope="Local")["Policies"]],
            "groups": [
                item["logGroupName"]
                for item in logs.describe_log_groups()["logGroups"]
                if not item["logGroupName"].startswith("/aws/lambda/")
            ],
        }
        return {kind: sorted(items) for kind, items in found.items()}

    def check_nothing_left(self) -> None:
        assert self.everything() == self._before
