"""CloudWatch's own error codes, as its query protocol names them.

Source: the service model of ``cloudwatch``, the error shapes' ``code`` and ``httpStatusCode``.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class InvalidMetricParameter(CallerError):
    """400: a value that CloudWatch does not take."""

    code = "InvalidParameterValue"


class InvalidMetricCombination(CallerError):
    """400: parameters that exclude each other, or ask for too much together."""

    code = "InvalidParameterCombination"


class MissingMetricParameter(CallerError):
    """400: one of several parameters has to be there."""

    code = "MissingParameter"


class InvalidMetricToken(CallerError):
    """400: a NextToken that was not handed out."""

    code = "InvalidNextToken"


class MetricValidationError(CallerError):
    """400: GetMetricData calls it ``ValidationError``."""

    code = "ValidationError"
