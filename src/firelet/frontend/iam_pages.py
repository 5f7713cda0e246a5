"""Pages of IAM's lists: ``MaxItems`` and ``Marker`` in, ``IsTruncated`` and ``Marker`` out.

A marker is the name of the last item of a page, so that a page stays right when items before it
come or go between two calls. Called by the IAM operation families.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from firelet.iam.errors import IamValidationError

ITEMS_PER_PAGE = 100  # IAM's default

Item = TypeVar("Item")


def cut_page(
    items: Sequence[Item], params: Mapping[str, Any], key: Callable[[Item], str]
) -> tuple[Sequence[Item], dict[str, Any]]:
    """The page that ``params`` asks for, and the paging members of the answer.

    ``items`` are in the order of ``key``, whose values are unique.
    """
    marker = params.get("Marker")
    rest = items
    if marker is not None:
        last = _parse_marker(marker)
        rest = [item for item in items if key(item) > last]
    page = rest[: params.get("MaxItems") or ITEMS_PER_PAGE]
    if len(page) == len(rest):
        return page, {"IsTruncated": False}
    return page, {"IsTruncated": True, "Marker": _format_marker(key(page[-1]))}


def _format_marker(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode("ascii")


def _parse_marker(marker: str) -> str:
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise IamValidationError("Invalid Marker.") from None
