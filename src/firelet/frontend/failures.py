"""Exceptions to HTTP answers: the one place where an error of firelet becomes a response.

Called by ``frontend.router`` and by the invoke route. What a handler raises on purpose is a
``FireletError`` and is told to the caller; anything else is our own fault: it is logged once, with
its traceback, and the caller learns only that it happened.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from firelet.model.errors import FireletError, PlatformError
from firelet.wire.aws.errors import format_error
from firelet.wire.aws.model import Service
from firelet.wire.aws.serialize import Answer
from firelet.wire.http1 import Response

log = logging.getLogger(__name__)

INTERNAL_MESSAGE = "An internal error occurred and the request cannot be processed."


def failure_response(
    error: Exception,
    request_id: str,
    service: Service | None = None,
    protocol: str | None = None,
) -> Response:
    """The response that reports ``error``, in the protocol of the call, else in that of the
    service (REST-JSON without one)."""
    told = tell(error, request_id)
    return to_response(format_error(told, service, request_id, protocol), request_id)


def tell(error: Exception, request_id: str) -> FireletError:
    """What the caller is told of ``error``. What is our own fault is logged here."""
    if isinstance(error, FireletError):
        return error
    log.error("request failed request_id=%s", request_id, exc_info=error)
    return PlatformError(INTERNAL_MESSAGE)


def to_response(answer: Answer, request_id: str) -> Response:
    """An answer of the AWS protocols as HTTP, with the request id that every AWS answer has."""
    headers = [(b"x-amzn-RequestId", request_id.encode())]
    headers += [
        (_one_line(name).encode("latin-1", "replace"), _one_line(value).encode())
        for name, value in answer.headers.items()
    ]
    # A handler may choose 204 for an operation that has output members.
    body = b"" if answer.status == HTTPStatus.NO_CONTENT else answer.body
    return Response(answer.status, body, headers)


def _one_line(text: str) -> str:
    """A header ends at its line: text from callers must not begin another one."""
    return text.replace("\r", " ").replace("\n", " ")
