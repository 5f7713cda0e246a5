"""Publish, list and delete the versions of a function.

A version is a copy of ``$LATEST`` that never changes; numbers only grow.
Called by ``frontend.versions``, and by ``control.functions`` for Publish=true.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from firelet.control.activation import CREATING, CREATING_CODE, Activations, new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.qualifiers import without_qualifier
from firelet.control.records import fingerprint
from firelet.control.targets import not_found
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import (
    CodeStorageExceeded,
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
)
from firelet.model.function import Function, FunctionKey, FunctionVersion, State, UpdateStatus


def check_revision(current: str, expected: str | None) -> None:
    """RevisionId as an optimistic lock; None means that the caller does not care."""
    if expected is not None and expected != current:
        raise PreconditionFailed(
            "The Revision Id provided does not match the latest Revision Id. Call the"
            " GetFunction/GetAlias API to retrieve the latest Revision Id"
        )


def publish(
    function: Function, description: str | None, now: str
) -> tuple[Function, FunctionVersion]:
    """The function with one more version, and that version; Pending. Pure."""
    latest = function.latest
    version = replace(
        latest,
        version=str(function.next_version),
        description=latest.description if description is None else description,
        last_modified=now,
        revision_id=new_revision_id(),
        state=State.PENDING,
        state_reason=CREATING,
        state_reason_code=CREATING_CODE,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
    )
    managed = dict(function.runtime_management)
    if LATEST in managed:
        managed[version.version] = managed[LATEST]
    after = replace(
        function,
        versions={**function.versions, version.version: version},
        next_version=function.next_version + 1,
        published=fingerprint(latest),
        runtime_management=managed,
    )
    return after, version


def last_published(function: Function) -> FunctionVersion | None:
    """The version that publishing would only repeat, because nothing has changed since; None."""
    if function.published != fingerprint(function.latest):
        return None
    return function.versions.get(str(function.next_version - 1))


class Versions:
    """The operations on published versions."""

    def __init__(
        self,
        catalog: Catalog,
        mutations: Mutations,
        activations: Activations,
        now: Callable[[], str],
        patience_s: float,
    ) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._activations = activations
        self._now = now
        self._patience_s = patience_s

    def all(self, key: FunctionKey) -> list[FunctionVersion]:
        """``$LATEST`` first, then the published ones by number."""
        function = self._catalog.get(key)
        return [function.latest, *function.versions.values()]

    async def publish(
        self,
        key: FunctionKey,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision_id: str | None = None,
    ) -> FunctionVersion:
        """The new version; the last one when nothing has changed since.

        InvalidParameterValue when the code is not the expected one; PreconditionFailed.
        """
        version = await self._mutations.carry_out(
            self._publish(key, description, code_sha256, revision_id)
        )
        await self._activations.before_answer(version)
        return self._answer(version)

    async def delete(self, key: FunctionKey, number: str) -> None:
        """One version. ResourceConflict while an alias points to it."""
        await self._mutations.carry_out(self._delete(key, number))

    async def _publish(
        self,
        key: FunctionKey,
        description: str | None,
        code_sha256: str | None,
        revision_id: str | None,
    ) -> FunctionVersion:
        self._catalog.get(key)
        async with self._activations.when_settled(key, self._patience_s):
            function = self._catalog.get(key)
            latest = function.latest
            check_revision(latest.revision_id, revision_id)
            if code_sha256 is not None and code_sha256 != latest.code.sha256:
                raise InvalidParameterValue(
                    f"CodeSHA256 ({code_sha256}) is different from current CodeSHA256 in $LATEST"
                    f" ({latest.code.sha256}). Please try again with the CodeSHA256 in $LATEST."
                )
            last = last_published(function)
            if last is not None:
                return last
            if latest.state is not State.ACTIVE:
                raise ResourceConflict(
                    "The operation cannot be performed at this time. The function is currently in"
                    f" the following state: {latest.state}"
                )
            used = self._catalog.world(key[0], key[1]).code_bytes
            if used + latest.code.stored_bytes > limits.CODE_STORAGE_MAX_BYTES:
                raise CodeStorageExceeded("Code storage limit exceeded.")
            after, version = publish(function, description, self._now())
            await self._catalog.commit(function, after)
            self._activations.start(version)
            return version

    def _answer(self, version: FunctionVersion) -> FunctionVersion:
        """A version is published Active (recorded), or Pending if a snapshot is made of it."""
        function = self._catalog.find(version.function_key)
        if function is None or version.has_snap_start:
            return version
        return function.versions.get(version.version, version)

    async def _delete(self, key: FunctionKey, number: str) -> None:
        if number == LATEST:
            raise InvalidParameterValue(
                "$LATEST version cannot be deleted without deleting the function."
            )
        if not number.isdigit():
            raise InvalidParameterValue("Deletion of aliases is not currently supported.")
        async with self._mutations.lock(key):
            function = self._catalog.find(key)
            if function is None or number not in function.versions:
                raise not_found(key, number)
            users = [
                alias.name
                for alias in function.aliases.values()
                if number == alias.version or number in alias.weights
            ]
            if users:
                raise ResourceConflict(
                    "Unable to delete version because the following aliases reference it:"
                    f" [{', '.join(sorted(users))}]"
                )
            gone = await self._catalog.commit(function, without_qualifier(function, number))
            self._activations.forget(key, number)
            self._activations.retire(key, number, gone)
