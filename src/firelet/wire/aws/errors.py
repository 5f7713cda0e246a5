"""Errors on the wire: a ``FireletError`` in the form that each AWS protocol gives to it.

What it is: code, sentence, fields and headers in; an ``Answer`` out. What it is not: the choice of
the error, which belongs to whoever raised it. Called by ``frontend.failures``.

Source: https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html#operation-error-serialization
and answers of the real service (``Type``, and the message under both spellings).
"""

from __future__ import annotations

import cbor2
import orjson

from firelet.model.errors import FireletError
from firelet.wire.aws.cbor import HEADERS as CBOR_HEADERS
from firelet.wire.aws.model import CBOR, Service
from firelet.wire.aws.query import escape_text
from firelet.wire.aws.serialize import Answer


def format_error(
    error: FireletError, service: Service | None, request_id: str, protocol: str | None = None
) -> Answer:
    """The answer that reports ``error`` in the protocol of the call, else in that of the service;
    REST-JSON without a service."""
    spoken = protocol or (None if service is None else service.protocol)
    if service is not None and spoken == "query":
        answer = _format_xml(error, service, request_id)
    elif service is not None and spoken == "json":
        answer = _format_json_rpc(error, service)
    elif service is not None and spoken == CBOR:
        answer = _format_cbor(error, service)
    else:
        answer = _format_rest(error)
    for name, value in error.headers.items():
        answer.headers[name.lower()] = value
    return answer


def _format_rest(error: FireletError) -> Answer:
    # Shapes differ in the spelling of the message member: clients find it under either.
    body = {"Type": error.fault, "message": error.message, "Message": error.message}
    return Answer(
        error.status,
        orjson.dumps(body | dict(error.fields)),
        {"content-type": "application/json", "x-amzn-errortype": error.code},
    )


def _format_json_rpc(error: FireletError, service: Service) -> Answer:
    body, headers = _name_rpc(error, service)
    headers["content-type"] = f"application/x-amz-json-{service.json_version}"
    return Answer(_rpc_status(error), orjson.dumps(body), headers)


def _format_cbor(error: FireletError, service: Service) -> Answer:
    body, headers = _name_rpc(error, service)
    return Answer(_rpc_status(error), cbor2.dumps(body), headers | CBOR_HEADERS)


def _rpc_status(error: FireletError) -> int:
    """In these protocols every fault of the caller is a 400."""
    return 400 if 400 <= error.status < 500 and error.status != 413 else error.status


def _name_rpc(error: FireletError, service: Service) -> tuple[dict[str, str], dict[str, str]]:
    """Body and headers. A service that once spoke the query protocol only names its errors by
    their shapes now, and keeps the old codes in a header for those who look for them.

    Source: https://smithy.io/2.0/aws/protocols/aws-query-protocol.html#awsquerycompatible-trait
    """
    headers = {}
    name = error.code
    if service.is_query_compatible:
        name = service.error_names.get(error.code, error.code)
        fault = "Sender" if error.status < 500 else "Receiver"
        headers["x-amzn-query-error"] = f"{error.code};{fault}"
    headers["x-amzn-errortype"] = name
    body = {"__type": name, "message": error.message, "Message": error.message}
    return body | dict(error.fields), headers


def _format_xml(error: FireletError, service: Service, request_id: str) -> Answer:
    fault = "Sender" if error.status < 500 else "Receiver"
    fields = "".join(
        f"<{name}>{escape_text(str(value))}</{name}>" for name, value in error.fields.items()
    )
    body = (
        f'<ErrorResponse xmlns="{service.xml_namespace}"><Error><Type>{fault}</Type>'
        f"<Code>{escape_text(error.code)}</Code><Message>{escape_text(error.message)}</Message>"
        f"{fields}</Error><RequestId>{escape_text(request_id)}</RequestId></ErrorResponse>"
    )
    return Answer(error.status, body.encode(), {"content-type": "text/xml"})
