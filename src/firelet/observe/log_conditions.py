"""Conditions: what the JSON and the space-delimited filter patterns have in common.

What it is: the text of a pattern with a place in it, values with wildcards, comparisons, and
expressions of ``&&``, ``||`` and parentheses. What it is not: knowledge of what is compared; the
two grammars bring their own way from a log event to the ``Field`` that a condition looks at. Pure;
called by ``log_pattern_json`` and ``log_pattern_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_regex import Regex

# Source: AWS guide, "Filter pattern syntax", quotas.
REGEX_MAX = 2
_DEPTH_MAX = 50  # of parentheses, far from the depth of Python's stack (firelet)

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">")

Subject = TypeVar("Subject")
Test = Callable[[Subject], bool]


@dataclass(frozen=True, slots=True)
class Field:
    """What a condition looks at: its text, and its number if it is one."""

    text: str
    number: float | None = None


class PatternText:
    """The text of a pattern and the place up to which it was read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._regexes = 0

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._text)

    def skip_blanks(self) -> None:
        while not self.is_at_end and self._text[self._at].isspace():
            self._at += 1

    def take(self, token: str) -> bool:
        """Reads ``token`` if it comes next, after blanks."""
        self.skip_blanks()
        return self.take_here(token)

    def take_here(self, token: str) -> bool:
        """Reads ``token`` if it comes next."""
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def peek(self, token: str) -> bool:
        """Whether ``token`` comes next."""
        return self._text.startswith(token, self._at)

    def take_word(self, word: str) -> bool:
        """Reads a whole word, in any case, if it comes next."""
        self.skip_blanks()
        end = self._at + len(word)
        if self._text[self._at : end].upper() != word or self._text[end : end + 1].isalnum():
            return False
        self._at = end
        return True

    def take_while(self, is_part: Callable[[str], bool]) -> str:
        start = self._at
        while not self.is_at_end and is_part(self._text[self._at]):
            self._at += 1
        return self._text[start : self._at]

    def take_quoted(self) -> str | None:
        """A phrase in double quotes, in which a backslash keeps a quote or a backslash."""
        if not self.take_here('"'):
            return None
        phrase = []
        while not self.take_here('"'):
            if self.is_at_end:
                raise self.wrong()
            if self._text[self._at : self._at + 2] in ('\\"', "\\\\"):
                self._at += 1
            phrase.append(self._text[self._at])
            self._at += 1
        return "".join(phrase)

    def take_regex(self) -> Regex | None:
        """An expression between percent signs."""
        if not self.take_here("%"):
            return None
        end = self._text.find("%", self._at)
        self._regexes += 1
        if end < 0 or self._regexes > REGEX_MAX:
            raise self.wrong()
        pattern = self._text[self._at : end]
        self._at = end + 1
        return Regex(pattern)

    def wrong(self) -> InvalidLogParameter:
        return InvalidLogParameter("Invalid filter pattern")


class Glob:
    """Text in which ``*`` stands for any text."""

    def __init__(self, pattern: str) -> None:
        self._first, *self._middle = pattern.split("*")
        self._last = self._middle.pop() if self._middle else None

    def matches(self, text: str) -> bool:
        if self._last is None:
            return text == self._first
        if not text.startswith(self._first):
            return False
        at = len(self._first)
        for part in self._middle:
            at = text.find(part, at)
            if at < 0:
                return False
            at += len(part)
        return len(text) - at >= len(self._last) and text.endswith(self._last)


def parse_expression(
    text: PatternText, parse_condition: Callable[[PatternText], Test[Subject]], depth: int = 0
) -> Test[Subject]:
    """Conditions joined by ``||`` and, binding more closely, ``&&``, with parentheses."""
    if depth > _DEPTH_MAX:
        raise text.wrong()

    def parse_unit() -> Test[Subject]:
        if not text.take("("):
            return parse_condition(text)
        inner = parse_expression(text, parse_condition, depth + 1)
        if not text.take(")"):
            raise text.wrong()
        return inner

    alternatives = []
    while True:
        terms = [parse_unit()]
        while text.take("&&"):
            terms.append(parse_unit())
        alternatives.append(tuple(terms))
        if not text.take("||"):
            break
    return lambda subject: any(all(term(subject) for term in terms) for terms in alternatives)


def parse_comparison(text: PatternText, stops: str) -> Test[Field]:
    """An operator and a value. A value without quotes ends at a blank or one of ``stops``."""
    operator = next((op for op in _OPERATORS if text.take(op)), None)
    if operator is None:
        raise text.wrong()
    text.skip_blanks()
    regex = text.take_regex()
    if regex is not None:
        if operator not in ("=", "!="):
            raise text.wrong()
        search, is_wanted = regex.search, operator == "="
        return lambda field: search(field.text) is is_wanted
    phrase = text.take_quoted()
    number = None
    if phrase is None:
        phrase = text.take_while(lambda char: not (char.isspace() or char in stops))
        if not phrase:
            raise text.wrong()
        number = parse_number(phrase)
    if operator in ("=", "!="):
        return _equality(Glob(phrase), number, is_wanted=operator == "=")
    if number is None:
        raise text.wrong()
    return _order(operator, number)


def parse_number(text: str) -> float | None:
    """The number that ``text`` is, if it is one."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _equality(glob: Glob, number: float | None, *, is_wanted: bool) -> Test[Field]:
    def test(field: Field) -> bool:
        is_equal = number is not None and field.number == number
        return (is_equal or glob.matches(field.text)) is is_wanted

    return test


def _order(operator: str, number: float) -> Test[Field]:
    def test(field: Field) -> bool:
        value = field.number
        if value is None:
            return False
        if operator == "<":
            return value < number
        if operator == "<=":
            return value <= number
        return value > number if operator == ">" else value >= number

    return test
