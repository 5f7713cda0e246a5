"""Arithmetic over metrics: what is evaluated, and what is refused."""

from __future__ import annotations

import pytest

from firelet.observe.metric_math import MathError, Values, evaluate

KNOWN: dict[str, Values] = {
    "errors": {0: 1.0, 60: 4.0},
    "calls": {0: 10.0, 60: 8.0, 120: 5.0},
    "gaps": {0: 1.0, 60: 1.0, 180: 1.0},
    "none": {},
}


def result(expression: str, **others: str) -> Values:
    return evaluate("e", {"e": expression, **others}, dict(KNOWN))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("100 * errors / calls", {0: 10.0, 60: 50.0}),
        ("calls - -errors", {0: 11.0, 60: 12.0}),
        ("SUM([errors, calls])", {0: 11.0, 60: 12.0, 120: 5.0}),
        ("MAX([errors, calls])", {0: 10.0, 60: 8.0, 120: 5.0}),
        ("calls * 0 + SUM(errors)", {0: 5.0, 60: 5.0, 120: 5.0}),
        ("calls / (calls - 10)", {60: -4.0, 120: -1.0}),
        ("FILL(gaps, 0)", {0: 1.0, 60: 1.0, 120: 0.0, 180: 1.0}),
        ("none + 1", {}),
    ],
)
def test_an_expression_has_a_value_wherever_its_metrics_have(
    expression: str, expected: Values
) -> None:
    assert result(expression) == expected


def test_expressions_refer_to_each_other_once() -> None:
    chain = {f"x{number}": f"x{number - 1} + x{number - 1}" for number in range(1, 60)}
    assert result("x59", **chain, x0="errors")[0] == 2.0**59


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "unknown",
        "e",
        "2 + 3",
        "errors ** 2",
        "__import__('os')",
        "errors.real",
        "'text'",
        "True * errors",
        "SEARCH('x', 'Sum')",
        "-" * 2_000 + "errors",
    ],
)
def test_what_is_no_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(MathError):
        result(expression)


def test_a_circle_is_refused() -> None:
    with pytest.raises(MathError, match="cannot be resolved"):
        result("a", a="b", b="a")
