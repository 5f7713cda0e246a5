"""Application Auto Scaling's own error codes.

Source: the service model of ``application-autoscaling``.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class ScalingValidationError(CallerError):
    """400: a value that the service does not take."""

    code = "ValidationException"


class ScalingObjectNotFound(CallerError):
    """400: no such target, policy or scheduled action."""

    code = "ObjectNotFoundException"


class ScalingResourceNotFound(CallerError):
    """400: no target has this ARN; of the tag operations."""

    code = "ResourceNotFoundException"


class InvalidScalingToken(CallerError):
    """400: a NextToken that was not handed out."""

    code = "InvalidNextTokenException"
