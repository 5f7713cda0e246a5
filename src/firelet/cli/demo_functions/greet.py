"""A warm call of this function does next to nothing: what is measured is firelet.

With ``sleep`` it stays busy, so that calls at the same time need environments of their own.
"""

from __future__ import annotations

import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    print(f"greeting {event['name']}")
    time.sleep(event.get("sleep", 0))
    return {
        "message": f"hello {event['name']} from Python",
        "environment": context.log_stream_name,
    }
