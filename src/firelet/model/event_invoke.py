"""The settings of asynchronous invocation, of one qualifier of a function.

Which values may be set is in ``control.event_invoke``; what they do, in ``events``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInvokeConfig:
    """None: AWS's default (2 retries, 6 hours), and no destination. Destinations are ARNs."""

    retries_max: int | None = None
    age_max_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    last_modified: float  # epoch seconds
