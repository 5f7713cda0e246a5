"""How much of an AWS service this platform serves, from the code itself.

The operations that AWS has are those of its service model; the ones that are served are those
that the families of the frontend register. Called by ``firelet parity``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

from firelet.app.operations import EndpointParts, make_operations
from firelet.frontend import invoke, invoke_stream
from firelet.frontend.elbv2_groups import Targets
from firelet.wire.aws.model import load_services


class Standing(StrEnum):
    """How far an operation is."""

    IMPLEMENTED = "implemented"
    PARTLY = "partly"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Coverage:
    """One operation. ``lacks`` says what is missing of one that is served partly."""

    operation: str
    standing: Standing
    lacks: str | None = None


def list_coverage(service: str = "lambda") -> Sequence[Coverage]:
    """Every operation of AWS's model of a service, by name."""
    operations = make_operations(cast(EndpointParts, _Absent()), cast(Targets, _Absent()))
    served = set(operations.names(service))
    if service == "lambda":
        served |= {*invoke.OPERATIONS, *invoke_stream.OPERATIONS}
    (model,) = load_services([service])
    found = []
    for name in sorted(model.operations):
        lacks = operations.lacks(service, name)
        if name not in served:
            found.append(Coverage(name, Standing.MISSING))
        elif lacks is not None:
            found.append(Coverage(name, Standing.PARTLY, lacks))
        else:
            found.append(Coverage(name, Standing.IMPLEMENTED))
    return found


class _Absent:
    """Stands for every collaborator of a family: constructors only keep theirs, and what is asked
    here is which handlers there are, not to call them."""

    def __getattr__(self, name: str) -> Any:
        return self
