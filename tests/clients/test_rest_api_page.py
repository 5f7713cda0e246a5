"""The commands of the page on REST APIs and load balancers, run by bash as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import load_balancers
import rest_apis
from running_platform import ACCOUNT, REGION, Deployer, Platform, clean_environment
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "rest-api-and-load-balancer.md"
AWS = Path(sys.executable).parent / "aws"


def commands(heading: str, function: str, platform: Platform) -> str:
    """The first block of commands below a heading, with its placeholders filled in."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    found = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert found is not None
    text = found[1].replace("<function-arn>", load_balancers.arn_of(function))
    return text.replace("<function>", function).replace("localhost:4566", platform.url[7:])


def run(script: str, platform: Platform, home: Path) -> str:
    bash = shutil.which("bash")
    if bash is None or not AWS.exists():
        pytest.skip(f"bash is not on PATH, or awscli not installed beside {sys.executable}")
    environment = clean_environment()
    variables = {
        **environment,
        "AWS_ENDPOINT_URL": platform.url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": ACCOUNT,
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_PAGER": "",
        "HOME": str(home),
        "PATH": f"{AWS.parent}:{environment['PATH']}",
    }
    done = subprocess.run(
        [bash, "-eu", "-c", script],
        env=variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rest_api_of_the_page_answers(
    platform: Platform, deploy: Deployer, tmp_path: Path
) -> None:
    function = deploy(rest_apis.ECHO)
    script = commands("REST APIs", function, platform)
    # The name does not resolve everywhere: the API's id is asked for instead.
    script = re.sub(r"^curl .*$", 'echo "API $api"', script, flags=re.MULTILINE)

    told = run(script, platform, tmp_path)

    api = told.strip().rpartition("API ")[2]
    answer = fetch(f"{platform.url}/_firelet/api/{api}/prod/anything")
    assert answer.json["path"] == "/anything"


def test_the_load_balancer_of_the_page_answers(
    platform: Platform, deploy: Deployer, tmp_path: Path
) -> None:
    function = deploy(load_balancers.ECHO)

    run(commands("Load balancers", function, platform), platform, tmp_path)

    client = platform.client("elbv2")
    (shown,) = client.describe_load_balancers(Names=["web"])["LoadBalancers"]
    site = shown["DNSName"].partition(".")[0]
    assert fetch(f"{platform.url}/_firelet/elb/{site}/x").json["path"] == "/x"
