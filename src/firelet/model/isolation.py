"""What keeps a function apart from everything else, and how a function says which it wants.

AWS has no such choice, so that it is made where AWS lets anything be said of a function: by a tag,
which belongs to the function as a whole and thus holds for all of its versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from firelet.model.errors import InvalidParameterValue

TAG = "firelet:isolation"


class Isolation(StrEnum):
    """The kinds of walls. Every kind is asked for by name: none stands in for another."""

    NAMESPACES = "namespaces"
    MICROVM = "microvm"


def isolation_of(tags: Mapping[str, str]) -> Isolation | None:
    """What a function with these tags asks for; None: what the platform is set to.
    InvalidParameterValue for what does not exist."""
    wanted = tags.get(TAG)
    if wanted is None:
        return None
    try:
        return Isolation(wanted)
    except ValueError:
        offered = ", ".join(Isolation)
        raise InvalidParameterValue(
            f"Value '{wanted}' of the tag {TAG} failed to satisfy constraint: Member must satisfy"
            f" enum value set: [{offered}]"
        ) from None
