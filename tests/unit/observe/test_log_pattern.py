"""Filter patterns: the examples of the guide, and no text that breaks them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_pattern import parse_filter_pattern
from firelet.observe.log_pattern_fields import split_fields

EVENT = """{
  "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111", "arrayKey": ["value", "other"],
  "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2.5}], "latency": 50, "big": 1e3,
  "user": {"id": 1, "email": "John.Doe@example.com", "deleted": null}, "ok": true, "bad": false,
  "odd name": "x", "number-text": "400"
}"""

WEB = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'


@pytest.mark.parametrize(
    ("pattern", "message", "is_met"),
    [
        ("", "anything", True),
        ("   ", "anything", True),
        ("ERROR", "[ERROR 400] BAD REQUEST", True),
        ("ERROR", "[error 400]", False),
        ("ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", True),
        ("ERROR ARGUMENTS", "[ERROR 400] BAD REQUEST", False),
        ("?ERROR ?ARGUMENTS", "MISSING ARGUMENTS", True),
        ("?ERROR ?ARGUMENTS", "fine", False),
        ('"INTERNAL SERVER ERROR"', "[ERROR 500] INTERNAL SERVER ERROR", True),
        ('"INTERNAL SERVER ERROR"', "INTERNAL ERROR SERVER", False),
        ("ERROR -ARGUMENTS", "[ERROR 400] BAD REQUEST", True),
        ("ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", False),
        ("-ERROR", "fine", True),
        ('-"not this" this', "just this", True),
        ("?ERROR INFO", "INFO", True),
        ("?ERROR INFO", "ERROR", False),
        (r'"say \"hi\" \\ now"', 'say "hi" \\ now', True),
        ("%AUTHORIZED%", "UNAUTHORIZED", True),
        ("%[0-9]{3}% -%40[0-9]%", "code 500", True),
        ("%[0-9]{3}% -%40[0-9]%", "code 404", False),
    ],
)
def test_terms(pattern: str, message: str, is_met: bool) -> None:
    assert parse_filter_pattern(pattern)(message) is is_met


@pytest.mark.parametrize(
    ("condition", "is_met"),
    [
        ('$.eventType = "UpdateTrail"', True),
        ("$.eventType = UpdateTrail", True),
        ('$.eventType = "*Trail"', True),
        ("$.eventType = Update*", True),
        ("$.eventType = *date*", True),
        ("$.eventType = *", True),
        ('$.eventType = "Update"', False),
        ("$.eventType != %^Delete%", True),
        ("$.eventType = %Trail$%", True),
        ("$.sourceIPAddress != 123.123.*", True),
        ("$.sourceIPAddress = 111.111.*", True),
        ('$.arrayKey[0] = "value"', True),
        ('$.arrayKey[2] = "value"', False),
        ('$.arrayKey[*] = "other"', True),
        ("$.objectList[1].id = 2.5", True),
        ('$.objectList[*].name = "b"', True),
        ("$.latency > 49", True),
        ("$.latency >= 50 && $.latency <= 50.0", True),
        ("$.latency < 5e1", False),
        ("$.latency != 50", False),
        ("$.big = 1000", True),
        ("$.eventType > 5", False),
        ("$.number-text = 400", True),
        ("$.number-text > 399", False),
        ("$.user.deleted IS NULL", True),
        ("$.user.id IS NULL", False),
        ("$.ok IS TRUE", True),
        ("$.bad is false", True),
        ("$.ok IS FALSE", False),
        ("$.nothing NOT EXISTS", True),
        ("$.user NOT EXISTS", False),
        ("$.user EXISTS", True),
        ("$.nothing = *", False),
        ("$.nothing != x", False),
        ("$.user = *", False),
        ('$["odd name"] = x', True),
        ('$.["odd name"] = x', True),
        ('($.user.id = 1) && ($.user.email = "John.Doe@example.com")', True),
        ("$.latency = 1 || $.latency = 50 && $.ok IS TRUE", True),
        ("($.latency = 1 || $.latency = 50) && $.ok IS FALSE", False),
    ],
)
def test_json(condition: str, is_met: bool) -> None:
    assert parse_filter_pattern("{ " + condition + " }")(EVENT) is is_met
    assert parse_filter_pattern("{" + condition + "}")(EVENT) is is_met


@pytest.mark.parametrize("message", ["text", '"text"', "[1]", "{broken", "", "{" * 5_000])
def test_a_json_pattern_is_not_met_by_what_is_no_object(message: str) -> None:
    assert not parse_filter_pattern("{ $.a NOT EXISTS }")(message)


@pytest.mark.parametrize(
    ("pattern", "is_met"),
    [
        ("[ip, id, user, timestamp, request, status_code, size]", True),
        ("[ip, id, user, timestamp, request, status_code]", False),
        ("[ip, id, user, timestamp, request, status_code, size, more]", False),
        ("[..., size]", True),
        ("[ip, ...]", True),
        ("[...]", True),
        ("[ip=127.*, ..., status_code = 4*, bytes > 1000]", True),
        ("[ip=127.*, ..., status_code = 5*, bytes > 1000]", False),
        ("[ip, id, user, timestamp, request = *html*, status_code = 4*, bytes]", True),
        ("[..., status_code=404 || status_code=410, bytes]", True),
        ("[..., status_code!=404 && status_code!=410, bytes]", False),
        ("[ip=%127\\.0\\.0\\.[1-9]%, ...]", True),
        ('[ip, id, user="frank", ...]', True),
        ("[..., =404, >= 1534]", True),
        ("[*, ...]", True),
        ("[..., bytes > 1534]", False),
        ("[..., user > 1, a, b, c, d]", False),
    ],
)
def test_fields(pattern: str, is_met: bool) -> None:
    assert parse_filter_pattern(pattern)(WEB) is is_met


def test_quotes_and_brackets_keep_a_field_together() -> None:
    assert split_fields(WEB) == [
        "127.0.0.1",
        "Prod",
        "frank",
        "10/Oct/2000:13:25:15 -0700",
        "GET /index.html HTTP/1.0",
        "404",
        "1534",
    ]
    assert split_fields('a "" [] "open') == ["a", "", "", '"open']


@pytest.mark.parametrize(
    "pattern",
    [
        "email@domain.com",
        '"open',
        "-",
        "?",
        "%open",
        "%a% %b% %c%",
        "{ }",
        "{ $.a }",
        "{ $ = 1 }",
        "{ $.a = }",
        "{ $.a > x }",
        "{ $.a > %x% }",
        "{ $.a IS 5 }",
        "{ $.a NOT 5 }",
        "{ $.a[x] = 1 }",
        "{ $.a = 1 && }",
        "{ ($.a = 1 }",
        "{ $.a = 1 } }",
        "{ " + "(" * 200 + "$.a = 1" + ")" * 200 + " }",
        "[]",
        "[a b]",
        "[..., ...]",
        "[a=]",
    ],
)
def test_what_is_no_pattern_is_an_invalid_parameter(pattern: str) -> None:
    with pytest.raises(InvalidLogParameter, match="Invalid filter pattern"):
        parse_filter_pattern(pattern)


@pytest.mark.parametrize(("pattern", "closing"), [("{ $.a = 1", "}"), ("[a, b", "]")])
def test_a_pattern_that_is_not_closed_says_what_is_missing(pattern: str, closing: str) -> None:
    with pytest.raises(InvalidLogParameter, match=f"it must end with '{closing}'"):
        parse_filter_pattern(pattern)


OPERATORS = ["{", "}", "[", "]", "$", ".", "=", "!=", ">", '"', "%", "&&", "||", "(", ")", "*", "?"]
WORDS = ["a", "5", "IS", "NULL", "NOT", "EXISTS", "...", ",", "-", "\\", "[0]", "é", "$.a=1", " "]
PIECES = st.sampled_from(OPERATORS + WORDS)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=25).map(" ".join))


@given(
    st.one_of(TEXTS, TEXTS.map(lambda text: "{" + text + "}"), TEXTS.map(lambda t: f"[{t}]")),
    st.one_of(TEXTS, st.just(EVENT), st.just(WEB)),
)
def test_any_text_is_a_pattern_or_an_invalid_parameter(pattern: str, message: str) -> None:
    try:
        matches = parse_filter_pattern(pattern)
    except InvalidLogParameter:
        return
    assert isinstance(matches(message), bool)
