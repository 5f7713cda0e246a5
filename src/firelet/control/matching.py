"""Whether an environment was made for what a version's record says now."""

from __future__ import annotations

from dataclasses import replace
from weakref import WeakKeyDictionary

from firelet.control.pool import Environment
from firelet.model.function import FunctionVersion, without_state


class Matching:
    """Compares once for each record of a version, and remembers: this is the hot path."""

    def __init__(self) -> None:
        self._matched: WeakKeyDictionary[Environment, FunctionVersion] = WeakKeyDictionary()

    def fits(self, environment: Environment, version: FunctionVersion) -> bool:
        if environment.version is version or self._matched.get(environment) is version:
            return True
        if not is_same(environment.version, version):
            return False
        self._matched[environment] = version
        return True


def is_same(one: FunctionVersion, other: FunctionVersion) -> bool:
    """Whether both mean the same code and configuration, whatever their state says."""
    return one is other or _configuration(one) == _configuration(other)


def _configuration(version: FunctionVersion) -> FunctionVersion:
    return replace(without_state(version), description="")
