"""One way to run functions on this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Interpreter:
    """``prefix`` is what appears at /var/lang; None for ``provided``.

    ``executable`` is relative to the prefix. ``runtime`` is AWS's identifier.
    """

    runtime: str
    family: str
    prefix: Path | None
    executable: str | None
