"""How provisioned concurrency is divided among the versions of a function. Pure.

A configuration belongs to a version or to an alias; an alias passes it on to one version, or to two
by its weights. Called by ``control.provisioned``.
"""

from __future__ import annotations

from collections.abc import Mapping

from firelet.model.function import Function


def floors(function: Function) -> dict[str, int]:
    """How many environments of each version are to be there; versions that have none are not."""
    wanted: dict[str, int] = {}
    for qualifier in function.provisioned:
        for number, count in divide(function, qualifier).items():
            wanted[number] = wanted.get(number, 0) + count
    return wanted


def divide(function: Function, qualifier: str) -> Mapping[str, int]:
    """How one configuration is divided among versions: by the weights, if an alias has any."""
    requested = function.provisioned[qualifier].requested
    alias = function.aliases.get(qualifier)
    if alias is None:
        return {qualifier: requested}
    shares = {alias.version: requested}
    for number, weight in alias.weights.items():
        count = int(requested * weight + 0.5)
        shares[alias.version] -= count
        shares[number] = count
    return {number: count for number, count in shares.items() if count}
