"""Keys of issuers: found, remembered, and looked for again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firelet.gateway.jwt_keys import KEPT_S, LOOK_AGAIN_S, JwtKeys, fetch_document
from firelet.iam.jwt import InvalidToken
from tokens import Issuer


class World:
    """An issuer without a web server, and a clock."""

    def __init__(self) -> None:
        self.issuer = Issuer("https://i")
        self.now = 0.0
        self.failure: Any = None
        self.keys = JwtKeys(self.fetch, lambda: self.now)

    def fetch(self, url: str) -> bytes:
        if self.failure is not None:
            self.issuer.asked += 1
            if isinstance(self.failure, Exception):
                raise self.failure
            return bytes(self.failure)
        return json.dumps(self.issuer.document(url.removeprefix("https://i"))).encode()

    async def find(self, key_id: str | None = "one") -> bool:
        try:
            await self.keys.find("https://i", key_id)
        except InvalidToken:
            return False
        return True


async def test_keys_are_asked_for_once_in_two_hours() -> None:
    world = World()
    assert [await world.find() for _ in range(3)] == [True] * 3
    world.now = KEPT_S
    await world.find()
    assert world.issuer.asked == 1
    world.now = KEPT_S + 1
    await world.find()
    assert world.issuer.asked == 2


async def test_a_key_that_is_not_known_makes_us_look_again_but_seldom() -> None:
    world = World()
    assert [await world.find("none") for _ in range(5)] == [False] * 5
    assert world.issuer.asked == 1
    world.issuer.signers[0].key_id = "new"
    world.now = LOOK_AGAIN_S + 1
    assert await world.find("new")
    assert not await world.find("one")
    assert world.issuer.asked == 2


@pytest.mark.parametrize(
    "failure",
    [
        OSError("down"),
        b"",
        b"[]",
        b'{"jwks_uri": 7}',
        b'{"jwks_uri": "x", "keys": [{"kty": "RSA"}]}',
    ],
)
async def test_an_issuer_that_fails_is_not_asked_for_each_request(failure: Any) -> None:
    world = World()
    world.failure = failure
    assert [await world.find() for _ in range(5)] == [False] * 5
    assert world.issuer.asked <= 2
    world.failure, world.now = None, LOOK_AGAIN_S + 1
    assert await world.find()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "no url", ""])
def test_only_the_web_is_asked(url: str) -> None:
    with pytest.raises(OSError, match="no address of the web"):
        fetch_document(url)
