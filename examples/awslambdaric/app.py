"""A function behind AWS's own runtime client, unmodified.

/usr/bin/python3 -m pip install --target . -r requirements.txt
firelet deploy . --name official --runtime provided.al2023 --handler app.handler
"""

from __future__ import annotations

from typing import Any


def handler(event: Any, context: Any) -> dict[str, Any]:
    print("behind awslambdaric")
    return {"event": event, "request": context.aws_request_id}
