"""firelet's own pages: what it holds and how it does, and environments made ahead on request.

``StatusPage`` answers ``firelet top``, ``WarmPage`` answers ``firelet warm``: HTTP applications
that ``app`` serves at the paths below. They are no part of AWS's API. The structs are the JSON of
both sides.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Protocol

import msgspec

from firelet.control.invoke import check_active, check_tenant
from firelet.control.latencies import Latencies
from firelet.control.manager import FunctionKey, Manager, PoolView
from firelet.control.targets import Resolved
from firelet.frontend.callers import Callers
from firelet.frontend.failures import failure_response
from firelet.model.arn import FunctionRef, parse_function_ref
from firelet.model.errors import CallerError, InvalidParameterValue, InvalidRequestContent
from firelet.model.isolation import Isolation
from firelet.wire.http1 import Request, Response

STATUS_PATH = "/_firelet/status"
WARM_PATH = "/_firelet/warm"

_STARTS_OVER_S = 10.0
_WARM_WITHIN_S = 10.0
_WARM_AT_ONCE = 8  # a start that an invocation needs does not queue behind a thousand of these
_JSON = ((b"content-type", b"application/json"),)


class Latency(msgspec.Struct, frozen=True):
    """Of the last invocations, from admission to answer, cold starts included."""

    samples: int
    p50_ms: float
    p99_ms: float


class FunctionStatus(msgspec.Struct, frozen=True):
    """One function, all its versions together. The first four count environments, each in one
    state, and ``wanted`` how many the capacity policy would have; ``waiting`` counts invocations
    that wait for one. The next three count since the first invocation, or the first after a day
    without any. ``isolation`` names the walls around its environments, and around the next one:
    more than one while they are being replaced, none of a function that is gone."""

    account: str
    region: str
    name: str
    starting: int
    busy: int
    idle: int
    frozen: int
    wanted: int
    waiting: int
    started: int
    invocations: int
    cold: int
    latency: Latency | None
    isolation: list[str]


class PlatformStatus(msgspec.Struct, frozen=True):
    """``starts_per_s`` is a mean over the last ten seconds. ``machines`` says what runs microVMs:
    None where no function is in one, or nothing is there to run them."""

    uptime_s: float
    starts_per_s: float
    functions: list[FunctionStatus]
    machines: str | None


class WarmOrder(msgspec.Struct, frozen=True):
    """``n`` more environments for a function, which is named as an invocation names it."""

    function: str
    qualifier: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] = 1


class WarmAnswer(msgspec.Struct, frozen=True):
    """``ready`` of ``asked`` environments are there."""

    asked: int
    ready: int


class Functions(Protocol):
    """What the registry knows about references to functions."""

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved: ...


class StatusPage:
    """``GET``: a PlatformStatus as JSON. ``isolation`` is the platform's own; ``find_machines``
    says what runs microVMs, and blocks."""

    def __init__(
        self,
        manager: Manager,
        latencies: Latencies,
        clock: Callable[[], float],
        isolation: Isolation,
        find_machines: Callable[[], str | None],
    ) -> None:
        self._manager = manager
        self._latencies = latencies
        self._clock = clock
        self._isolation = isolation
        self._find_machines = find_machines
        self._began = clock()

    async def page(self, request: Request) -> Response:
        """Copies on the event loop, sorts beside it: a thousand functions take a while."""
        if refusal := _refuse(request, b"GET", STATUS_PATH):
            return refusal
        views = self._manager.view()
        samples = {key: self._latencies.of(key) for key in {view.key[:3] for view in views}}
        uptime_s = self._clock() - self._began
        starts = self._manager.started_within(_STARTS_OVER_S)
        functions = await asyncio.to_thread(summarise, views, samples, self._isolation)
        machines = None
        if any(Isolation.MICROVM in function.isolation for function in functions):
            machines = await asyncio.to_thread(self._find_machines)
        status = PlatformStatus(uptime_s, starts / _STARTS_OVER_S, functions, machines)
        return Response(200, msgspec.json.encode(status), _JSON)


class WarmPage:
    """``POST`` of a WarmOrder: answers when its environments are there, or after ten seconds with
    as many as are."""

    def __init__(
        self,
        functions: Functions,
        manager: Manager,
        callers: Callers,
        clock: Callable[[], float],
        *,
        most: int,
    ) -> None:
        self._functions = functions
        self._manager = manager
        self._callers = callers
        self._clock = clock
        self._most = most

    async def page(self, request: Request) -> Response:
        """Supervises one order: what fails is answered as an operation of Lambda would."""
        if refusal := _refuse(request, b"POST", WARM_PATH):
            return refusal
        try:
            answer = await self._warm(request)
        except Exception as error:
            return failure_response(error, str(uuid.uuid4()))
        return Response(200, msgspec.json.encode(answer), _JSON)

    async def _warm(self, request: Request) -> WarmAnswer:
        try:
            order = msgspec.json.decode(request.body, type=WarmOrder)
        except msgspec.DecodeError as error:
            raise InvalidRequestContent(f"The order cannot be read: {error}") from None
        if order.n > self._most:
            raise InvalidParameterValue(
                f"No more than {self._most} environments can be asked for at once."
            )
        caller = self._callers.identify(request)
        ref = parse_function_ref(order.function).with_qualifier(order.qualifier)
        version = self._functions.resolve(caller.account, caller.region, ref).version
        check_active(version)
        check_tenant(version, None)
        deadline = self._clock() + _WARM_WITHIN_S
        ready = 0
        while ready < order.n:
            count = min(order.n - ready, _WARM_AT_ONCE)
            made = await self._manager.warm(version, max(0.0, deadline - self._clock()), count)
            ready += made
            if made < count:
                break  # too late, or one cannot be made: the next ones would fare no better
        return WarmAnswer(order.n, ready)


def summarise(
    views: Iterable[PoolView],
    samples: Mapping[FunctionKey, Sequence[float]],
    isolation: Isolation,
) -> list[FunctionStatus]:
    """One row for each function, by name. ``samples`` are its last latencies in seconds,
    ``isolation`` that of functions which ask for none."""
    pools: defaultdict[FunctionKey, list[PoolView]] = defaultdict(list)
    for view in views:
        pools[view.key[:3]].append(view)
    return [
        _summarise_one(key, pools[key], samples.get(key, ()), isolation) for key in sorted(pools)
    ]


def _summarise_one(
    key: FunctionKey, pools: Sequence[PoolView], samples: Sequence[float], isolation: Isolation
) -> FunctionStatus:
    account, region, name = key
    frozen = sum(pool.frozen for pool in pools)
    return FunctionStatus(
        account=account,
        region=region,
        name=name,
        starting=sum(pool.starting for pool in pools),
        busy=sum(pool.busy for pool in pools),
        idle=sum(pool.idle for pool in pools) - frozen,
        frozen=frozen,
        wanted=sum(pool.wanted for pool in pools),
        waiting=sum(pool.waiting for pool in pools),
        started=sum(pool.started for pool in pools),
        invocations=sum(pool.invocations for pool in pools),
        cold=sum(pool.cold for pool in pools),
        latency=_describe(samples),
        isolation=sorted({each or isolation for pool in pools for each in pool.isolations}),
    )


def _describe(samples: Sequence[float]) -> Latency | None:
    """Nearest-rank percentiles: each is a latency that occurred."""
    if not samples:
        return None
    ordered = sorted(samples)

    def percentile_ms(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1] * 1_000

    return Latency(len(ordered), percentile_ms(0.5), percentile_ms(0.99))


def _refuse(request: Request, method: bytes, path: str) -> Response | None:
    """The answer to a request that is not for the page at ``path``; None for one that is."""
    if request.path != path.encode():
        error = CallerError("There is no such page.", code="NotFoundException", status=404)
    elif request.method != method:
        allowed = f"This page is for {method.decode()}."
        error = CallerError(allowed, code="MethodNotAllowedException", status=405)
    else:
        return None
    return failure_response(error, str(uuid.uuid4()))
