"""The real ``aws`` command, unmodified, against the shared platform.

A pytest plugin: a test module that wants it says
``pytest_plugins = ("platform_fixtures", "clients.aws_command")``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore
import pytest

from firelet.app.endpoint import SERVICES
from running_platform import REGION, Platform, clean_environment

AWS = Path(sys.executable).parent / "aws"

Aws = Callable[..., Any]


@pytest.fixture(scope="session")
def service_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """botocore's models of what firelet serves: the command brings models of its own, which may be
    older. Not those of all services, since it looks at each of them whenever it starts."""
    models = tmp_path_factory.mktemp("models")
    for service in SERVICES:
        (models / service).symlink_to(Path(botocore.__file__).parent / "data" / service)
    return models


@pytest.fixture
def aws_process(platform: Platform, tmp_path: Path, service_models: Path) -> Callable[..., Any]:
    """Runs ``aws`` with arguments, in a directory of its own; the completed process."""
    if not AWS.exists():
        pytest.skip(f"awscli is not installed beside {sys.executable}")
    variables = {
        **clean_environment(),
        "AWS_ENDPOINT_URL": platform.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
        "AWS_DATA_PATH": str(service_models),
        "HOME": str(tmp_path),
    }

    def run(*arguments: str) -> Any:
        return subprocess.run(
            [AWS, *arguments],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def aws(aws_process: Callable[..., Any]) -> Aws:
    """Runs ``aws``, which must succeed; its output, read as JSON when it is."""

    def run(*arguments: str) -> Any:
        done = aws_process(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        try:
            return json.loads(done.stdout)
        except ValueError:
            return done.stdout

    return run
