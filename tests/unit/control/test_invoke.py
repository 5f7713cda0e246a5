"""One invocation from admission to answer: whatever happens, its lease and environment return."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firelet.control.counting import Counting
from firelet.control.invoke import Invoker
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.model import limits
from firelet.model.errors import (
    InvalidParameterValue,
    InvalidRuntime,
    PlatformError,
    ResourceConflict,
    SandboxEnded,
    TooManyRequests,
)
from firelet.model.function import State
from firelet.model.invocation import Outcome
from firelet.model.streaming import StreamHead, StreamSource
from firelet.wire.rpc import PeerLost, Undelivered
from unit.control.fake_fleet import FakeClock, FakeEnvironment, FakeFleet, settle
from unit.versions import make_invocation, make_version

KEY = ("123456789012", "us-east-1", "hello")


class Reservations:
    def __init__(self) -> None:
        self.total = 0

    def reserved_total(self, account: str, region: str) -> int:
        assert (account, region) == KEY[:2]
        return self.total


class Platform:
    def __init__(self) -> None:
        self.fleet = FakeFleet()
        self.manager = Manager(self.fleet, FakeClock())  # type: ignore[arg-type]
        self.counting = Counting(account_limit=2)
        self.reservations = Reservations()
        self.latencies = Latencies()
        self.invoker = Invoker(self.manager, self.counting, self.reservations, self.latencies)

    async def invoke(self, reserved: int | None = None, **changes: Any) -> Any:
        return await self.invoker.invoke(make_invocation(make_version(**changes)), KEY, reserved)

    def is_at_rest(self) -> bool:
        """Nothing runs and nothing is held."""
        count = self.manager.count()
        return self.counting.running(KEY) == 0 and count["busy"] == count["starting"] == 0


@pytest.fixture
async def platform() -> Any:
    platform = Platform()
    yield platform
    await platform.manager.close()


async def test_an_answer_comes_back_and_all_is_at_rest(platform: Platform) -> None:
    outcome = await platform.invoke()
    assert outcome.payload == b"1"
    assert platform.is_at_rest()


async def test_the_second_one_finds_the_first_one_s_environment(platform: Platform) -> None:
    await platform.invoke()
    await platform.invoke()
    assert [len(made.invocations) for made in platform.fleet.made] == [2]


async def test_tenants_have_environments_of_their_own(platform: Platform) -> None:
    version = make_version(extras={"TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}})
    for tenant in ("blue", "green", "blue"):
        invocation = make_invocation(version, tenant_id=tenant)
        await platform.invoker.invoke(invocation, KEY, None)
    blue, green = platform.fleet.made
    assert [one.tenant_id for one in blue.invocations] == ["blue", "blue"]
    assert [one.tenant_id for one in green.invocations] == ["green"]
    with pytest.raises(InvalidParameterValue, match="Add a valid tenant ID"):
        await platform.invoker.invoke(make_invocation(version), KEY, None)
    # A new configuration, or the end of the function, is one for all tenants.
    platform.manager.retire(KEY, "$LATEST")
    await settle()
    assert [environment.closes for environment in platform.fleet.made] == [1, 1]


async def test_a_lease_is_held_while_it_runs(platform: Platform) -> None:
    await platform.invoke()
    (environment,) = platform.fleet.made
    environment.gate = asyncio.Event()
    running = asyncio.create_task(platform.invoke())
    await settle()
    assert platform.counting.running(KEY) == 1
    assert not platform.is_at_rest()
    environment.gate.set()
    await running
    assert platform.is_at_rest()


async def test_a_failure_of_the_environment_passes_on_and_all_is_at_rest(
    platform: Platform,
) -> None:
    await platform.invoke()
    (environment,) = platform.fleet.made
    environment.outcome = PlatformError("The sandbox has ended.")
    with pytest.raises(PlatformError):
        await platform.invoke()
    assert platform.is_at_rest()


async def test_a_failed_start_passes_on_and_all_is_at_rest(platform: Platform) -> None:
    platform.fleet.is_instant = False
    running = asyncio.create_task(platform.invoke())
    await settle()
    platform.fleet.pending[0].set_exception(PlatformError("no room"))
    with pytest.raises(PlatformError, match="no room"):
        await running
    assert platform.is_at_rest()


@pytest.mark.parametrize("is_started", [True, False])
async def test_a_cancelled_invocation_leaves_all_at_rest(
    platform: Platform, is_started: bool
) -> None:
    if is_started:
        await platform.invoke()
        platform.fleet.made[0].gate = asyncio.Event()
    else:
        platform.fleet.is_instant = False
    running = asyncio.create_task(platform.invoke())
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for gate in platform.fleet.pending:
        gate.set_result(None)
    await settle()
    assert platform.is_at_rest()


async def test_the_account_s_limit_holds_and_is_told(platform: Platform) -> None:
    platform.reservations.total = 2
    with pytest.raises(TooManyRequests) as caught:
        await platform.invoke()
    assert caught.value.reason == "ConcurrentInvocationLimitExceeded"
    assert platform.fleet.starts == []
    assert platform.is_at_rest()


async def test_a_reservation_of_nothing_refuses_before_anything_starts(
    platform: Platform,
) -> None:
    with pytest.raises(TooManyRequests) as caught:
        await platform.invoke(reserved=0)
    assert caught.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert platform.fleet.starts == []


async def test_how_long_it_took_is_noted_even_when_it_failed(platform: Platform) -> None:
    await platform.invoke()
    (environment,) = platform.fleet.made
    environment.outcome = PlatformError("The sandbox has ended.")
    with pytest.raises(PlatformError):
        await platform.invoke()
    assert len(platform.latencies.of(KEY)) == 2


async def test_an_event_that_an_environment_has_not_taken_goes_to_another(
    platform: Platform,
) -> None:
    await platform.invoke()
    (dead,) = platform.fleet.made
    dead.outcome = SandboxEnded()
    dead.is_usable_after = False
    assert (await platform.invoke()).payload == b"1"
    assert len(platform.fleet.made) == 2
    assert platform.is_at_rest()


async def test_one_that_no_environment_takes_is_given_up(platform: Platform) -> None:
    await platform.invoke()
    (environment,) = platform.fleet.made
    environment.outcome = SandboxEnded()
    with pytest.raises(SandboxEnded):
        await platform.invoke()
    assert len(environment.invocations) == 1 + limits.SANDBOXES_TRIED
    assert platform.is_at_rest()


@pytest.mark.parametrize("state", [State.PENDING, State.INACTIVE, State.FAILED])
async def test_a_version_that_is_not_active_is_a_conflict(platform: Platform, state: State) -> None:
    with pytest.raises(ResourceConflict) as caught:
        await platform.invoke(state=state)
    assert caught.value.message == (
        "The operation cannot be performed at this time. The function is currently in the"
        f" following state: {state.value}"
    )
    assert platform.is_at_rest()


async def test_a_version_without_an_interpreter_says_what_is_missing(platform: Platform) -> None:
    with pytest.raises(InvalidRuntime, match="install it"):
        await platform.invoke(
            state=State.FAILED, state_reason_code="InvalidRuntime", state_reason="install it"
        )


async def lose_worker(platform: Platform, error: PlatformError) -> FakeEnvironment:
    """The environment that serves next is one whose worker has ended."""
    await platform.invoke()
    lost = platform.fleet.made[0]
    lost.outcome = error
    return lost


async def test_another_environment_serves_what_a_dead_worker_never_got(
    platform: Platform,
) -> None:
    lost = await lose_worker(platform, Undelivered("gone"))
    lost.is_lost = True
    assert (await platform.invoke()).payload == b"1"
    assert len(platform.fleet.made) == 2
    assert lost.closes == 1
    assert platform.is_at_rest()


async def test_what_may_have_run_is_not_run_again(platform: Platform) -> None:
    await lose_worker(platform, PeerLost("gone"))
    with pytest.raises(PeerLost):
        await platform.invoke()
    assert len(platform.fleet.made) == 1
    assert platform.is_at_rest()


class Sink:
    """Keeps what a response says."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def begin(self, head: StreamHead, source: StreamSource) -> None:
        source.pause()
        source.resume()
        self.said.append(head)

    def write(self, piece: bytes) -> None:
        self.said.append(piece)


async def test_a_response_that_is_not_streamed_reaches_the_sink_in_one_piece(
    platform: Platform,
) -> None:
    sink = Sink()
    outcome = await platform.invoker.stream(make_invocation(make_version()), KEY, None, sink)
    head = StreamHead(content_type="application/json", is_streamed=False)
    assert sink.said == [head, b"1"]
    assert outcome.function_error is None
    assert platform.is_at_rest()


async def test_a_function_that_fails_before_its_first_byte_begins_no_response(
    platform: Platform,
) -> None:
    await platform.invoke()
    platform.fleet.made[0].outcome = Outcome(
        payload=b"{}", executed_version="1", function_error="Unhandled", error_type="Oops"
    )
    sink = Sink()
    outcome = await platform.invoker.stream(make_invocation(make_version()), KEY, None, sink)
    assert sink.said == []
    assert (outcome.payload, outcome.error_type) == (b"{}", "Oops")
