"""API Gateway's own error codes: those of REST APIs, and of HTTP and WebSocket APIs.

Source: the service models of ``apigateway`` and ``apigatewayv2``, the error shapes and
their ``httpStatusCode``.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class NotFound(CallerError):
    """404: an API, or a part of one, does not exist."""

    code = "NotFoundException"
    status = 404


class BadRequest(CallerError):
    """400: a value that the service does not take."""

    code = "BadRequestException"


class Conflict(CallerError):
    """409: something of that name, or at that place, exists already."""

    code = "ConflictException"
    status = 409


class LimitExceeded(CallerError):
    """429: a quota of the API is used up."""

    code = "LimitExceededException"
    status = 429
