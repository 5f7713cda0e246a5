"""URIs of integrations and authorizers: which function they invoke, and stage variables in them.

Pure. What HTTP, WebSocket and REST APIs have in common; whether an API takes a URI is for the rules
of its kind (``control``). Used by these and by the routes in ``gateway``.
Source: docs.aws.amazon.com/apigateway/latest/developerguide/stage-variables-reference.html and, for
the form, docs.aws.amazon.com/apigateway/latest/api/API_Integration.html (``uri``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LAMBDA = re.compile(
    r"arn:aws[a-z-]*:apigateway:[a-z0-9-]+:lambda:path/2015-03-31/functions/(?P<function>.+)"
    r"/invocations"
)
_STAGE_VARIABLE = re.compile(r"\$\{stageVariables\.([A-Za-z0-9_]+)\}")


def find_function(uri: str) -> str | None:
    """The function as the URI names it, stage variables and all; None when it invokes none."""
    found = _LAMBDA.fullmatch(uri)
    return None if found is None else found["function"]


def fill_stage_variables(text: str, variables: Mapping[str, str]) -> str:
    """``${stageVariables.name}`` with its value. What is not set is left out."""
    return _STAGE_VARIABLE.sub(lambda found: variables.get(found[1], ""), text)
