"""The operations of the control plane that are measured: each as a request that can be repeated.

A round of writes makes what it needs and takes it away again, so that one round is like another.
Called by ``bench.controlplane``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.functions import PYTHON, PYTHON_SOURCE
from bench.stock import ACCOUNT, REGION, ROLE
from bench.wire import Call, Line, operation

PAGE = 50
_PROBE = "probe"
_FUNCTIONS = "/2015-03-31/functions"
_MAPPINGS = "/2015-03-31/event-source-mappings"
_ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{_PROBE}"
_QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:queue"
_FIRST_VERSION = 1  # what ``prepare`` publishes
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Operation:
    """``make`` gives the request of a round, which is counted from 0."""

    name: str
    make: Callable[[int], Call]


@dataclass(frozen=True, slots=True)
class Probe:
    """One platform's operations. The writes are to be made in their order."""

    line: Line
    reads: Sequence[Operation]
    writes: Sequence[Operation]


def prepare(host: str, port: int) -> Probe:
    """Makes the function that the operations are about, and gets to know the last page."""
    line = Line(host, port, _TIMEOUT_S)

    def call(method: str, path: str, params: dict[str, Any] | None = None) -> Call:
        return operation(host, port, method, path, params)

    def ask(method: str, path: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(line.ask(call(method, path, params))[0])
        return answer

    ask("POST", _FUNCTIONS, _new_function(_PROBE))
    ask("POST", f"{_FUNCTIONS}/{_PROBE}/versions", {})
    alias = {"Name": "live", "FunctionVersion": str(_FIRST_VERSION)}
    ask("POST", f"{_FUNCTIONS}/{_PROBE}/aliases", alias)
    ask("POST", f"{_FUNCTIONS}/{_PROBE}/policy", _permission("first"))
    mapping = {"FunctionName": _PROBE, "EventSourceArn": _QUEUE}
    identity = ask("POST", _MAPPINGS, mapping)["UUID"]
    reads = _reads(call, f"{_MAPPINGS}/{identity}", _find_last_page(ask))
    return Probe(line, reads, _writes(call, f"{_MAPPINGS}/{identity}"))


def _find_last_page(ask: Callable[[str, str], dict[str, Any]]) -> str:
    path = first = f"{_FUNCTIONS}/?MaxItems={PAGE}"
    while marker := ask("GET", path).get("NextMarker"):
        path = f"{first}&Marker={marker}"
    return path


def _reads(call: Callable[..., Call], mapping: str, last_page: str) -> list[Operation]:
    probe = f"{_FUNCTIONS}/{_PROBE}"
    paths = {
        "GetFunctionConfiguration": f"{probe}/configuration",
        "GetFunction": probe,
        "GetAlias": f"{probe}/aliases/live",
        "GetPolicy": f"{probe}/policy",
        "GetFunctionConcurrency": f"/2019-09-30/functions/{_PROBE}/concurrency",
        "GetEventSourceMapping": mapping,
        "ListTags": f"/2017-03-31/tags/{_ARN}",
        "ListAliases": f"{probe}/aliases",
        "ListVersionsByFunction": f"{probe}/versions",
        "ListEventSourceMappings": f"{_MAPPINGS}?FunctionName={_PROBE}",
        f"ListFunctions, first {PAGE}": f"{_FUNCTIONS}/?MaxItems={PAGE}",
        "ListFunctions, last page": last_page,
        "GetAccountSettings": "/2016-08-19/account-settings",
    }
    calls = {name: call("GET", path) for name, path in paths.items()}
    return [Operation(name, partial(_the_same, fixed)) for name, fixed in calls.items()]


def _the_same(call: Call, _round_number: int) -> Call:
    return call


def _writes(call: Callable[..., Call], mapping: str) -> list[Operation]:
    probe = f"{_FUNCTIONS}/{_PROBE}"
    tags = f"/2017-03-31/tags/{_ARN}"
    concurrency = f"/2017-10-31/functions/{_PROBE}/concurrency"
    return [
        Operation(
            "UpdateFunctionConfiguration",
            lambda n: call("PUT", f"{probe}/configuration", {"Description": f"round {n}"}),
        ),
        Operation("PublishVersion", lambda _: call("POST", f"{probe}/versions", {})),
        Operation(
            "CreateAlias",
            lambda n: call(
                "POST", f"{probe}/aliases", {"Name": "next", "FunctionVersion": _new(n)}
            ),
        ),
        Operation(
            "UpdateAlias",
            lambda _: call("PUT", f"{probe}/aliases/next", {"FunctionVersion": "1"}),
        ),
        Operation("DeleteAlias", lambda _: call("DELETE", f"{probe}/aliases/next")),
        Operation(
            "DeleteFunction of a version",
            lambda n: call("DELETE", f"{probe}?Qualifier={_new(n)}"),
        ),
        Operation("AddPermission", lambda _: call("POST", f"{probe}/policy", _permission("more"))),
        Operation("RemovePermission", lambda _: call("DELETE", f"{probe}/policy/more")),
        Operation("TagResource", lambda n: call("POST", tags, {"Tags": {"round": str(n)}})),
        Operation(
            "PutFunctionConcurrency",
            lambda n: call("PUT", concurrency, {"ReservedConcurrentExecutions": 1 + n % 5}),
        ),
        Operation(
            "UpdateEventSourceMapping",
            lambda n: call("PUT", mapping, {"BatchSize": 1 + n % 10}),
        ),
        Operation("CreateFunction", lambda _: call("POST", _FUNCTIONS, _new_function("passing"))),
        Operation("DeleteFunction", lambda _: call("DELETE", f"{_FUNCTIONS}/passing")),
    ]


def _new(round_number: int) -> str:
    """The version that a round publishes."""
    return str(_FIRST_VERSION + 1 + round_number)


def _new_function(name: str) -> dict[str, Any]:
    return {
        "FunctionName": name,
        "Runtime": PYTHON,
        "Role": ROLE,
        "Handler": "app.no_op",
        "Code": {"ZipFile": base64.b64encode(PYTHON_SOURCE.zip()).decode()},
        "Environment": {"Variables": {"STAGE": "production"}},
        "Tags": {"team": "bench"},
    }


def _permission(identity: str) -> dict[str, Any]:
    return {
        "StatementId": identity,
        "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
    }
