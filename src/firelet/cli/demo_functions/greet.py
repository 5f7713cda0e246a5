"""A warm call of this function does next to nothing: what is measured is firelet."""

from __future__ import annotations

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    print(f"greeting {event['name']}")
    return {"message": f"hello {event['name']} from Python"}
