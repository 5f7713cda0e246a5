"""The errors of stacks: one sentence for whoever wrote the template, and failures put into one.

The sentences are ours, apart from those that an API answered, which are passed on.
"""

from __future__ import annotations

from typing import Any

_MISSING = (
    "ResourceNotFoundException",
    "ProvisionedConcurrencyConfigNotFoundException",
    "NoSuchEntity",
    "NotFoundException",  # of API Gateway
)


class StackError(Exception):
    """Names the resource, function or parameter that is wrong."""


def lacks_extra() -> StackError:
    """The libraries for templates are no part of a plain installation."""
    return StackError("templates need the extra `sam`: pip install 'firelet[sam]'")


def is_missing(error: Exception) -> bool:
    """Whether an API refused because there is no such thing."""
    return _answer(error).get("Error", {}).get("Code", "") in _MISSING


def format_failure(error: Exception) -> str:
    """What was raised at a step as one sentence: AWS's with its code, and the reason of a function
    that a waiter gave up on."""
    answer = _answer(error)
    refused = answer.get("Error") or {}
    if refused.get("Code"):
        return f"{refused.get('Message') or 'no message'} ({refused['Code']})"
    last = getattr(error, "last_response", None)
    settings = last.get("Configuration", last) if isinstance(last, dict) else {}
    reason = settings.get("StateReason") or settings.get("LastUpdateStatusReason")
    return str(reason) if reason else " ".join(str(error).split())


def _answer(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    return response if isinstance(response, dict) else {}
