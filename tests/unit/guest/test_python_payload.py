"""Events in, results out: the rules of AWS's Python client."""

from __future__ import annotations

import collections
import decimal
import enum
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.guest.python_fault import Fault
from firelet.guest.python_payload import ResultFormatter, parse_event

Point = collections.namedtuple("Point", "x y")


class Colour(enum.StrEnum):
    RED = "red"


SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=4)
    | st.decimals()
    | st.sampled_from(Colour)
    | st.builds(object)
    | st.frozensets(st.integers(), max_size=1)
)
KEYS = (
    st.text()
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.binary(max_size=2)
    | st.tuples(st.integers())
)
VALUES = st.recursive(
    SCALARS,
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children, children)
        | st.builds(Point, children, children)
        | st.dictionaries(KEYS, children, max_size=3)
        | st.builds(collections.OrderedDict, st.dictionaries(KEYS, children, max_size=3))
    ),
    max_leaves=8,
)


def outcome(format_result: Any, value: object) -> object:
    try:
        body, content_type = format_result(value)
    except Exception as error:
        return getattr(error, "error_type", None) or getattr(error, "exception_type", None), (
            getattr(error, "message", None) or getattr(error, "msg", None)
        )
    if isinstance(body, str):
        # Text that has no UTF-8 form ends AWS's client; here it is an error like any other.
        try:
            body = body.encode()
        except UnicodeEncodeError as error:
            return "Runtime.MarshalError", f"Unable to marshal response: {error}"
    if isinstance(content_type, bytes):
        content_type = content_type.decode()
    return body, content_type


@pytest.mark.parametrize("environment", ["AWS_Lambda_python3.11", "AWS_Lambda_python3.13"])
def test_any_value_is_formatted_as_by_awss_client(
    environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marshaller = pytest.importorskip("awslambdaric.lambda_runtime_marshaller")
    monkeypatch.setitem(os.environ, "AWS_EXECUTION_ENV", environment)
    official = marshaller.LambdaMarshaller()
    ours = ResultFormatter(environment)

    @given(VALUES)
    def check(value: object) -> None:
        assert outcome(ours.format_result, value) == outcome(official.marshal_response, value)

    check()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=9))
def test_what_is_formatted_can_be_parsed_again(value: object) -> None:
    body, _ = ResultFormatter("").format_result(value)
    assert parse_event(body, "application/json") == value
    assert json.loads(body) == value


def test_an_event_that_is_not_declared_to_be_json_stays_bytes() -> None:
    assert parse_event(b"\x00", "application/octet-stream") == b"\x00"
    assert parse_event(b"{}", None) == b"{}"


def test_a_broken_event_is_a_fault_of_the_runtime() -> None:
    with pytest.raises(Fault) as caught:
        parse_event(b"{", "application/json")
    assert caught.value.error_type == "Runtime.UnmarshalError"
    assert caught.value.message.startswith("Unable to unmarshal input: ")


def test_decimals_keep_all_their_digits() -> None:
    body, _ = ResultFormatter("").format_result({"price": decimal.Decimal("19.90")})
    assert body == b'{"price": 19.90}'
