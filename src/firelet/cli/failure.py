"""The one error that commands raise on purpose: a sentence for a person, and exit code 1."""

from __future__ import annotations


class CliError(Exception):
    """``cli.main`` prints the sentence on stderr; nobody sees a traceback."""
