"""Our parsers and serialisers against botocore's, with random values for every operation.

Whatever botocore sends, we must read back; whatever we send, botocore must read back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.loaders import Loader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firelet.wire.aws.model import DEFAULT_SERVICES, load_services
from firelet.wire.aws.protocol import Protocol
from firelet.wire.aws.route import Route, RouteTable
from firelet.wire.aws.validate import Validator

NAMES = (*DEFAULT_SERVICES, "cloudwatch", "application-autoscaling")
SERVICES = {service.name: service for service in load_services(NAMES)}
TABLE = RouteTable(SERVICES.values())
THEIRS = {
    name: botocore.model.ServiceModel(Loader().load_service_model(name, "service-2"), name)
    for name in NAMES
}
SPOKEN = [(name, protocol) for name in NAMES for protocol in sorted(SERVICES[name].protocols)]
DEPTH = 4

text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
token = st.text("abcXYZ0189-_.:/$@", min_size=1, max_size=8)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": text,
    "integer": st.integers(-(1 << 31), (1 << 31) - 1),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "boolean": st.booleans(),
    "blob": st.binary(max_size=16),
    "timestamp": moments,
}


class NoChecks(Validator):
    """Random values do not keep the model's constraints; here only the parsing counts."""

    def check(self, operation: object, params: object) -> None:
        pass


def draw_value(data: st.DataObject, shape: Any, depth: int = 0) -> Any:
    match shape.type_name:
        case "structure":
            return draw_structure(data, shape, depth)
        case "list":
            count = data.draw(st.integers(0, 2 if depth < DEPTH else 0))
            return [draw_value(data, shape.member, depth + 1) for _ in range(count)]
        case "map":
            keys = data.draw(st.lists(token, max_size=2 if depth < DEPTH else 0, unique=True))
            return {key: draw_value(data, shape.value, depth + 1) for key in keys}
    return data.draw(SCALARS[shape.type_name])


def draw_structure(data: st.DataObject, shape: Any, depth: int) -> dict[str, Any]:
    names = [
        name
        for name, member in shape.members.items()
        if depth < DEPTH or member.type_name not in ("structure", "list", "map")
    ]
    most = 1 if shape.is_tagged_union else 5
    if not names:
        return {}
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=most, unique=True))
    value = {}
    for name in shape.members:
        member = shape.members[name]
        location = member.serialization.get("location")
        if location in ("uri", "header") and member.type_name == "string":
            # A path needs all its labels; HTTP strips blanks around header values.
            if location == "uri" or name in chosen:
                value[name] = data.draw(token)
        elif location == "statusCode":
            value[name] = data.draw(st.sampled_from([200, 201, 202]))
        elif location == "uri" or name in chosen:
            value[name] = draw_value(data, member, depth + 1)
    return value


def without_empty_containers(value: Any) -> Any:
    """What a form can carry: it has no way to say "an empty structure"."""
    if isinstance(value, dict):
        cleaned = {name: without_empty_containers(item) for name, item in value.items()}
        return {name: item for name, item in cleaned.items() if item not in ({}, None)}
    if isinstance(value, list):
        items = [item for item in map(without_empty_containers, value) if item != {}]
        # A list that is empty is sent as such; one of nothing but empty structures is not sent.
        return items if items or not value else {}
    return value


@pytest.mark.parametrize(("name", "spoken"), SPOKEN)
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_botocore_sends_is_what_we_read(name: str, spoken: str, data: st.DataObject) -> None:
    operation = THEIRS[name].operation_model(
        data.draw(st.sampled_from(sorted(SERVICES[name].operations)))
    )
    shape = operation.input_shape
    params = {} if shape is None else draw_structure(data, shape, 0)

    serializer = botocore.serialize.create_serializer(spoken, False)
    asked = serializer.serialize_to_request(params, operation)
    prepare_request_dict(asked, endpoint_url="http://localhost:4566", context={})
    sent = create_request_object(asked).prepare()
    url = urlsplit(sent.url)
    target = (url.path + ("?" + url.query if url.query else "")).encode("ascii")
    headers = {
        key.lower().encode(): item if isinstance(item, bytes) else str(item).encode()
        for key, item in sent.headers.items()
    }
    body = sent.body.encode() if isinstance(sent.body, str) else bytes(sent.body or b"")

    route = TABLE.find(sent.method.encode(), target, headers, body)
    protocol = Protocol(NoChecks())
    read = protocol.parse(route, url.query.encode("ascii"), headers, body)

    assert (route.operation.name, route.protocol) == (operation.name, spoken)
    if spoken == "query":
        params = without_empty_containers(params)
    elif spoken == "rest-json":
        params, read = as_rest_sends(operation, params), as_rest_sends(operation, read)
    assert read == params


def as_rest_sends(operation: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what has no form of its own: empty query lists and empty payloads."""
    members = {} if operation.input_shape is None else operation.input_shape.members
    payload = operation.input_shape and operation.input_shape.serialization.get("payload")
    return {
        name: value
        for name, value in params.items()
        if not (members[name].serialization.get("location") == "querystring" and value == [])
        and not (name == payload and value in (b"", {}))
    }


@pytest.mark.parametrize(("name", "spoken"), SPOKEN)
@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_we_answer_is_what_botocore_reads(name: str, spoken: str, data: st.DataObject) -> None:
    names = [o.name for o in SERVICES[name].operations.values() if not has_event_stream(o)]
    operation = THEIRS[name].operation_model(data.draw(st.sampled_from(sorted(names))))
    shape = operation.output_shape
    output = {} if shape is None else draw_structure(data, shape, 0)

    route = Route(SERVICES[name].operations[operation.name], spoken)
    answer = Protocol(Validator(), is_strict=True).format(route, output, "request-1")
    payload = None if shape is None else shape.serialization.get("payload")
    is_raw = payload is not None and shape.members[payload].type_name == "blob"
    parser = botocore.parsers.create_parser(spoken)
    read = parser.parse(
        {
            "status_code": answer.status,
            "headers": HeadersDict(answer.headers),
            "body": b"" if is_raw else answer.body,
            "context": {"operation_name": operation.name},
        },
        shape,
    )
    del read["ResponseMetadata"]

    if is_raw:
        # botocore's client takes a raw body from the socket; its parser would decode it as text.
        del read[payload]
        assert answer.body == output.pop(payload, b"")
    assert read == output


def has_event_stream(operation: Any) -> bool:
    members = {} if operation.output is None else operation.output.members
    return any(member.shape.is_eventstream for member in members.values())
