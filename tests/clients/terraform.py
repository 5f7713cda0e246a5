"""Runs Terraform with its AWS provider, unmodified."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from running_platform import clean_environment

Terraform = Callable[..., "subprocess.CompletedProcess[str]"]

# Where people keep a file-system mirror of providers: MIRROR/HOST/hashicorp/aws/VERSION/…
_MIRRORS = ("~/.terraform.d", "/opt", "/usr/share/terraform", "/usr/local/share/terraform")


def open_runner(work: Path, variables: Mapping[str, str]) -> Terraform:
    """``run(*arguments, expect=0)`` in ``work``, which holds a configuration and has been
    initialised; its ``variables`` have these values. Skips where Terraform or its provider is
    missing."""
    program, mirror = shutil.which("terraform"), _find_mirror()
    if program is None:
        pytest.skip("terraform is not on PATH")
    if mirror is None:
        pytest.skip(f"no mirror of hashicorp/aws below {', '.join(_MIRRORS)}")
    settings = work.parent / "cli.tfrc"
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    )
    environment = {
        **clean_environment(),
        "TF_CLI_CONFIG_FILE": str(settings),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(work.parent),
        **{f"TF_VAR_{name}": value for name, value in variables.items()},
    }

    def run(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *arguments, *(() if arguments[0] == "output" else ("-no-color",))],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    run("init", "-input=false")
    return run


def _find_mirror() -> Path | None:
    """A directory that holds the provider, so that nothing is downloaded."""
    named = os.environ.get("FIRELET_TERRAFORM_MIRROR")
    if named:
        return Path(named)
    for place in _MIRRORS:
        for provider in sorted(Path(place).expanduser().glob("*/*/hashicorp/aws")):
            return provider.parents[2]
    return None
