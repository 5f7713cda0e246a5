"""A Future that tells its listener at once."""

from __future__ import annotations

import asyncio

import pytest

from firelet.wire.prompt import PromptFuture


async def test_the_listener_hears_of_the_result_before_set_result_returns() -> None:
    future: PromptFuture[int] = PromptFuture()
    heard: list[int] = []
    future.listen(lambda done: heard.append(done.result()))
    future.set_result(42)
    assert heard == [42]
    await asyncio.sleep(0)
    assert heard == [42]


async def test_a_listener_that_comes_late_hears_of_it_in_the_next_turn() -> None:
    future: PromptFuture[int] = PromptFuture()
    future.set_result(42)
    heard: list[int] = []
    future.listen(lambda done: heard.append(done.result()))
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [42]


async def test_the_listener_hears_of_a_cancellation_once_and_after_the_turn() -> None:
    future: PromptFuture[int] = PromptFuture()
    heard: list[bool] = []
    future.listen(lambda done: heard.append(done.cancelled()))
    assert future.cancel()
    assert not future.cancel()
    assert heard == []
    await asyncio.sleep(0)
    assert heard == [True]


async def test_it_is_awaited_like_any_other() -> None:
    future: PromptFuture[int] = PromptFuture()
    asyncio.get_running_loop().call_soon(future.set_result, 42)
    assert await future == 42
    lost: PromptFuture[int] = PromptFuture()
    asyncio.get_running_loop().call_soon(lost.cancel)
    with pytest.raises(asyncio.CancelledError):
        await lost
