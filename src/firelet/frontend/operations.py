"""The contract between the router and the operation families.

A family is a class that takes its collaborators in the constructor and adds its handlers to the
``Operations`` table in ``register``. A handler gets a ``Call`` whose parameters are parsed and
validated against the service model, and returns the members of the output shape.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One API call. ``params`` has the input shape's member names and native Python values:
    blobs are bytes, timestamps are aware datetimes, numbers are int or float."""

    service: str
    operation: str
    account: str
    region: str
    request_id: str
    params: Mapping[str, Any]
    base_url: str  # scheme://host:port as the caller reached us, for links in answers
    access_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that needs more than the output members: another status, or extra headers."""

    output: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable["Reply | Mapping[str, Any] | None"]]


class Operations:
    """The table of operations that this platform serves, by service and operation name."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._lacks: dict[tuple[str, str], str] = {}

    def add(
        self, service: str, operation: str, handler: Handler, *, lacks: str | None = None
    ) -> None:
        """``lacks`` says what of the operation is not served yet, for ``firelet parity``."""
        key = (service, operation)
        if key in self._handlers:
            raise ValueError(f"{service}:{operation} has two handlers")
        self._handlers[key] = handler
        if lacks is not None:
            self._lacks[key] = lacks

    def find(self, service: str, operation: str) -> Handler | None:
        return self._handlers.get((service, operation))

    def lacks(self, service: str, operation: str) -> str | None:
        """What is missing of an operation that has a handler; None when it is whole."""
        return self._lacks.get((service, operation))

    def names(self, service: str) -> list[str]:
        """Operations of one service, sorted."""
        return sorted(name for owner, name in self._handlers if owner == service)
