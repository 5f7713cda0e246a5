"""Elastic Load Balancing's own error codes; all are 400.

Source: the service model of ``elbv2``. Sentences are those that users have recorded, except where
a sentence says what firelet does not have.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class BalancerValidationError(CallerError):
    """A value that the service does not take."""

    code = "ValidationError"


class LoadBalancerNotFound(CallerError):
    code = "LoadBalancerNotFound"


class TargetGroupNotFound(CallerError):
    code = "TargetGroupNotFound"


class ListenerNotFound(CallerError):
    code = "ListenerNotFound"


class RuleNotFound(CallerError):
    code = "RuleNotFound"


class DuplicateLoadBalancerName(CallerError):
    code = "DuplicateLoadBalancerName"


class DuplicateTargetGroupName(CallerError):
    code = "DuplicateTargetGroupName"


class DuplicateListener(CallerError):
    code = "DuplicateListener"


class PriorityInUse(CallerError):
    code = "PriorityInUse"


class BalancerResourceInUse(CallerError):
    code = "ResourceInUse"


class OperationNotPermitted(CallerError):
    code = "OperationNotPermitted"


class InvalidConfiguration(CallerError):
    code = "InvalidConfigurationRequest"


class InvalidTarget(CallerError):
    code = "InvalidTarget"


class TooManyTargets(CallerError):
    code = "TooManyTargets"


class InvokeNotAllowed(CallerError):
    """The function's policy does not let the load balancer invoke it."""

    code = "AccessDenied"
    status = 403
