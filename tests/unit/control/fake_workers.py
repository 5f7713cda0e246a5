"""Worker processes that do what the test says, and a launcher that makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from firelet.model.errors import PlatformError
from firelet.model.function import FunctionVersion
from firelet.runtime.credentials import SessionCredentials
from firelet.wire.rpc import M, Message, PeerLost, Service
from firelet.wire.worker_messages import Alive, Close, Done, Invoke, Invoked, Open, Start


class FakeLink:
    """Answers at once, unless there is a gate for that kind of call."""

    def __init__(self) -> None:
        self.asked: list[Message] = []
        self.told: list[Message] = []
        self.gates: dict[type[Message], asyncio.Future[None]] = {}
        self.errors: dict[type[Message], Exception] = {}
        self.is_free = True
        self.is_settling = False
        self.is_alive = True
        self._service: Service | None = None
        self._on_lost: Callable[[], None] | None = None

    def open(self, service: Service, on_lost: Callable[[], None]) -> None:
        self._service = service
        self._on_lost = on_lost

    async def call(self, request: Message, expected: type[M], payload: bytes = b"") -> M:
        answer, _ = await self.call_for_payload(request, expected, payload)
        return answer

    async def call_for_payload(
        self, request: Message, expected: type[M], payload: bytes = b""
    ) -> tuple[M, bytes]:
        if not self.is_alive:
            raise PeerLost("The worker process has ended.")
        self.asked.append(request)
        if type(request) in self.gates:
            await self.gates[type(request)]
        if type(request) in self.errors:
            raise self.errors[type(request)]
        answer: Message = Done()
        if isinstance(request, Invoke):
            answer = Invoked(
                "$LATEST", None, None, b"tail", self.is_free, is_settling=self.is_settling
            )
        assert isinstance(answer, expected)
        return answer, payload

    def tell(self, message: Message) -> None:
        self.told.append(message)

    def hear(self, message: Message) -> None:
        """The worker tells something."""
        assert self._service is not None
        self._service.note(message)

    def hold(self, kind: type[Message]) -> asyncio.Future[None]:
        """Calls of that kind wait for it."""
        return self.gates.setdefault(kind, asyncio.get_running_loop().create_future())

    def lose(self) -> None:
        """The process is gone."""
        if not self.is_alive:
            return
        self.is_alive = False
        for gate in self.gates.values():
            if not gate.done():
                gate.set_exception(PeerLost("The worker process has ended."))
                gate.exception()  # somebody may have waited for it, or nobody
        if self._on_lost is not None:
            self._on_lost()

    def count(self, kind: type[Message]) -> int:
        return sum(isinstance(message, kind) for message in self.asked)

    @property
    def starts(self) -> list[Start]:
        return [message for message in self.asked if isinstance(message, Start)]

    @property
    def closed(self) -> list[int]:
        return [message.environment for message in self.asked if isinstance(message, Close)]

    @property
    def is_opened(self) -> bool:
        return self.count(Open) == 1


class FakeProcess:
    """Ends its link when it ends."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.link = FakeLink()
        self.ends = 0
        self.kills = 0

    async def end(self) -> None:
        self.ends += 1
        self.link.lose()

    async def kill(self) -> None:
        self.kills += 1
        self.link.is_alive = False


class FakeLauncher:
    """``failures`` is how many launches fail from now on."""

    def __init__(self) -> None:
        self.made: list[FakeProcess] = []
        self.failures = 0

    async def launch(self, name: str) -> FakeProcess:
        if self.failures:
            self.failures -= 1
            raise PlatformError("no process")
        self.made.append(FakeProcess(name, len(self.made) + 1))
        return self.made[-1]

    def latest(self, name: str) -> FakeProcess:
        return next(each for each in reversed(self.made) if each.name == name)

    def report(self) -> None:
        """All that are alive say so."""
        for process in self.made:
            if process.link.is_alive:
                process.link.hear(Alive())


EXPIRES_AT = 4_000_000_000.0


class FakeSession:
    """Has the same credentials for ever."""

    def current(self) -> SessionCredentials:
        return SessionCredentials("key", "secret", "token", EXPIRES_AT)


@dataclass
class FakeStay:
    """Counts its ends."""

    credentials: FakeSession = field(default_factory=FakeSession)
    ends: int = 0

    def end(self) -> None:
        self.ends += 1


class Stays:
    """Admits every version."""

    def __init__(self) -> None:
        self.made: list[FakeStay] = []

    def admit(self, _version: FunctionVersion) -> FakeStay:
        self.made.append(FakeStay())
        return self.made[-1]

    @property
    def held(self) -> int:
        assert all(stay.ends <= 1 for stay in self.made)
        return sum(stay.ends == 0 for stay in self.made)
