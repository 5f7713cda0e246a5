"""A package becomes a function: created with its role when it is new, updated when it is not.

Called by ``deploy`` and ``dev``. What it is not: stacks, which ``stack`` makes of templates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firelet.cli.endpoint import Endpoint, error_code
from firelet.cli.failure import CliError
from firelet.model.isolation import TAG

if TYPE_CHECKING:
    from firelet.cli.package import Package

ROLE_NAME = "firelet-execution-role"
_BASIC_POLICY = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
_TRUST_LAMBDA = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
# botocore's own delay is for a service that is far away and takes seconds.
_WAIT = {"Delay": 0.05, "MaxAttempts": 2_400}


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """``K=V`` arguments of an option as a mapping."""
    variables: dict[str, str] = {}
    for pair in pairs:
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key:
            raise CliError(f"{option} {pair}: write it as NAME=VALUE")
        variables[key] = value
    return variables


def name_of(source: Path) -> str:
    """A function name out of a path: the folder's, or the file's without its suffix."""
    resolved = source.resolve()
    name = resolved.name if source.is_dir() else resolved.stem
    if name == "bootstrap":
        name = resolved.parent.name
    cleaned = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:64]
    if not cleaned:
        raise CliError(f"no function name follows from {source}: give one with --name")
    return cleaned


def ensure_role(iam: Any) -> str:
    """The ARN of the role that deployed functions share; made at the first deployment."""
    import botocore.exceptions as failures

    try:
        arn: str = iam.get_role(RoleName=ROLE_NAME)["Role"]["Arn"]
    except failures.ClientError as error:
        if error_code(error) != "NoSuchEntity":
            raise
        arn = iam.create_role(
            RoleName=ROLE_NAME,
            AssumeRolePolicyDocument=json.dumps(_TRUST_LAMBDA),
            Description="Execution role of functions that firelet deploy made",
        )["Role"]["Arn"]
        iam.attach_role_policy(RoleName=ROLE_NAME, PolicyArn=_BASIC_POLICY)
    return arn


def settings_of(
    *, memory: int | None, timeout: int | None, variables: Mapping[str, str]
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if memory is not None:
        settings["MemorySize"] = memory
    if timeout is not None:
        settings["Timeout"] = timeout
    if variables:
        settings["Environment"] = {"Variables": dict(variables)}
    return settings


def runtimes_of(endpoint: Endpoint) -> Sequence[str]:
    """What the platform can run. Of a platform elsewhere nothing is known."""
    if not endpoint.is_local:
        return ()
    from firelet.sandbox.interpreters import discover

    return tuple(discover())


def create_or_update(
    endpoint: Endpoint,
    function: str,
    package: Package,
    settings: Mapping[str, Any],
    role: str | None,
    isolation: str | None = None,
) -> str:
    """What was done. ``isolation`` None: the tag that says it stays as it is, or is not set."""
    import botocore.exceptions as failures

    functions = endpoint.client("lambda")
    try:
        current = functions.get_function_configuration(FunctionName=function)
    except failures.ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise
        functions.create_function(
            FunctionName=function,
            Role=role or ensure_role(endpoint.client("iam")),
            Code={"ZipFile": package.zipped},
            Tags={} if isolation is None else {TAG: isolation},
            **settings,
        )
        wait_until(functions, "function_active_v2", function)
        return "created"
    if isolation is not None:
        _isolate(functions, function, current["FunctionArn"], isolation)
    functions.update_function_code(FunctionName=function, ZipFile=package.zipped)
    wait_until(functions, "function_updated_v2", function)
    changed = {key: value for key, value in settings.items() if current.get(key) != value}
    if role is not None and current["Role"] != role:
        changed["Role"] = role
    if changed:
        functions.update_function_configuration(FunctionName=function, **changed)
        wait_until(functions, "function_updated_v2", function)
    return "updated"


def _isolate(functions: Any, function: str, arn: str, isolation: str) -> None:
    """Before there is other code, which is to be behind these walls from its first moment."""
    if functions.list_tags(Resource=arn)["Tags"].get(TAG) != isolation:
        functions.tag_resource(Resource=arn, Tags={TAG: isolation})
        wait_until(functions, "function_updated_v2", function)


def wait_until(functions: Any, waiter: str, function: str) -> None:
    """Waits, and says firelet's own reason when the function failed instead."""
    import botocore.exceptions as failures

    try:
        functions.get_waiter(waiter).wait(FunctionName=function, WaiterConfig=_WAIT)
    except failures.WaiterError as error:
        answer: Any = error.last_response
        last: Mapping[str, Any] = answer.get("Configuration", answer)
        reason = last.get("StateReason") or last.get("LastUpdateStatusReason") or str(error)
        raise CliError(f"{function} is deployed and cannot run: {reason}") from None
