"""URIs of integrations: the function in them, and stage variables."""

from __future__ import annotations

import pytest

from firelet.model.integration_uri import fill_stage_variables, find_function

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:pets"
URI = "arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{}/invocations"


@pytest.mark.parametrize("named", [FUNCTION, f"{FUNCTION}:live", "${stageVariables.function}"])
def test_the_function_is_found_as_it_is_named(named: str) -> None:
    assert find_function(URI.format(named)) == named


@pytest.mark.parametrize(
    "uri",
    [
        "",
        FUNCTION,
        "https://example.com/pets",
        URI.format(""),
        URI.format(FUNCTION) + "/more",
        "arn:aws:apigateway:us-east-1:sqs:path/000000000000/queue",
    ],
)
def test_other_uris_invoke_no_function(uri: str) -> None:
    assert find_function(uri) is None


def test_stage_variables_are_filled_in_and_those_that_are_not_set_left_out() -> None:
    text = "${stageVariables.name}:${stageVariables.alias}${stageVariables.none}"
    assert fill_stage_variables(text, {"name": "pets", "alias": "live"}) == "pets:live"
    assert fill_stage_variables("${other.name}", {"name": "pets"}) == "${other.name}"
