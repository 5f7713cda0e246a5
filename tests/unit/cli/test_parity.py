"""``firelet parity``: what is counted, and how it is shown."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from firelet.app.parity import Coverage, Standing, list_coverage
from firelet.cli import main
from firelet.cli.parity import describe, summarize
from firelet.frontend.operations import Call, Operations

FOUND = [
    Coverage("CreateFunction", Standing.PARTLY, "container images"),
    Coverage("GetFunction", Standing.IMPLEMENTED),
    Coverage("PauseDurableExecution", Standing.MISSING),
]


async def answer(call: Call) -> None:
    """A handler."""


def test_what_is_served_partly_counts_and_is_told() -> None:
    assert summarize(FOUND) == "2 of 3 Lambda operations, 1 of them partly"
    assert summarize(FOUND[1:]) == "1 of 2 Lambda operations"


def test_json_has_the_counts_and_each_operation() -> None:
    assert describe(FOUND) == {
        "service": "lambda",
        "total": 3,
        "served": 2,
        "partly": 1,
        "operations": {
            "CreateFunction": {"standing": "partly", "lacks": "container images"},
            "GetFunction": {"standing": "implemented"},
            "PauseDurableExecution": {"standing": "missing"},
        },
    }


def test_every_operation_of_the_model_is_listed_once() -> None:
    names = [item.operation for item in list_coverage()]
    assert len(names) == len(set(names)) == 91
    assert names == sorted(names)


def test_invoke_counts_though_it_has_no_handler() -> None:
    standings = {item.operation: item.standing for item in list_coverage()}
    assert standings["Invoke"] is Standing.IMPLEMENTED


@pytest.mark.parametrize("service", ["iam", "sts", "logs"])
def test_other_services_can_be_asked_for(service: str) -> None:
    assert any(item.standing is Standing.IMPLEMENTED for item in list_coverage(service))


def test_a_handler_says_what_it_lacks() -> None:
    operations = Operations()
    operations.add("lambda", "GetFunction", answer)
    operations.add("lambda", "CreateFunction", answer, lacks="container images")
    assert operations.lacks("lambda", "GetFunction") is None
    assert operations.lacks("lambda", "CreateFunction") == "container images"


def test_the_command_prints_a_line_for_each_and_the_sum() -> None:
    lines = CliRunner().invoke(main.app, ["parity"]).output.splitlines()
    assert len(lines) == 92
    assert lines[-1] == summarize(list_coverage())
    assert json.loads(CliRunner().invoke(main.app, ["parity", "--json"]).output)["total"] == 91
