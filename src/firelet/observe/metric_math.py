"""Metric math: arithmetic over the values of metrics, minute by minute.

What it is: numbers, ids of other queries, the four operations, and the functions whose meaning is
one value per minute. What it is not: searches, anomaly bands, or time series of strings.
Source: CloudWatch user guide, "Using math expressions with CloudWatch metrics".
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from itertools import pairwise

Values = Mapping[int, float]  # by the epoch second at which the period begins
_Operand = Values | float

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FOLDS: dict[str, Callable[[list[float]], float]] = {
    "SUM": sum,
    "MIN": min,
    "MAX": max,
    "AVG": lambda values: sum(values) / len(values),
}


class MathError(ValueError):
    """An expression that cannot be evaluated. The message is for the caller."""


def evaluate(
    name: str,
    expressions: Mapping[str, str],
    known: dict[str, Values],
    asked: tuple[str, ...] = (),
) -> Values:
    """The values of the expression with that id, which may refer to others. MathError.

    What has been worked out is added to ``known``: an id that is named twice must not cost twice.
    """
    if name in known:
        return known[name]
    if name in asked or name not in expressions:
        raise MathError(f"Error in expression: the id {name} cannot be resolved.")

    def find(other: str) -> Values:
        return evaluate(other, expressions, known, (*asked, name))

    try:
        tree = ast.parse(expressions[name], mode="eval").body
        value = _Evaluation(name, find).value(tree)
    except (SyntaxError, RecursionError, MemoryError):
        raise MathError(f"Error in expression '{name}': invalid syntax") from None
    if isinstance(value, float):
        raise MathError(f"Error in expression '{name}': the result is not a time series")
    known[name] = value
    return value


class _Evaluation:
    """One expression. ``find`` gives the values of other ids."""

    def __init__(self, name: str, find: Callable[[str], Values]) -> None:
        self._name = name
        self._find = find

    def value(self, node: ast.expr) -> _Operand:
        match node:
            case ast.Constant(value=bool()):
                raise self._unsupported()
            case ast.Constant(value=int() | float() as number):
                return float(number)
            case ast.Name(id=name):
                return self._find(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _combine(operator.sub, 0.0, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _combine(_OPERATORS[type(op)], self.value(left), self.value(right))
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
        raise self._unsupported()

    def _call(self, name: str, arguments: list[ast.expr]) -> _Operand:
        match name, arguments:
            case "FILL", [series, number]:
                return _fill(self._series(series), self.value(number))
            case fold, [ast.List(elts=items) | ast.Tuple(elts=items)] if fold in _FOLDS and items:
                return _fold_across(_FOLDS[fold], [self._series(item) for item in items])
            case fold, [item] if fold in _FOLDS:
                values = list(self._series(item).values())
                return _FOLDS[fold](values) if values else 0.0
        raise self._unsupported()

    def _series(self, node: ast.expr) -> Values:
        value = self.value(node)
        if isinstance(value, float):
            raise self._unsupported()
        return value

    def _unsupported(self) -> MathError:
        return MathError(f"Error in expression '{self._name}': it is not supported")


def _combine(
    operation: Callable[[float, float], float], left: _Operand, right: _Operand
) -> _Operand:
    """Only where both have a value, and never where the divisor is zero."""
    if isinstance(left, float) and isinstance(right, float):
        try:
            return operation(left, right)
        except ZeroDivisionError:
            return {}
    if isinstance(left, float):
        assert not isinstance(right, float)
        left = dict.fromkeys(right, left)
    elif isinstance(right, float):
        right = dict.fromkeys(left, right)
    result = {}
    for moment, value in left.items():
        if moment in right:
            try:
                result[moment] = operation(value, right[moment])
            except ZeroDivisionError:
                continue
    return result


def _fold_across(fold: Callable[[list[float]], float], series: list[Values]) -> Values:
    moments = {moment for values in series for moment in values}
    return {moment: fold([v[moment] for v in series if moment in v]) for moment in moments}


def _fill(series: Values, filler: _Operand) -> Values:
    """Values for the minutes between the first and the last that have none."""
    if not isinstance(filler, float) or len(series) < 2:
        return series
    moments = sorted(series)
    step = min(later - earlier for earlier, later in pairwise(moments))
    return {m: series.get(m, filler) for m in range(moments[0], moments[-1] + 1, step)}
