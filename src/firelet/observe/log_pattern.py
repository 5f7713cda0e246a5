"""Filter patterns of CloudWatch Logs: from the text of a pattern to a test of log events.

What it is: the three grammars' front door, and the first of them, terms: all that stand alone must
be in the event, none behind ``-`` may be, and of those behind ``?`` one must be, unless there are
terms of the other kinds, beside which they count for nothing. What it is not: Logs Insights. Pure.

Source: AWS guide, "Filter pattern syntax for metric filters, subscription filters, filter log
events, and Live Tail". Terms are found anywhere in an event and in the case in which they are
written; a term with anything but letters, digits and underscores stands in double quotes.
"""

from __future__ import annotations

from collections.abc import Callable

from firelet.observe.log_conditions import PatternText
from firelet.observe.log_errors import InvalidLogParameter
from firelet.observe.log_pattern_fields import parse_fields_pattern
from firelet.observe.log_pattern_json import parse_json_pattern

Matches = Callable[[str], bool]


def parse_filter_pattern(pattern: str) -> Matches:
    """The test that ``pattern`` stands for; an empty one is met by every event.

    InvalidLogParameter when it is not a pattern.
    """
    stripped = pattern.strip()
    for opening, closing, parse in (
        ("{", "}", parse_json_pattern),
        ("[", "]", parse_fields_pattern),
    ):
        if stripped.startswith(opening):
            if not stripped.endswith(closing):
                raise InvalidLogParameter(
                    f"If a filter pattern starts with '{opening}' it must end with '{closing}'"
                )
            return parse(PatternText(stripped))
    return _parse_terms(PatternText(stripped))


def _parse_terms(text: PatternText) -> Matches:
    required: list[Matches] = []
    excluded: list[Matches] = []
    optional: list[Matches] = []
    text.skip_blanks()
    while not text.is_at_end:
        terms = required
        if text.take_here("-"):
            terms = excluded
        elif text.take_here("?"):
            terms = optional
        terms.append(_parse_term(text))
        text.skip_blanks()
    if optional and not required and not excluded:
        return lambda message: any(term(message) for term in optional)
    return lambda message: (
        all(term(message) for term in required) and not any(term(message) for term in excluded)
    )


def _parse_term(text: PatternText) -> Matches:
    regex = text.take_regex()
    if regex is not None:
        return regex.search
    phrase = text.take_quoted()
    if phrase is None:
        phrase = text.take_while(lambda char: char.isalnum() or char == "_")
        if not phrase:
            raise text.wrong()
    return _contains(phrase)


def _contains(phrase: str) -> Matches:
    return lambda message: phrase in message
