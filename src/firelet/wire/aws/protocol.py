"""One door to the protocols: a routed request into parameters, output members into an answer.

What it is: the choice of protocol and the order parse, validate. Called by ``frontend.router``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from firelet.wire.aws.cbor import format_cbor, parse_cbor
from firelet.wire.aws.model import CBOR, Operation
from firelet.wire.aws.parse import parse_json, parse_rest
from firelet.wire.aws.query import format_xml, parse_form
from firelet.wire.aws.route import Route
from firelet.wire.aws.serialize import (
    Answer,
    OutputMismatch,
    find_unknown,
    format_json_rpc,
    format_rest,
)
from firelet.wire.aws.validate import Validator

log = logging.getLogger(__name__)


class Protocol:
    """Parses and serialises calls of any served operation.

    With ``is_strict`` a handler that returns a member which the output shape does not have fails
    the call; without, the member is logged and left out.
    """

    def __init__(self, validator: Validator, *, is_strict: bool = False) -> None:
        self._validator = validator
        self._is_strict = is_strict

    def parse(
        self, route: Route, query: bytes, headers: Mapping[bytes, bytes], body: bytes
    ) -> dict[str, Any]:
        """The validated parameters; raises ``SerializationError`` or ``ValidationError``."""
        operation = route.operation
        match route.protocol:
            case "rest-json":
                params = parse_rest(operation, route.labels, query, headers, body)
            case "json":
                params = parse_json(operation, body)
            case protocol if protocol == CBOR:
                params = parse_cbor(operation, body)
            case _:
                params = parse_form(operation, route.form)
        self._validator.check(operation, params)
        return params

    def format(self, route: Route, output: Mapping[str, Any], request_id: str) -> Answer:
        """The answer that carries ``output``; raises ``OutputMismatch`` for a handler's mistake."""
        operation = route.operation
        unknown: list[str] = []
        match route.protocol:
            case "rest-json":
                answer = format_rest(operation, output, unknown)
            case "json":
                answer = format_json_rpc(operation, output, unknown)
            case protocol:
                unknown = _find_unknown(operation, output)
                if protocol == CBOR:
                    answer = format_cbor(operation, output)
                else:
                    body = format_xml(operation, output, request_id)
                    answer = Answer(200, body, {"content-type": "text/xml"})
        if unknown:
            self._complain(operation, _find_unknown(operation, output))
        return answer

    def _complain(self, operation: Operation, unknown: Sequence[str]) -> None:
        names = ", ".join(unknown)
        if self._is_strict:
            raise OutputMismatch(f"{operation.name} has no output members {names}")
        log.error("output members unknown operation=%s members=%s", operation.name, names)


def _find_unknown(operation: Operation, output: Mapping[str, Any]) -> list[str]:
    shape = operation.output
    return list(output) if shape is None else find_unknown(shape, output)
