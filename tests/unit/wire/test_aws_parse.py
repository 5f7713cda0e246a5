"""Parsing beyond what boto3 sends: rare traits, and input from clients that are not boto3."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.model.errors import SerializationError
from firelet.wire.aws.model import Operation, Service, Shape, load_services
from firelet.wire.aws.parse import parse_json, parse_rest, read_json
from firelet.wire.aws.protocol import Protocol
from firelet.wire.aws.query import format_xml, parse_form
from firelet.wire.aws.route import Route
from firelet.wire.aws.scalars import format_text, parse_text
from firelet.wire.aws.serialize import OutputMismatch, find_unknown, format_rest
from firelet.wire.aws.validate import Validator

SERVICES = {service.name: service for service in load_services()}

SHAPES: dict[str, Any] = {
    "Text": {"type": "string"},
    "Flag": {"type": "boolean"},
    "Count": {"type": "integer"},
    "Ratio": {"type": "double"},
    "Moment": {"type": "timestamp"},
    "Bytes": {"type": "blob"},
    "Texts": {"type": "list", "member": {"shape": "Text"}},
    "TextMap": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Text"}},
    "TextsMap": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Texts"}},
    "FlatTexts": {
        "type": "list",
        "member": {"shape": "Text", "locationName": "Item"},
        "flattened": True,
    },
    "Inner": {"type": "structure", "members": {"Known": {"shape": "Text"}}},
    "Inners": {"type": "list", "member": {"shape": "Inner"}},
    "InnerMap": {"type": "map", "key": {"shape": "Text"}, "value": {"shape": "Inner"}},
    "FlatMap": {
        "type": "map",
        "key": {"shape": "Text", "locationName": "Name"},
        "value": {"shape": "Text", "locationName": "Value"},
        "flattened": True,
    },
}


def operation(members: dict[str, Any], protocol: str = "rest-json", **traits: Any) -> Operation:
    service = Service(
        "test",
        {
            "metadata": {"protocol": protocol, "apiVersion": "1", "endpointPrefix": "test"},
            "operations": {
                "Do": {
                    "http": {"method": "POST", "requestUri": "/"},
                    "input": {"shape": "Both"},
                    "output": {"shape": "Both", "resultWrapper": "DoResult"},
                }
            },
            "shapes": SHAPES | {"Both": {"type": "structure", "members": members, **traits}},
        },
    )
    return service.operations["Do"]


def scalar(name: str) -> Shape:
    return operation({}).service.shape(name)


def test_headers_are_read_by_name_list_and_prefix() -> None:
    do = operation(
        {
            "When": {"shape": "Moment", "location": "header", "locationName": "X-When"},
            "Many": {"shape": "Texts", "location": "header", "locationName": "X-Many"},
            "Meta": {"shape": "TextMap", "location": "headers", "locationName": "X-Meta-"},
        }
    )
    headers = {
        b"x-when": b"Tue, 24 Nov 2026 07:00:00 GMT",
        b"x-many": b"a, b",
        b"x-meta-one": b"1",
        b"host": b"h",
    }
    assert parse_rest(do, {}, b"", headers, b"") == {
        "When": datetime(2026, 11, 24, 7, tzinfo=UTC),
        "Many": ["a", "b"],
        "Meta": {"one": "1"},
    }
    assert parse_rest(do, {}, b"", {}, b"") == {}


def test_a_query_string_may_carry_a_whole_map() -> None:
    one = operation({"All": {"shape": "TextMap", "location": "querystring"}})
    many = operation({"All": {"shape": "TextsMap", "location": "querystring"}})
    assert parse_rest(one, {}, b"a=1&b=x%20y", {}, b"") == {"All": {"a": "1", "b": "x y"}}
    assert parse_rest(many, {}, b"a=1&a=2", {}, b"") == {"All": {"a": ["1", "2"]}}


def test_a_payload_may_be_text() -> None:
    do = operation({"Body": {"shape": "Text"}}, payload="Body")
    assert parse_rest(do, {}, b"", {}, "größe".encode()) == {"Body": "größe"}
    assert format_rest(do, {"Body": "größe"}, []).body == "größe".encode()


def test_flattened_lists_and_maps_of_forms_have_no_wrapper() -> None:
    do = operation({"List": {"shape": "FlatTexts"}, "Map": {"shape": "FlatMap"}}, "query")
    form = {"Item.2": "b", "Item.1": "a", "Map.1.Name": "k", "Map.1.Value": "v"}
    params = {"List": ["a", "b"], "Map": {"k": "v"}}
    assert parse_form(do, form) == params
    assert format_xml(do, params, "r").decode() == (
        '<DoResponse xmlns=""><DoResult><Item>a</Item><Item>b</Item>'
        "<Map><Name>k</Name><Value>v</Value></Map></DoResult>"
        "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></DoResponse>"
    )


def test_entries_of_a_form_are_ordered_by_number_and_may_have_gaps() -> None:
    do = operation({"List": {"shape": "Texts"}}, "query")
    form = {"List.member.10": "c", "List.member.2": "b", "List.member.x": "no", "Other": "1"}
    assert parse_form(do, form) == {"List": ["b", "c"]}


def test_text_that_xml_cannot_carry_is_replaced() -> None:
    do = operation({"Text": {"shape": "Text"}}, "query")
    assert b"<Text>a\xef\xbf\xbdb&#xD;</Text>" in format_xml(do, {"Text": "a\x00b\r"}, "r")


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T07:00:00Z",
        "2026-11-24T08:00:00+01:00",
        "2026-11-24T07:00:00",
        "Tue, 24 Nov 2026 07:00:00 GMT",
        "1795503600",
        "1795503600.0",
    ],
)
def test_a_timestamp_is_read_in_any_format(text: str) -> None:
    assert parse_text(scalar("Moment"), text) == datetime(2026, 11, 24, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("Count", "x"),
        ("Count", "1.5"),
        ("Count", "9" * 5_000),
        ("Count", str(1 << 31)),
        ("Ratio", "nan"),
        ("Ratio", "inf"),
        ("Flag", "maybe"),
        ("Moment", "yesterday"),
        ("Moment", "1e300"),
        ("Moment", "nan"),
        ("Moment", "0001-01-01T00:00:00+23:00"),
        ("Bytes", "ä"),
        ("Bytes", "AAA"),
    ],
)
def test_text_that_is_not_of_the_type_is_refused(shape: str, text: str) -> None:
    with pytest.raises(SerializationError, match="_VALUE can not be converted to"):
        parse_text(scalar(shape), text)


def test_nulls_are_dropped_where_a_list_takes_them() -> None:
    lists = SERVICES["lambda"]
    assert read_json(lists.shape("SubnetIds"), ["subnet-1", None]) == ["subnet-1"]
    assert read_json(lists.shape("ArchitecturesList"), [None]) == [None]


@pytest.mark.parametrize(
    ("shape", "value"),
    [("Text", 1), ("Flag", "true"), ("Count", "1"), ("Bytes", "text"), ("Moment", "now")],
)
def test_an_output_of_a_wrong_type_is_our_own_fault(shape: str, value: object) -> None:
    with pytest.raises(TypeError):
        format_text(scalar(shape), value, "iso8601")


@pytest.mark.parametrize("protocol", ["rest-json", "json", "query"])
@pytest.mark.parametrize("shape", ["Texts", "TextMap"])
def test_an_output_that_is_not_a_container_is_our_own_fault(shape: str, protocol: str) -> None:
    route = Route(operation({"Member": {"shape": shape}}, protocol), protocol)
    with pytest.raises(OutputMismatch):
        Protocol(Validator()).format(route, {"Member": "text"}, "r")


def test_members_that_an_output_lacks_are_named_by_path() -> None:
    shape = SERVICES["iam"].operations["ListRoles"].output
    assert shape is not None
    output = {"Roles": [{"RoleName": "r", "Color": "red"}], "Extra": None}
    assert find_unknown(shape, output) == ["Roles.Color", "Extra"]


@pytest.mark.parametrize(
    ("protocol", "members", "traits", "output"),
    [
        ("rest-json", {"In": {"shape": "Inner"}}, {}, {"In": {"Color": "red"}}),
        ("json", {"In": {"shape": "Inner"}}, {}, {"In": {"Color": None}}),
        ("query", {"In": {"shape": "Inner"}}, {}, {"In": {"Color": "red"}}),
        ("rest-json", {"In": {"shape": "Inners"}}, {}, {"In": [{}, {"Color": "red"}]}),
        ("json", {"In": {"shape": "InnerMap"}}, {}, {"In": {"a": {"Color": "red"}}}),
        ("rest-json", {"In": {"shape": "Inner"}}, {"payload": "In"}, {"In": {"Color": "red"}}),
        ("rest-json", {"In": {"shape": "Inner"}}, {"payload": "In"}, {"In": {}, "Color": "red"}),
        ("rest-json", {"In": {"shape": "Text", "location": "header"}}, {}, {"Color": "red"}),
    ],
)
def test_members_that_an_output_lacks_are_found_wherever_they_are(
    protocol: str,
    members: dict[str, Any],
    traits: dict[str, Any],
    output: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    route = Route(operation(members, protocol, **traits), protocol)
    with pytest.raises(OutputMismatch, match=r"Do has no output members (In\.)?Color$"):
        Protocol(Validator(), is_strict=True).format(route, output, "r")
    answer = Protocol(Validator()).format(route, output, "r")
    assert b"Color" not in answer.body
    (said,) = caplog.messages
    assert said.endswith("Color")


def test_what_an_operation_without_an_output_answers_is_found() -> None:
    do = SERVICES["lambda"].operations["DeleteAlias"]
    with pytest.raises(OutputMismatch, match="DeleteAlias has no output members Extra"):
        Protocol(Validator(), is_strict=True).format(Route(do, "rest-json"), {"Extra": 1}, "r")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(data=st.data())
@settings(deadline=None)
def test_any_json_is_read_or_refused(data: st.DataObject) -> None:
    do = SERVICES["lambda"].operations["CreateFunction"]
    names = st.sampled_from(sorted(do.input.members)) if do.input else st.nothing()
    body = orjson.dumps(data.draw(st.dictionaries(names, json_values, max_size=6)))
    with suppress(SerializationError):
        parse_json(do, body)


@given(form=st.dictionaries(st.text("Tagsmember.123KeyValue", max_size=30), st.text(), max_size=8))
def test_any_form_is_read_or_refused(form: dict[str, str]) -> None:
    with suppress(SerializationError):
        parse_form(SERVICES["iam"].operations["CreateRole"], form)
