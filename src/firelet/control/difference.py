"""What a change of a function adds to what is stored and counted, and what it takes away. Pure.

A function may have thousands of published versions, of which a change touches one or none: the
others are told apart by identity and not looked into. Called by ``control.catalog``,
``control.records`` and, for limits, ``control.functions``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from firelet.model.function import Function, FunctionVersion


@dataclass(frozen=True, slots=True)
class Difference:
    """From ``before`` to ``after``; None: there was none, or there is none any more. ``left`` and
    ``entered`` are the published versions that only one of them has, or has otherwise."""

    before: Function | None
    after: Function | None
    left: tuple[FunctionVersion, ...]
    entered: tuple[FunctionVersion, ...]

    @property
    def functions(self) -> int:
        """How many functions there are more: 1, 0 or -1."""
        return (self.after is not None) - (self.before is not None)

    @property
    def code_bytes(self) -> int:
        """Code storage that is used in addition. Every version counts, as on AWS."""
        return _code_bytes(self.after, self.entered) - _code_bytes(self.before, self.left)

    @property
    def set_aside(self) -> int:
        """Concurrency that is set aside in addition."""
        after = 0 if self.after is None else self.after.set_aside
        return after - (0 if self.before is None else self.before.set_aside)

    @property
    def left_digests(self) -> list[str]:
        """The packages that ``before`` needs, one entry for each use; those of versions that stay
        are on neither side."""
        return list(_digests(self.before, self.left))

    @property
    def entered_digests(self) -> list[str]:
        """The packages that ``after`` needs, likewise."""
        return list(_digests(self.after, self.entered))


def difference(before: Function | None, after: Function | None) -> Difference:
    """Of two states of one function."""
    old: Mapping[str, FunctionVersion] = {} if before is None else before.versions
    new: Mapping[str, FunctionVersion] = {} if after is None else after.versions
    if old is new:  # as ``dataclasses.replace`` leaves it
        return Difference(before, after, (), ())
    return Difference(before, after, tuple(_only(old, new)), tuple(_only(new, old)))


def _only(
    versions: Mapping[str, FunctionVersion], others: Mapping[str, FunctionVersion]
) -> Iterator[FunctionVersion]:
    return (version for number, version in versions.items() if others.get(number) is not version)


def _code_bytes(function: Function | None, published: tuple[FunctionVersion, ...]) -> int:
    latest = 0 if function is None else function.latest.code.stored_bytes
    return latest + sum(version.code.stored_bytes for version in published)


def _digests(function: Function | None, published: tuple[FunctionVersion, ...]) -> Iterator[str]:
    """``$LATEST``, what still serves for it, and those published versions."""
    if function is None:
        return
    yield from function.latest.digests
    if function.serving is not None:
        yield from function.serving.digests
    for version in published:
        yield from version.digests
