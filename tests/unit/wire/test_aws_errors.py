"""Errors of a service that speaks three protocols, in each of them."""

from __future__ import annotations

import botocore.model
import botocore.parsers
import cbor2
import pytest
from botocore.awsrequest import HeadersDict
from botocore.loaders import Loader

from firelet.model.errors import CallerError, SerializationError
from firelet.wire.aws.errors import format_error
from firelet.wire.aws.model import CBOR, load_services
from firelet.wire.aws.protocol import Protocol
from firelet.wire.aws.route import RouteTable
from firelet.wire.aws.validate import Validator

[SERVICE] = load_services(["cloudwatch"])
THEIRS = botocore.model.ServiceModel(Loader().load_service_model("cloudwatch", "service-2"))
RPC = b"/service/GraniteServiceVersion20100801/operation/ListMetrics"
HEADERS = {b"smithy-protocol": b"rpc-v2-cbor"}


@pytest.mark.parametrize("protocol", ["json", "query", CBOR])
def test_botocore_reads_the_code_of_the_query_protocol(protocol: str) -> None:
    error = CallerError("No.", code="InvalidParameterValue", status=400)
    answer = format_error(error, SERVICE, "request-1", protocol)
    read = botocore.parsers.create_parser(protocol).parse(
        {
            "status_code": answer.status,
            "headers": HeadersDict(answer.headers),
            "body": answer.body,
            "context": {"operation_name": "ListMetrics"},
        },
        THEIRS.operation_model("ListMetrics").output_shape,
    )
    assert (read["Error"]["Code"], read["Error"]["Message"]) == ("InvalidParameterValue", "No.")


def test_the_body_names_the_shape_of_the_error() -> None:
    error = CallerError("No.", code="InvalidParameterValue", status=400)
    body = cbor2.loads(format_error(error, SERVICE, "request-1", CBOR).body)
    assert body["__type"] == "InvalidParameterValueException"


@pytest.mark.parametrize(
    "body", [b"\xff", b"\x81" * 10_000, b"\xa1", b"\x01", b"\x80", b"\xa1\x69Namespace\x01"]
)
def test_what_is_no_cbor_structure_is_refused(body: bytes) -> None:
    route = RouteTable([SERVICE]).find(b"POST", RPC, HEADERS, body)
    with pytest.raises(SerializationError):
        Protocol(Validator()).parse(route, b"", HEADERS, body)
