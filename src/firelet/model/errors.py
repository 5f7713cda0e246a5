"""The error tree: whose fault it is, AWS's code, HTTP status and sentence.

What it is: exceptions that every layer raises and that ``frontend`` turns into an answer through
the fields below. What it is not: HTTP or JSON; the wire layer owns both.

    FireletError
    ├── CallerError    4xx: the caller's request is at fault
    ├── FunctionError  200 + X-Amz-Function-Error: the customer's code is at fault
    └── PlatformError  5xx: firelet or the host is at fault
"""

from __future__ import annotations

from collections.abc import Mapping


class FireletError(Exception):
    """Root of all errors that firelet raises on purpose.

    ``code`` is AWS's error code, sent as ``x-amzn-ErrorType`` and as the code of the body;
    ``message`` is AWS's sentence; ``fields`` are further members of the error shape
    (for example ``Reason``); ``headers`` are HTTP headers that the shape binds (``Retry-After``).
    """

    code: str = "ServiceException"
    status: int = 500
    fault: str = "Service"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status: int | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        self.fields: Mapping[str, str] = fields or {}
        self.headers: Mapping[str, str] = headers or {}


class CallerError(FireletError):
    """4xx. ``code`` and ``status`` may be given for services that have names of their own."""

    code = "InvalidParameterValueException"
    status = 400
    fault = "User"


class InvalidParameterValue(CallerError):
    """400: a value that passes the model's constraints and is wrong all the same."""


class ValidationError(CallerError):
    """400: one or more model constraints failed; the message lists them."""

    code = "ValidationException"


class SerializationError(CallerError):
    """400: the body could not be parsed in the operation's protocol."""

    code = "SerializationException"


class InvalidRequestContent(CallerError):
    """400: the payload of an invocation is not JSON."""

    code = "InvalidRequestContentException"


class AccessDenied(CallerError):
    """403: an identity or resource policy does not allow the call."""

    code = "AccessDeniedException"
    status = 403


class ResourceNotFound(CallerError):
    """404."""

    code = "ResourceNotFoundException"
    status = 404


class ProvisionedConcurrencyConfigNotFound(CallerError):
    """404: the version or alias has no provisioned concurrency."""

    code = "ProvisionedConcurrencyConfigNotFoundException"
    status = 404


class CodeSigningConfigNotFound(CallerError):
    """404: a function is to have a code signing configuration that is not there."""

    code = "CodeSigningConfigNotFoundException"
    status = 404


class UnknownOperation(CallerError):
    """404: no operation of any served API has this method and path."""

    code = "UnknownOperationException"
    status = 404


class ResourceConflict(CallerError):
    """409: the resource exists already, or is in a state that forbids the call."""

    code = "ResourceConflictException"
    status = 409


class PreconditionFailed(CallerError):
    """412: the caller's RevisionId is not the latest."""

    code = "PreconditionFailedException"
    status = 412


class RequestTooLarge(CallerError):
    """413: the payload of an invocation is over the limit."""

    code = "RequestTooLargeException"
    status = 413


class RequestEntityTooLarge(CallerError):
    """413: the body of a control-plane request, or a zip, is over the limit."""

    code = "RequestEntityTooLargeException"
    status = 413


class ResourceInUse(CallerError):
    """400: an event source mapping is being changed already."""

    code = "ResourceInUseException"


class CodeStorageExceeded(CallerError):
    """400: the account's code storage is full."""

    code = "CodeStorageExceededException"


class SnapStartNotReady(CallerError):
    """409: the snapshot of a version is still being made."""

    code = "SnapStartNotReadyException"
    status = 409


class SnapStartFailed(CallerError):
    """400: an environment could not be restored: an after-restore hook failed."""

    code = "SnapStartException"


class SnapStartTimeout(CallerError):
    """408: the restore, with its hooks, took longer than 10 seconds."""

    code = "SnapStartTimeoutException"
    status = 408


class PolicyLengthExceeded(CallerError):
    """400: a resource policy would become too long."""

    code = "PolicyLengthExceededException"


class InvalidCodeSignature(CallerError):
    """400: the signature of a package does not hold, or is of another package. Refused whatever
    the configuration says about untrusted ones."""

    code = "InvalidCodeSignatureException"


class CodeVerificationFailed(CallerError):
    """400: a package is not signed by an allowed publisher, and unsigned ones are refused."""

    code = "CodeVerificationFailedException"


class RecursiveInvocation(CallerError):
    """400: the function has called itself too often in one chain of requests."""

    code = "RecursiveInvocationException"


class TooManyRequests(CallerError):
    """429, with AWS's ``Reason``. Source: reference of TooManyRequestsException in the model."""

    code = "TooManyRequestsException"
    status = 429

    def __init__(self, reason: str, message: str = "Rate Exceeded.") -> None:
        super().__init__(message, fields={"Reason": reason})
        self.reason = reason


class FunctionSwitchedOff(TooManyRequests):
    """429: the function has a reserved concurrency of 0. Waiting does not help."""

    def __init__(self) -> None:
        super().__init__("ReservedFunctionConcurrentInvocationLimitExceeded")


class FunctionError(FireletError):
    """The customer's code failed: HTTP 200, ``X-Amz-Function-Error`` and ``payload`` as body."""

    code = "Unhandled"
    status = 200
    fault = "User"

    def __init__(self, error_type: str, payload: bytes) -> None:
        super().__init__(error_type)
        self.error_type = error_type
        self.payload = payload


class PlatformError(FireletError):
    """500: firelet or the host failed. The message says what, without secrets."""


class SandboxEnded(PlatformError):
    """500: the sandbox ended before it took an event, or while it was made: another one may do
    what this one was to do."""

    def __init__(self, message: str = "The sandbox has ended.") -> None:
        super().__init__(message)


class EC2Throttled(PlatformError):
    """502: there is no memory for one more environment, and none came free in time. AWS's answer
    when the hosts below Lambda run short; SDKs take it for a throttle and try again."""

    code = "EC2ThrottledException"
    status = 502

    def __init__(self) -> None:
        super().__init__(
            "Amazon EC2 throttled Lambda during Lambda function initialization using the execution"
            " role provided for the function."
        )


class InvalidRuntime(PlatformError):
    """502: the host has no interpreter for the function's runtime."""

    code = "InvalidRuntimeException"
    status = 502


class IsolationMissing(PlatformError):
    """502: the host cannot make sandboxes of the isolation that was asked for."""

    status = 502


class ImageFault(PlatformError):
    """502: a container image could not be made ready. ``reason_code`` is a StateReasonCode."""

    status = 502
    reason_code = "InvalidImage"


class FileSystemMountFailure(PlatformError):
    """403: the directory behind an access point could not be mounted. The model has it so."""

    code = "EFSMountFailureException"
    status = 403


class NotYetImplemented(PlatformError):
    """501: AWS has this operation and firelet does not have it yet."""

    code = "NotImplementedException"
    status = 501


class Unavailable(PlatformError):
    """503: firelet is starting, draining, or out of a resource; the caller may retry."""

    code = "ServiceUnavailableException"
    status = 503


class Stopping(Unavailable):
    """503: firelet stops, and goes on with this after its next start."""
