"""Errors on their way from one process of the platform to another.

What firelet raises on purpose arrives as what it was; anything else is a fault of the other
process, which has logged it, and arrives as a PlatformError. Called by ``rpc`` alone.
"""

from __future__ import annotations

import msgspec

from firelet.model import errors
from firelet.model.errors import FireletError, FunctionError, PlatformError, SandboxEnded

# TooManyRequests has arguments of its own and is raised in front of every worker.
_CLASSES: dict[str, type[FireletError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, FireletError)
    and kind.__init__ is FireletError.__init__
}


class Failure(msgspec.Struct, frozen=True):
    """``kind`` is the name of a class of ``model.errors``; ``message`` of a FunctionError is its
    error type, and its payload is that of the frame."""

    kind: str
    message: str
    code: str
    status: int
    fields: dict[str, str] = {}
    headers: dict[str, str] = {}


def describe(error: Exception) -> tuple[Failure, bytes]:
    """What is sent of it, and its payload."""
    if isinstance(error, FunctionError):
        failed = Failure("FunctionError", error.error_type, error.code, error.status)
        return failed, error.payload
    if not isinstance(error, FireletError):
        return Failure("PlatformError", "A worker process failed.", "ServiceException", 500), b""
    if isinstance(error, SandboxEnded):
        return Failure("SandboxEnded", error.message, error.code, error.status), b""
    known = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _CLASSES]
    return (
        Failure(
            known[0],
            error.message,
            error.code,
            error.status,
            dict(error.fields),
            dict(error.headers),
        ),
        b"",
    )


def rebuild(failure: Failure, payload: bytes) -> FireletError:
    """The error again, in the process that asked."""
    if failure.kind == "FunctionError":
        return FunctionError(failure.message, payload)
    if failure.kind == "SandboxEnded":
        return SandboxEnded(failure.message)
    kind = _CLASSES.get(failure.kind, PlatformError)
    return kind(
        failure.message,
        code=failure.code,
        status=failure.status,
        fields=failure.fields,
        headers=failure.headers,
    )
