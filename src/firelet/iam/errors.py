"""IAM's own error codes, which differ from Lambda's in name and status.

Source: the service model of ``iam``, the error shapes' ``code`` and ``httpStatusCode``.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class NoSuchEntity(CallerError):
    """404: the role, policy, version or user does not exist."""

    code = "NoSuchEntity"
    status = 404


class EntityAlreadyExists(CallerError):
    """409: the name is taken. Names are not told apart by case."""

    code = "EntityAlreadyExists"
    status = 409


class DeleteConflict(CallerError):
    """409: something still hangs on the entity."""

    code = "DeleteConflict"
    status = 409


class LimitExceeded(CallerError):
    """409: a quota of the account, the role or the policy is used up."""

    code = "LimitExceeded"
    status = 409


class MalformedPolicyDocument(CallerError):
    """400: the document is not JSON or not a policy."""

    code = "MalformedPolicyDocument"


class InvalidInput(CallerError):
    """400: a value that the model's constraints allow and IAM does not."""

    code = "InvalidInput"


class UnmodifiableEntity(CallerError):
    """400: the role belongs to a service, and only the service may change it."""

    code = "UnmodifiableEntity"


class IamValidationError(CallerError):
    """400: IAM and STS call it ``ValidationError``, where Lambda says ``ValidationException``."""

    code = "ValidationError"
