"""firelet's own pages: the platform in figures, and environments made ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from firelet.control.latencies import Latencies
from firelet.control.manager import Manager, PoolView
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.status import (
    STATUS_PATH,
    WARM_PATH,
    Latency,
    PlatformStatus,
    StatusPage,
    WarmAnswer,
    WarmPage,
    summarise,
)
from firelet.iam.accounts import Accounts
from firelet.model.arn import FunctionRef
from firelet.model.errors import PlatformError, ResourceNotFound
from firelet.model.function import FunctionVersion, State
from firelet.model.isolation import Isolation
from firelet.wire.http1 import Request, Response
from unit.control.fake_fleet import FakeClock, FakeFleet
from unit.versions import make_version

ACCOUNT, REGION = "123456789012", "us-east-1"
KEY = (ACCOUNT, REGION, "hello")


class OneFunction:
    """Knows ``hello`` by any qualifier, and remembers which one was asked for."""

    def __init__(self) -> None:
        self.version: FunctionVersion = make_version()
        self.asked: list[FunctionRef] = []

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved:
        self.asked.append(ref)
        if (account, region, ref.name) != KEY:
            raise ResourceNotFound(f"Function not found: {ref.name}")
        return Resolved(self.version, self.version.unqualified_arn, None, KEY)


class Platform:
    """Both pages above a manager whose fleet is a fake."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.fleet = FakeFleet()
        self.manager = Manager(self.fleet, self.clock)  # type: ignore[arg-type]
        self.latencies = Latencies()
        self.functions = OneFunction()
        self.looks = 0
        self._status = StatusPage(
            self.manager, self.latencies, self.clock, Isolation.NAMESPACES, self.find_machines
        )
        callers = Callers(Accounts(default=ACCOUNT), REGION)
        self._warm = WarmPage(self.functions, self.manager, callers, self.clock, most=20)

    def find_machines(self) -> str:
        self.looks += 1
        return "QEMU, emulated"

    async def status(self) -> PlatformStatus:
        page = await self._status.page(Request(b"GET", STATUS_PATH.encode(), {}, b"", ""))
        assert page.status == 200
        return msgspec.json.decode(page.body, type=PlatformStatus)

    async def warm(self, **order: Any) -> WarmAnswer:
        page = await self.post(msgspec.json.encode(order))
        assert page.status == 200, page.body
        return msgspec.json.decode(page.body, type=WarmAnswer)

    async def post(self, body: bytes) -> Response:
        return await self._warm.page(Request(b"POST", WARM_PATH.encode(), {}, body, ""))

    async def call(self, page: str, method: bytes, target: bytes) -> Response:
        app = self._status if page == STATUS_PATH else self._warm
        return await app.page(Request(method, target, {}, b"{}", ""))


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    platform = Platform()
    yield platform
    await platform.manager.close()


def make_view(**changes: Any) -> PoolView:
    counts = dict.fromkeys(
        ("starting", "busy", "idle", "frozen", "waiting", "started", "invocations", "cold"), 0
    )
    return PoolView(**{"key": (*KEY, "$LATEST"), **counts, **changes})


async def test_a_platform_that_has_done_nothing_says_so(platform: Platform) -> None:
    platform.clock.now += 42
    assert await platform.status() == PlatformStatus(42.0, 0.0, [], None)


async def test_the_status_shows_what_runs_and_how_long_it_took(platform: Platform) -> None:
    await platform.warm(function="hello", n=3)
    environment = await platform.manager.acquire(platform.functions.version)
    platform.latencies.note(KEY, 0.002)
    (function,) = (await platform.status()).functions
    assert (function.account, function.region, function.name) == KEY
    assert (function.busy, function.idle, function.started, function.invocations) == (1, 2, 3, 1)
    assert function.latency == Latency(1, 2.0, 2.0)
    platform.manager.release(environment)
    assert (await platform.status()).functions[0].busy == 0


async def test_starts_per_second_cover_the_last_ten_seconds(platform: Platform) -> None:
    await platform.warm(function="hello", n=5)
    assert (await platform.status()).starts_per_s == 0.5
    platform.clock.now += 9
    await platform.warm(function="hello", n=1)
    assert (await platform.status()).starts_per_s == 0.6
    platform.clock.now += 2
    assert (await platform.status()).starts_per_s == 0.1


def test_an_environment_is_in_one_state_and_versions_are_one_function() -> None:
    first = make_view(idle=5, frozen=3, started=6, invocations=7, cold=1, starting=1, wanted=2)
    second = make_view(key=(*KEY, "1"), busy=2, started=2, invocations=3, waiting=4, wanted=3)
    other = make_view(key=(ACCOUNT, REGION, "alpha", "$LATEST"))
    alpha, hello = summarise([first, other, second], {}, Isolation.NAMESPACES)
    assert (alpha.name, hello.name) == ("alpha", "hello")
    assert (hello.idle, hello.frozen, hello.busy, hello.starting) == (2, 3, 2, 1)
    assert hello.wanted == 5
    assert (hello.waiting, hello.started, hello.invocations, hello.cold) == (4, 8, 10, 1)


def test_percentiles_are_latencies_that_occurred() -> None:
    samples = [number / 1_000 for number in range(100, 0, -1)]
    (function,) = summarise([make_view()], {KEY: samples}, Isolation.NAMESPACES)
    assert function.latency == Latency(100, 50.0, 99.0)
    (function,) = summarise([make_view()], {}, Isolation.NAMESPACES)
    assert function.latency is None


async def test_the_walls_of_each_function_are_shown_and_what_runs_machines_if_there_are_any(
    platform: Platform,
) -> None:
    await platform.warm(function="hello")
    status = await platform.status()
    assert ([f.isolation for f in status.functions], status.machines) == ([["namespaces"]], None)
    assert platform.looks == 0

    platform.functions.version = make_version(isolation=Isolation.MICROVM)
    await platform.warm(function="hello")
    status = await platform.status()
    assert status.functions[0].isolation == ["microvm", "namespaces"]
    assert status.machines == "QEMU, emulated"


async def test_one_that_serves_to_its_end_behind_other_walls_is_shown_with_them(
    platform: Platform,
) -> None:
    busy = await platform.manager.acquire(platform.functions.version)
    platform.manager.retire(KEY, None)
    assert (await platform.status()).functions[0].isolation == ["namespaces"]
    platform.manager.release(busy)
    assert (await platform.status()).functions[0].isolation == []


def test_what_asks_for_nothing_has_the_walls_of_the_platform() -> None:
    view = make_view(isolations=frozenset({None}))
    (function,) = summarise([view], {}, Isolation.MICROVM)
    assert function.isolation == ["microvm"]


async def test_more_are_warmed_than_are_started_at_once(platform: Platform) -> None:
    assert await platform.warm(function="hello", n=20) == WarmAnswer(20, 20)
    assert platform.manager.count()["idle"] == 20


async def test_a_thousand_of_them_are_not_started_at_the_same_time(platform: Platform) -> None:
    platform.fleet.is_instant = False
    warming = asyncio.create_task(platform.warm(function="hello", n=20))
    most, done = 0, 0
    while not warming.done():
        await asyncio.sleep(0)
        pending = platform.fleet.pending
        most = max(most, len(pending))
        for gate in pending:
            gate.set_result(None)
            done += 1
    assert done == 20
    assert most < 10
    assert (await warming).ready == 20


async def test_the_qualifier_may_be_apart_or_in_the_name(platform: Platform) -> None:
    await platform.warm(function="hello", qualifier="live")
    await platform.warm(function="hello:live")
    await platform.warm(function=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello:live")
    assert [(ref.name, ref.qualifier) for ref in platform.functions.asked] == [
        ("hello", "live")
    ] * 3


async def test_what_cannot_be_made_is_not_counted_and_not_tried_for_ever(
    platform: Platform,
) -> None:
    platform.fleet.is_instant = False
    warming = asyncio.create_task(platform.warm(function="hello", n=20))
    while not platform.fleet.pending:
        await asyncio.sleep(0)
    first, *others = platform.fleet.pending
    first.set_exception(PlatformError("no room"))
    for gate in others:
        gate.set_result(None)
    assert await warming == WarmAnswer(20, len(others))
    assert platform.fleet.pending == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, b"InvalidRequestContentException"),
        (b"[]", 400, b"InvalidRequestContentException"),
        (b'{"function": "hello", "n": 0}', 400, b"InvalidRequestContentException"),
        (b'{"function": "hello", "n": 21}', 400, b"InvalidParameterValueException"),
        (b'{"function": "other"}', 404, b"ResourceNotFoundException"),
        (b'{"function": "arn:aws:x"}', 400, b"InvalidParameterValueException"),
    ],
)
async def test_an_order_that_is_wrong_is_refused_as_an_operation_would(
    platform: Platform, body: bytes, status: int, code: bytes
) -> None:
    page = await platform.post(body)
    assert page.status == status
    assert code in b" ".join(value for _, value in page.headers)
    assert platform.fleet.starts == []


async def test_a_function_that_is_not_active_is_not_warmed(platform: Platform) -> None:
    platform.functions.version = make_version(state=State.PENDING)
    page = await platform.post(b'{"function": "hello"}')
    assert page.status == 409
    assert platform.fleet.starts == []


@pytest.mark.parametrize(
    ("page", "method", "target", "status"),
    [
        (STATUS_PATH, b"POST", b"/_firelet/status", 405),
        (STATUS_PATH, b"GET", b"/_firelet/status?pretty", 200),
        (STATUS_PATH, b"GET", b"/_firelet/statuses", 404),
        (WARM_PATH, b"GET", b"/_firelet/warm", 405),
        (WARM_PATH, b"POST", b"/_firelet/warmer", 404),
    ],
)
async def test_each_page_has_one_path_and_one_method(
    platform: Platform, page: str, method: bytes, target: bytes, status: int
) -> None:
    assert (await platform.call(page, method, target)).status == status
