"""Answers that a gateway gives by itself: JSON with a sentence, as AWS words them."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from firelet.wire.http1 import Response

JSON_TYPE = (b"Content-Type", b"application/json")


def message_response(
    status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Response:
    """``{"message": …}``, as API Gateway reports."""
    return Response(status, orjson.dumps({"message": message}), (JSON_TYPE, *headers))
