"""The regular expressions of CloudWatch Logs' filter patterns, matched in linear time.

What it is: a small expression language without groups, run as a set of states that is remembered
state by state. What it is not: ``re``, whose backtracking would let one caller's pattern hold the
whole process for minutes. Pure; called by ``log_conditions`` and ``log_pattern``.

Source: AWS guide, "Filter pattern syntax", supported regular expressions: letters, digits, the
symbols ``:_#=@/;,-``, and the operators ``^ $ ? [] {m,n} | \\ * + .``; no parentheses, no
multi-byte characters. Blanks are accepted, as in recorded patterns.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field

from firelet.observe.log_errors import InvalidLogParameter

_ASCII = frozenset(map(chr, range(128)))
_PLAIN = frozenset(string.ascii_letters + string.digits + ":_#=@/;,- ")
_DIGITS = frozenset(string.digits)
_SPACES = frozenset(" \t\n\r\f\v")
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_STEPS_MAX = 2_000  # of an expression with its repetitions written out
_REMEMBERED_MAX = 20_000  # transitions


@dataclass(frozen=True, slots=True)
class _Characters:
    """A set of characters: those of ASCII one by one, all others together."""

    ascii: frozenset[str]
    has_others: bool = False

    def __contains__(self, character: str) -> bool:
        return character in self.ascii if character < "\x80" else self.has_others

    def inverted(self) -> _Characters:
        return _Characters(_ASCII - self.ascii, not self.has_others)


_CLASSES = {
    "d": _Characters(_DIGITS),
    "s": _Characters(_SPACES),
    "w": _Characters(_WORD),
}
_CLASSES |= {name.upper(): chars.inverted() for name, chars in _CLASSES.items()}
_ANY = _Characters(_ASCII - {"\n"}, has_others=True)


@dataclass(frozen=True, slots=True)
class _Step:
    """One character to match; None ends an alternative. An optional step may be left out, a
    repeated one matched again."""

    characters: _Characters | None
    is_optional: bool = False
    is_repeated: bool = False
    is_at_end: bool = False  # of an ending: only the end of the text will do


@dataclass(slots=True, eq=False)
class _State:
    """Steps that may come next, and where each character leads, as far as it was asked."""

    steps: frozenset[int]
    is_found: bool  # whatever follows
    is_found_at_end: bool
    next: dict[str, _State] = field(default_factory=dict)


class Regex:
    """A compiled expression. InvalidLogParameter when it is not one."""

    def __init__(self, pattern: str) -> None:
        self._steps: list[_Step] = []
        anywhere: set[int] = set()
        at_start: set[int] = set()
        parser = _Parser(pattern)
        while True:
            first = len(self._steps)
            is_anchored = parser.parse_alternative(self._steps)
            (at_start if is_anchored else anywhere).add(first)
            if not parser.take("|"):
                break
        parser.expect_end()
        self._restart = self._close(anywhere)
        self._start_steps = self._restart | self._close(at_start)
        self._forget()

    def search(self, text: str) -> bool:
        """Whether the expression matches anywhere in ``text``. A line feed at its end is no part
        of it."""
        state = self._start
        for character in text.removesuffix("\n"):
            if state.is_found:
                return True
            following = state.next.get(character)
            state = self._advance(state, character) if following is None else following
        return state.is_found_at_end

    def _advance(self, state: _State, character: str) -> _State:
        reached: set[int] = set()
        for at in state.steps:
            step = self._steps[at]
            if step.characters is not None and character in step.characters:
                reached.add(at if step.is_repeated else at + 1)
        following = self._state(self._close(reached) | self._restart)
        if self._remembered >= _REMEMBERED_MAX:
            self._forget()
            return following
        self._remembered += 1
        state.next[character] = following
        return following

    def _state(self, steps: frozenset[int]) -> _State:
        state = self._states.get(steps)
        if state is None:
            endings = [self._steps[at] for at in steps if self._steps[at].characters is None]
            is_found = not all(ending.is_at_end for ending in endings)
            state = _State(steps, is_found, bool(endings))
            self._states[steps] = state
        return state

    def _close(self, reached: set[int]) -> frozenset[int]:
        closed = set(reached)
        for at in reached:
            while self._steps[at].is_optional:
                at += 1
                closed.add(at)
        return frozenset(closed)

    def _forget(self) -> None:
        self._remembered = 0
        self._states: dict[frozenset[int], _State] = {}
        self._start = self._state(self._start_steps)


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0

    def parse_alternative(self, steps: list[_Step]) -> bool:
        """Appends the steps up to ``|`` or the end. Whether the alternative begins with ``^``."""
        is_anchored = self.take("^")
        is_at_end = False
        while self._at < len(self._text) and self._text[self._at] != "|":
            if self.take("$"):
                is_at_end = True
                if self._at < len(self._text) and self._text[self._at] != "|":
                    raise self._wrong()
                break
            characters = self._parse_characters()
            low, high = self._parse_repetition()
            if len(steps) + max(low, high or 0) > _STEPS_MAX:
                raise self._wrong()
            steps += [_Step(characters)] * low
            if high is None:
                steps.append(_Step(characters, is_optional=True, is_repeated=True))
            else:
                steps += [_Step(characters, is_optional=True)] * (high - low)
        steps.append(_Step(None, is_at_end=is_at_end))
        return is_anchored

    def take(self, token: str) -> bool:
        if self._text.startswith(token, self._at):
            self._at += len(token)
            return True
        return False

    def expect_end(self) -> None:
        if self._at < len(self._text):
            raise self._wrong()

    def _parse_characters(self) -> _Characters:
        character = self._next()
        if character == ".":
            return _ANY
        if character == "[":
            return self._parse_class()
        if character == "\\":
            return self._parse_escape()
        if character not in _PLAIN:
            raise self._wrong()
        return _Characters(frozenset(character))

    def _parse_class(self) -> _Characters:
        is_inverted = self.take("^")
        members: set[str] = set()
        has_others = False
        while not self.take("]"):
            found = self._parse_member()
            low = next(iter(found.ascii)) if len(found.ascii) == 1 else None
            if low is not None and self._is_range():
                self._at += 1
                end = self._parse_member()
                high = next(iter(end.ascii)) if len(end.ascii) == 1 else ""
                if high < low:
                    raise self._wrong()
                members.update(map(chr, range(ord(low), ord(high) + 1)))
                continue
            members |= found.ascii
            has_others |= found.has_others
        result = _Characters(frozenset(members), has_others)
        return result.inverted() if is_inverted else result

    def _parse_member(self) -> _Characters:
        character = self._next()
        if character == "\\":
            return self._parse_escape()
        if character >= "\x80" or character == "[":
            raise self._wrong()
        return _Characters(frozenset(character))

    def _is_range(self) -> bool:
        return self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at)

    def _parse_escape(self) -> _Characters:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character == "x":
            digits = self._next() + self._next()
            if not set(digits) <= set(string.hexdigits) or int(digits, 16) >= 128:
                raise self._wrong()
            return _Characters(frozenset(chr(int(digits, 16))))
        if character >= "\x80" or character.isalnum():
            raise self._wrong()
        return _Characters(frozenset(character))

    def _parse_repetition(self) -> tuple[int, int | None]:
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.take("{"):
            return 1, 1
        low = self._parse_number()
        if low is None:
            raise self._wrong()
        high: int | None = low
        if self.take(","):
            high = self._parse_number()
        if not self.take("}") or (high is not None and high < low):
            raise self._wrong()
        return low, high

    def _parse_number(self) -> int | None:
        start = self._at
        while self._at < len(self._text) and self._text[self._at] in _DIGITS:
            self._at += 1
        digits = self._text[start : self._at]
        if len(digits) > 4:
            raise self._wrong()
        return int(digits) if digits else None

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise self._wrong()
        character = self._text[self._at]
        self._at += 1
        return character

    def _wrong(self) -> InvalidLogParameter:
        return InvalidLogParameter("Invalid regular expression in filter pattern")
