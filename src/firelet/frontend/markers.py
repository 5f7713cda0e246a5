"""Pages of lists: an opaque Marker in, at most one page and perhaps a NextMarker out.

A marker holds the sort key of the last item that was sent, so that items which come and go
between two pages neither repeat nor hide others. Called by the operations that list things.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from firelet.model.errors import InvalidParameterValue

T = TypeVar("T")
SortKey = tuple[str | int, ...]


def cut_page(
    items: Iterable[T], sort_key: Callable[[T], SortKey], params: Mapping[str, Any], most: int
) -> tuple[list[T], dict[str, str]]:
    """One page of ``items``, which are in the order of ``sort_key``.

    ``params`` are the call's, with ``Marker`` and ``MaxItems``; ``most`` is AWS's own limit. The
    second result is ``{"NextMarker": …}``, or empty after the last page: an empty marker would
    send clients round in circles.
    """
    size = min(params.get("MaxItems") or most, most)
    after = parse_marker(params)
    page: list[T] = []
    for item in items:
        try:
            is_sent = after is not None and sort_key(item) <= after
        except TypeError as error:
            raise _bad_marker() from error  # a marker of another list
        if is_sent:
            continue
        if len(page) == size:
            return page, {"NextMarker": _format_marker(sort_key(page[-1]))}
        page.append(item)
    return page, {}


def _format_marker(key: SortKey) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def parse_marker(params: Mapping[str, Any]) -> SortKey | None:
    """The sort key of the last item that was sent; None for the first page. For lists that need not
    begin at their beginning to find the next page."""
    text = params.get("Marker")
    if not text:
        return None
    try:
        parts = json.loads(base64.urlsafe_b64decode(text.encode()))
    except ValueError as error:
        raise _bad_marker() from error
    if not isinstance(parts, list) or not all(isinstance(part, (str, int)) for part in parts):
        raise _bad_marker()
    return tuple(parts)


def _bad_marker() -> InvalidParameterValue:
    return InvalidParameterValue("The Marker is not one that this operation has returned.")
