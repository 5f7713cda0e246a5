"""``firelet warm``: asks again while the platform gets on, and says what is there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from firelet.cli.endpoint import Endpoint
from firelet.cli.warm import make_environments


class SlowPlatform(Endpoint):
    """Makes some environments for each order, and then no more."""

    def __init__(self, *made: int) -> None:
        super().__init__("http://127.0.0.1:1", {})
        self._made = list(made)
        self.orders: list[dict[str, Any]] = []

    def page(self, path: str, body: bytes | None = None) -> bytes:
        assert path == "/_firelet/warm"
        assert body is not None
        order = msgspec.json.decode(body)
        self.orders.append(order)
        return msgspec.json.encode({"asked": order["n"], "ready": self._made.pop(0)})


def test_one_order_is_enough_when_it_is_met() -> None:
    platform = SlowPlatform(3)
    assert make_environments(platform, "greet:live", 3) == 3
    assert platform.orders == [{"function": "greet:live", "qualifier": None, "n": 3}]


def test_what_is_missing_is_asked_for_again() -> None:
    platform = SlowPlatform(600, 400)
    assert make_environments(platform, "greet", 1_000) == 1_000
    assert [order["n"] for order in platform.orders] == [1_000, 400]


@pytest.mark.parametrize("made", [[0], [5, 0]])
def test_a_platform_that_does_not_get_on_is_not_asked_for_ever(made: list[int]) -> None:
    assert make_environments(SlowPlatform(*made), "greet", 9) == sum(made)
