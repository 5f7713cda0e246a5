"""From Pending to Active: makes new versions ready after the call that made them was answered.

    Pending ──────► Active            a new function, a published version
       └──────────► Failed
    Active/InProgress ──► Active/Successful    an update of $LATEST; until it has succeeded,
       └────────────────► Active/Failed        invocations run what they ran before

What it is not: the making ready itself, which is the worker's (``Activator``).
Called by ``control.functions`` and ``control.versions``, and at start-up for what a crash left.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.packages import Packages
from firelet.model.arn import LATEST
from firelet.model.errors import (
    FireletError,
    FunctionError,
    ImageFault,
    InvalidParameterValue,
    InvalidRuntime,
    IsolationMissing,
    ResourceConflict,
    Stopping,
)
from firelet.model.function import Function, FunctionKey, FunctionVersion, State, UpdateStatus

log = logging.getLogger(__name__)

CREATING = "The function is being created."
CREATING_CODE = "Creating"
# Reasons that a host may get over.
_INVALID_RUNTIME = "InvalidRuntime"
_INVALID_CONFIGURATION = "InvalidConfiguration"
_OF_THE_HOST = (_INVALID_RUNTIME, _INVALID_CONFIGURATION)


class Activator(Protocol):
    """The worker's side."""

    async def activate(self, version: FunctionVersion) -> None:
        """Makes a version ready to be invoked. FireletError says why it cannot be."""

    async def retire(self, function_key: FunctionKey, version: str | None) -> None:
        """The configuration changed (None: the function is gone): environments that exist now
        stop after the invocation that they serve."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an activation failed, in the words of StateReason and StateReasonCode."""

    reason: str
    code: str


def new_revision_id() -> str:
    """A RevisionId, as every change of a resource gets a new one."""
    return str(uuid.uuid4())


def is_unfinished(version: FunctionVersion) -> bool:
    """Whether an activation was under way when this record was written, or may succeed now: a
    runtime that was missing, or what microVMs need, may have been installed before a restart."""
    return (
        version.state is State.PENDING
        or version.last_update_status is UpdateStatus.IN_PROGRESS
        or version.state_reason_code in _OF_THE_HOST
        or version.last_update_reason_code in _OF_THE_HOST
    )


class Activations:
    """Starts activations and writes down how they ended."""

    def __init__(
        self,
        activator: Activator,
        catalog: Catalog,
        mutations: Mutations,
        packages: Packages,
        answer_wait_s: float,
    ) -> None:
        self._answer_wait_s = answer_wait_s
        self._activator = activator
        self._catalog = catalog
        self._mutations = mutations
        self._packages = packages
        self._running: dict[tuple[FunctionKey, str], asyncio.Future[None]] = {}

    def start(self, version: FunctionVersion) -> None:
        """Begins to make ``version`` ready. Right after the commit of its record."""
        key = version.function_key
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running[key, version.version] = done
        self._mutations.start(self._activate(key, version, done))

    async def restart(self, function: Function) -> None:
        """With the function's lock held, right after the commit of another isolation: what runs
        ends, and what is made ahead is made again, so that only what starts from now on serves."""
        self.forget(function.key)  # what is under way makes ready what is not wanted any more
        await self._activator.retire(function.key, None)
        for version in (function.latest, *function.versions.values()):
            if version is function.latest or version.has_snap_start or is_unfinished(version):
                self.start(version)

    def forget(self, key: FunctionKey, version: str | None = None) -> None:
        """Disowns what is under way for a function, or for one version, that is deleted."""
        for slot in [s for s in self._running if s[0] == key and version in (None, s[1])]:
            self._running.pop(slot).set_result(None)

    def retire(self, key: FunctionKey, version: str | None, digests: list[str]) -> None:
        """In the background: ends the environments, then drops the code that nobody needs."""
        self._mutations.start(self._retire(key, version, digests))

    async def wait(self, key: FunctionKey, version: str, timeout_s: float) -> None:
        """Returns when nothing is under way for that version, or after ``timeout_s``."""
        done = self._running.get((key, version))
        if done is not None:
            await asyncio.wait([done], timeout=max(timeout_s, 0))

    async def before_answer(self, version: FunctionVersion) -> None:
        """Gives the activation of ``version`` time to end before the call is answered.

        The answer says Pending or InProgress all the same, as on AWS; but clients ask again at
        once and then only after a second or five, and a few milliseconds here save them those.
        """
        key = version.function_key
        await self.wait(key, version.version, self._answer_wait_s)

    @asynccontextmanager
    async def when_settled(self, key: FunctionKey, patience_s: float) -> AsyncIterator[None]:
        """Holds the function's lock while no update of ``$LATEST`` is in progress.

        AWS refuses an update during another one. An activation takes milliseconds here, so that
        a caller who does not wait between calls is made to wait instead; ResourceConflict when
        that takes longer than ``patience_s``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while True:
            await self.wait(key, LATEST, deadline - loop.time())
            async with self._mutations.lock(key):
                if (key, LATEST) not in self._running:
                    yield
                    return
            if loop.time() >= deadline:
                raise _in_progress(self._catalog.find(key))

    async def _activate(
        self, key: FunctionKey, version: FunctionVersion, done: asyncio.Future[None]
    ) -> None:
        try:
            failure = await self._try(version)
        except Stopping:
            # Written down as it is: the next start goes on with it.
            if self._running.get((key, version.version)) is done:
                del self._running[key, version.version]
                done.set_result(None)
            return
        async with self._mutations.lock(key):
            if self._running.get((key, version.version)) is not done:
                return  # deleted meanwhile
            function = self._catalog.find(key)
            assert function is not None, "a deleted function is forgotten"
            try:
                gone = await self._catalog.commit(
                    function, _with_outcome(function, version.version, failure)
                )
            finally:
                # Even if it could not be written down: the next update must not wait for ever.
                del self._running[key, version.version]
                done.set_result(None)
        if version.version == LATEST and version.state is not State.PENDING and failure is None:
            await self._retire(key, LATEST, gone)

    async def _try(self, version: FunctionVersion) -> _Failure | None:
        try:
            # What an image is made of arrives only now, and goes again if nobody wants it by then.
            async with self._packages.keep([] if version.image is None else version.digests):
                await self._activator.activate(succeeded(version))
        except Stopping:
            raise
        except FireletError as error:
            log.warning("activation failed arn=%s: %s", version.qualified_arn, error.message)
            return _Failure(error.message, _reason_code(error))
        except Exception:  # the supervisor of activations: whatever happened, it has ended
            log.exception("activation broke arn=%s", version.qualified_arn)
            return _Failure("An internal error occurred.", "InternalError")
        return None

    async def _retire(self, key: FunctionKey, version: str | None, digests: list[str]) -> None:
        await self._activator.retire(key, version)
        await self._packages.release(digests)


def succeeded(version: FunctionVersion) -> FunctionVersion:
    """The same version, ready. With a new RevisionId, as on AWS."""
    return replace(
        version,
        state=State.ACTIVE,
        state_reason=None,
        state_reason_code=None,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
        revision_id=new_revision_id(),
    )


def _failed(version: FunctionVersion, failure: _Failure) -> FunctionVersion:
    """A failed update leaves an active function active: it goes on with what it had."""
    failed = replace(
        version,
        last_update_status=UpdateStatus.FAILED,
        last_update_reason=failure.reason,
        last_update_reason_code=failure.code,
        revision_id=new_revision_id(),
    )
    if version.state in (State.ACTIVE, State.INACTIVE):
        return failed
    return replace(
        failed,
        state=State.FAILED,
        state_reason=failure.reason,
        state_reason_code=failure.code,
    )


def _with_outcome(function: Function, number: str, failure: _Failure | None) -> Function:
    version = function.latest if number == LATEST else function.versions[number]
    ended = succeeded(version) if failure is None else _failed(version, failure)
    if number != LATEST:
        return replace(function, versions={**function.versions, number: ended})
    serving = None if failure is None else function.serving
    return replace(function, latest=ended, serving=serving)


def _reason_code(error: FireletError) -> str:
    """Source: service model, shapes StateReasonCode and LastUpdateStatusReasonCode."""
    if isinstance(error, InvalidRuntime):
        return _INVALID_RUNTIME
    if isinstance(error, IsolationMissing):
        return _INVALID_CONFIGURATION
    if isinstance(error, ImageFault):
        return error.reason_code
    if isinstance(error, InvalidParameterValue) or error.code == "InvalidZipFileException":
        return "InvalidZipFileException"
    if isinstance(error, FunctionError):
        return "FunctionError"
    return "InternalError"


def _in_progress(function: Function | None) -> ResourceConflict:
    if function is None or function.latest.state is State.PENDING:
        return ResourceConflict(
            "The operation cannot be performed at this time. The function is currently in the"
            " following state: Pending"
        )
    return ResourceConflict(
        "The operation cannot be performed at this time. An update is in progress for resource:"
        f" {function.latest.unqualified_arn}"
    )
