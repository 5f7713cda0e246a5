"""Fails on request: with an exception, or by taking longer than it may."""

from __future__ import annotations

import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> None:
    if event.get("sleep"):
        time.sleep(event["sleep"])
    raise ValueError("this function fails on purpose")
