"""The one error that stacks raise on purpose: a sentence for whoever wrote the template."""

from __future__ import annotations


class StackError(Exception):
    """Names the resource, function or parameter that is wrong."""
