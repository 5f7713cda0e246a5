"""Which function a call is about: ``FunctionName`` and ``Qualifier`` of its parameters.

Called by every family of operations on functions. Source: FunctionName in the service model.
"""

from __future__ import annotations

from firelet.control.targets import function_key
from firelet.frontend.operations import Call
from firelet.model.arn import parse_function_ref
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import FunctionKey


def parse_version_name(call: Call) -> tuple[FunctionKey, str | None]:
    """Key and qualifier, for operations that take both."""
    ref = parse_function_ref(call.params["FunctionName"])
    ref = ref.with_qualifier(call.params.get("Qualifier"))
    return function_key(call.account, call.region, ref, call.operation), ref.qualifier


def parse_function_name(call: Call) -> FunctionKey:
    """Key, for operations that take no qualifier."""
    key, qualifier = parse_version_name(call)
    if qualifier is not None:
        raise InvalidParameterValue(
            "This operation is permitted on Lambda functions only. Aliases and versions do not"
            " support this operation. Please specify either a function name or an unqualified"
            " function ARN."
        )
    return key
