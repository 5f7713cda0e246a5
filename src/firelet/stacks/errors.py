"""The one error that stacks raise on purpose: a sentence for whoever wrote the template."""

from __future__ import annotations


class StackError(Exception):
    """Names the resource, function or parameter that is wrong."""


def lacks_extra() -> StackError:
    """The libraries for templates are no part of a plain installation."""
    return StackError("templates need the extra `sam`: pip install 'firelet[sam]'")
