"""Runs Terraform with its AWS provider, unmodified, against a platform."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from running_platform import REGION, Platform, clean_environment

Terraform = Callable[..., "subprocess.CompletedProcess[str]"]

# Where people keep a file-system mirror of providers: MIRROR/HOST/hashicorp/aws/VERSION/…
_MIRRORS = ("~/.terraform.d", "/opt", "/usr/share/terraform", "/usr/local/share/terraform")
_PROVIDER = """
terraform {{
  required_providers {{
    aws = {{ source = "hashicorp/aws" }}
  }}
}}
provider "aws" {{
  region                      = "{region}"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = false
  skip_region_validation      = true
  max_retries                 = 2
  endpoints {{
{endpoints}
  }}
}}
"""


def make_runner(
    directory: Path, platform: Platform, configuration: str, *, services: Sequence[str]
) -> Terraform:
    """As ``open_runner``, with a provider whose ``services`` are the platform's."""
    endpoints = "\n".join(f'    {name} = "{platform.url}"' for name in services)
    provider = _PROVIDER.format(region=REGION, endpoints=endpoints)
    return open_runner(directory, provider + configuration)


def open_runner(directory: Path, configuration: str) -> Terraform:
    """``run(*arguments, expect=0)`` in ``directory/work``, which has been initialised with the
    configuration. Skips where Terraform or its provider is missing."""
    program, mirror = shutil.which("terraform"), _find_mirror()
    if program is None:
        pytest.skip("terraform is not on PATH")
    if mirror is None:
        pytest.skip(f"no mirror of hashicorp/aws below {', '.join(_MIRRORS)}")
    settings = directory / "cli.tfrc"
    settings.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'
    )
    work = directory / "work"
    work.mkdir(exist_ok=True)
    (work / "main.tf").write_text(configuration)
    variables = {
        **clean_environment(),
        "TF_CLI_CONFIG_FILE": str(settings),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
        "HOME": str(directory),
    }

    def run(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [program, *arguments, *(() if arguments[0] == "output" else ("-no-color",))],
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
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
