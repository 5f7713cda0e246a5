"""Every form in which callers name a function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.arn import FunctionRef, format_function_arn, parse_function_ref
from firelet.model.errors import InvalidParameterValue

ACCOUNT = "123456789012"
REGION = "us-east-1"
names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
qualifiers = st.none() | st.just("$LATEST") | st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)


@given(names, qualifiers)
def test_what_is_written_as_an_arn_is_read_back(name: str, qualifier: str | None) -> None:
    arn = format_function_arn(REGION, ACCOUNT, name, qualifier)
    assert parse_function_ref(arn) == FunctionRef(name, qualifier, ACCOUNT, REGION)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("f", FunctionRef("f")),
        ("f:live", FunctionRef("f", "live")),
        ("f:$LATEST", FunctionRef("f", "$LATEST")),
        ("f:function", FunctionRef("f", "function")),
        ("function:f", FunctionRef("f")),
        ("function:f:7", FunctionRef("f", "7")),
        (f"{ACCOUNT}:function:f", FunctionRef("f", None, ACCOUNT)),
        (f"{ACCOUNT}:function:f:live", FunctionRef("f", "live", ACCOUNT)),
        (f"{ACCOUNT}:f", FunctionRef("f", None, ACCOUNT)),
        (f"{REGION}:{ACCOUNT}:function:f", FunctionRef("f", None, ACCOUNT, REGION)),
        ("us-gov-west-1:function:f", FunctionRef("f", None, None, "us-gov-west-1")),
        ("eusc-de-east-1:function:f", FunctionRef("f", None, None, "eusc-de-east-1")),
        (ACCOUNT, FunctionRef(ACCOUNT)),
    ],
)
def test_the_parts_that_are_left_out_are_left_open(text: str, ref: FunctionRef) -> None:
    assert parse_function_ref(text) == ref


@pytest.mark.parametrize(
    "text", ["a:b:c", "arn:aws:s3:::bucket", f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:x:1", "f:"]
)
def test_what_names_no_function_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValue):
        parse_function_ref(text)


@given(names, qualifiers, qualifiers)
def test_a_separate_qualifier_must_agree(
    name: str, inner: str | None, separate: str | None
) -> None:
    ref = FunctionRef(name, inner)
    if None not in (inner, separate) and inner != separate:
        with pytest.raises(InvalidParameterValue, match="does not match the specified qualifier"):
            ref.with_qualifier(separate)
    else:
        assert ref.with_qualifier(separate).qualifier == (separate or inner)
