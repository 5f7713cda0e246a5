"""Errors of the Logs API: they are all 400, also where other services say 404 or 409.

Source: the service model of ``logs``; sentences are those of recorded answers.
"""

from __future__ import annotations

from firelet.model.errors import CallerError


class LogGroupNotFound(CallerError):
    """The group does not exist in this account and region."""

    code = "ResourceNotFoundException"

    def __init__(self) -> None:
        super().__init__("The specified log group does not exist.")


class LogStreamNotFound(CallerError):
    """The group exists and the stream does not."""

    code = "ResourceNotFoundException"

    def __init__(self) -> None:
        super().__init__("The specified log stream does not exist.")


class LogGroupExists(CallerError):
    """The name of the group is taken."""

    code = "ResourceAlreadyExistsException"

    def __init__(self) -> None:
        super().__init__("The specified log group already exists")


class LogStreamExists(CallerError):
    """The name of the stream is taken."""

    code = "ResourceAlreadyExistsException"

    def __init__(self) -> None:
        super().__init__("The specified log stream already exists")


class InvalidLogParameter(CallerError):
    """A parameter is wrong in a way that the model's constraints do not say."""

    code = "InvalidParameterException"
