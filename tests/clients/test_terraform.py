"""Terraform and its AWS provider, unmodified: apply, plan again, change, destroy.

One configuration has all that can be made: what a command of Terraform costs, it costs once, and
its fixed delays pass while it makes the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from clients.terraform import Terraform, open_runner
from running_platform import PYTHON, REGION, Platform, pack
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

CONFIGURATION = Path(__file__).parents[1] / "fixtures" / "terraform"
CODE = {
    "functions": (
        "import os, tool\ndef handler(event, context):\n"
        "    return [os.environ['COLOUR'], context.memory_limit_in_mb, tool.WORD]\n"
    ),
    "gateway": "def handler(event, context):\n    return event['routeKey']\n",
    "load_balancer": (
        "def handler(event, context):\n"
        "    kind = 'multi' if 'multiValueHeaders' in event else 'single'\n"
        "    return {'statusCode': 200, 'body': kind}\n"
    ),
    "rest_api": (
        "def handler(event, context):\n"
        "    return {'statusCode': 200, 'body': event['stageVariables']['colour']}\n"
    ),
}
CHANGED = ("-input=false", "-var", "is_changed=true")
Outputs = dict[str, Any]
Check = Callable[[Platform, Outputs], None]


@pytest.fixture
def platform(make_platform: Callable[..., Platform]) -> Platform:
    """One of its own: at the end nothing is on it."""
    return make_platform()


@pytest.fixture
def terraform(platform: Platform, tmp_path: Path) -> Terraform:
    """Runs ``terraform`` in a directory with the configuration, initialised."""
    work = tmp_path / "work"
    shutil.copytree(CONFIGURATION, work)
    for part, code in CODE.items():
        (work / part / "code.zip").write_bytes(pack({"app.py": code}))
    (work / "functions" / "layer.zip").write_bytes(pack({"python/tool.py": "WORD = 'layer'\n"}))
    return open_runner(work, {"url": platform.url, "runtime": PYTHON})


@pytest.mark.timeout(1200)
def test_terraform_applies_sees_no_drift_changes_and_destroys(
    terraform: Terraform, platform: Platform, subtests: pytest.Subtests
) -> None:
    def check(*checks: Check) -> None:
        for part in checks:
            with subtests.test(part.__name__.strip("_")):
                part(platform, outputs)

    terraform("apply", "-auto-approve", "-input=false")
    outputs = {
        part: output["value"]
        for part, output in json.loads(terraform("output", "-json").stdout).items()
    }
    check(_functions_are_made, _gateway_is_made, _load_balancer_is_made, _rest_api_is_made)
    # Exit code 0 with -detailed-exitcode: nothing would be changed.
    terraform("plan", "-detailed-exitcode", "-input=false")

    terraform("apply", "-auto-approve", *CHANGED)
    check(
        _functions_are_changed,
        _gateway_is_changed,
        _load_balancer_is_changed,
        _rest_api_is_changed,
    )
    # After the change too: what is read is what was written.
    terraform("plan", "-detailed-exitcode", *CHANGED)

    terraform("destroy", "-auto-approve", *CHANGED)
    check(_functions_are_gone, _gateway_is_gone, _load_balancer_is_gone, _rest_api_is_gone)


def _functions_are_made(platform: Platform, outputs: Outputs) -> None:
    arn = outputs["functions"]["arn"]
    assert platform.invoke(arn).json == ["red", "128", "layer"]
    assert outputs["functions"]["account"] == arn.split(":")[4]


def _functions_are_changed(platform: Platform, outputs: Outputs) -> None:
    arn = outputs["functions"]["arn"]
    answer = platform.invoke(arn, Qualifier="live")
    assert answer.json == ["red", "256", "layer"]
    assert answer.version == "2"
    client = platform.client("lambda")
    mixed = client.get_alias(FunctionName=arn, Name="mixed")
    assert mixed["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 0.25}}
    provided = client.list_provisioned_concurrency_configs(FunctionName=arn)
    (warm,) = provided["ProvisionedConcurrencyConfigs"]
    assert (warm["FunctionArn"], warm["Status"]) == (f"{arn}:2", "READY")
    mappings = client.list_event_source_mappings()["EventSourceMappings"]
    assert sorted((item["BatchSize"], item["State"]) for item in mappings) == [
        (64, "Enabled"),
        (100, "Disabled"),
        (100, "Enabled"),
    ]


def _functions_are_gone(platform: Platform, outputs: Outputs) -> None:
    client, iam = platform.client("lambda"), platform.client("iam")
    scaling = platform.client("application-autoscaling")
    left = scaling.describe_scalable_targets(ServiceNamespace="lambda")
    assert left["ScalableTargets"] == []
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=outputs["functions"]["arn"])
    assert client.list_event_source_mappings()["EventSourceMappings"] == []
    assert client.list_layer_versions(LayerName="tf-tools")["LayerVersions"] == []
    assert client.list_code_signing_configs()["CodeSigningConfigs"] == []
    assert iam.list_policies(Scope="Local")["Policies"] == []
    groups = platform.client("logs").describe_log_groups(
        logGroupNamePrefix="/aws/lambda/tf-function"
    )
    assert groups["logGroups"] == []
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName="tf-role")


def _gateway_is_made(platform: Platform, outputs: Outputs) -> None:
    gateway = outputs["gateway"]
    assert fetch(gateway["url"]).body == b"$default"
    assert fetch(gateway["endpoint"] + "/one").body == b"GET /one"
    assert fetch(gateway["endpoint"] + "/guarded").status == 401
    assert urlsplit(gateway["sockets"]).scheme == "ws"


def _gateway_is_changed(platform: Platform, outputs: Outputs) -> None:
    endpoint = outputs["gateway"]["endpoint"]
    assert fetch(endpoint + "/two").body == b"GET /two"
    assert fetch(endpoint + "/one").status == 404


def _gateway_is_gone(platform: Platform, outputs: Outputs) -> None:
    assert platform.client("apigatewayv2").get_apis()["Items"] == []


def _load_balancer_is_made(platform: Platform, outputs: Outputs) -> None:
    name = outputs["load_balancer"]["name"]
    assert name.endswith(f".{REGION}.elb.localhost")
    address = _load_balancer(platform, outputs)
    assert fetch(f"{address}/").body == b"single"
    assert fetch(f"{address}/fixed/x").body == b"red"
    assert fetch(f"{address}/?secure=1", headers={"X-Secure": "yes"}).status == 301
    assert fetch(f"{address}/", headers={"Host": "www.example.com"}).body == b"single"


def _load_balancer_is_changed(platform: Platform, outputs: Outputs) -> None:
    address = _load_balancer(platform, outputs)
    assert fetch(f"{address}/").body == b"multi"
    assert fetch(f"{address}/fixed/x").body == b"blue"


def _load_balancer_is_gone(platform: Platform, outputs: Outputs) -> None:
    client = platform.client("elbv2")
    assert client.describe_load_balancers()["LoadBalancers"] == []
    assert client.describe_target_groups()["TargetGroups"] == []


def _load_balancer(platform: Platform, outputs: Outputs) -> str:
    label = outputs["load_balancer"]["name"].partition(".")[0]
    return f"{platform.url}/_firelet/elb/{label}"


def _rest_api_is_made(platform: Platform, outputs: Outputs) -> None:
    made = outputs["rest_api"]
    assert made["url"].startswith(f"https://{made['api']}.execute-api.{REGION}.")
    address = _rest_api(platform, outputs)
    assert fetch(f"{address}/x").json == {"message": "Forbidden"}
    assert fetch(f"{address}/x", headers={"x-api-key": made["key"]}).body == b"red"
    preflight = fetch(f"{address}/cors", "OPTIONS")
    assert preflight.headers["access-control-allow-origin"] == "https://red.example"


def _rest_api_is_changed(platform: Platform, outputs: Outputs) -> None:
    address, key = _rest_api(platform, outputs), outputs["rest_api"]["key"]
    assert fetch(f"{address}/x", headers={"x-api-key": key}).status == 400
    assert fetch(f"{address}/x?mode=a", headers={"x-api-key": key}).body == b"blue"
    missing = fetch(f"{address}/")
    assert (missing.status, missing.headers["x-colour"]) == (404, "blue")


def _rest_api_is_gone(platform: Platform, outputs: Outputs) -> None:
    client = platform.client("apigateway")
    assert client.get_rest_apis(limit=500)["items"] == []
    assert client.get_usage_plans(limit=500)["items"] == []
    assert client.get_api_keys(limit=500)["items"] == []


def _rest_api(platform: Platform, outputs: Outputs) -> str:
    return f"{platform.url}/_firelet/api/{outputs['rest_api']['api']}/prod"
