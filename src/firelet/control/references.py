"""Packages by reference: whether the objects can still be read that functions and layers refer to.

Every now and then each is looked for. A function whose code is lost becomes Inactive, and stays so
until its object is back and the function is updated; a published version, which cannot be updated,
is Active again once its object is back. What a function has of a layer goes on for as long as its
layers are not set anew.

Source: docs.aws.amazon.com/lambda/latest/dg/configuration-self-managed-storage.html, "Function
lifecycle". How often, what StateReason says, and that versions come back by themselves is
firelet's own; the service model has no StateReasonCode for it. Called by ``control.functions``
and, for the looks, by ``app``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from firelet.control.activation import new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.model.arn import LATEST
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import (
    Code,
    Function,
    FunctionKey,
    FunctionVersion,
    S3Object,
    State,
    UpdateStatus,
)

log = logging.getLogger(__name__)


class SourceObjects(Protocol):
    """S3, where the objects are."""

    async def check(self, reference: S3Object) -> None:
        """InvalidParameterValue when the object is gone or may not be read. Nothing when it can be,
        nor when there is no telling."""


class NoSourceObjects:
    """Of a platform without S3: there is no telling."""

    async def check(self, reference: S3Object) -> None:
        return None


class References:
    """``look`` every now and then."""

    def __init__(self, catalog: Catalog, mutations: Mutations, objects: SourceObjects) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._objects = objects

    async def check(self, codes: Iterable[Code]) -> None:
        """InvalidParameterValue for the first that is lost."""
        for code in codes:
            if code.reference is not None:
                await self._objects.check(code.reference)

    async def look(self) -> None:
        """One look at every object, and at all that refer to it."""
        reasons: dict[S3Object, str | None] = {}
        for function in list(self._catalog.everything()):
            for version in (function.latest, *function.versions.values()):
                reference = version.code.reference
                if reference is None or not _is_concerned(version):
                    continue
                if reference not in reasons:
                    reasons[reference] = await self._reason(reference)
                reason = reasons[reference]
                if _changes(version, reason):
                    note = self._note(function.key, version.version, reference, reason)
                    await self._mutations.carry_out(note)

    async def _reason(self, reference: S3Object) -> str | None:
        """Why it cannot be read; None if it can."""
        try:
            await self._objects.check(reference)
        except InvalidParameterValue as error:
            return error.message
        return None

    async def _note(
        self, key: FunctionKey, number: str, reference: S3Object, reason: str | None
    ) -> None:
        async with self._mutations.lock(key):
            function = self._catalog.find(key)
            version = None if function is None else _version(function, number)
            if function is None or version is None or version.code.reference != reference:
                return  # changed meanwhile
            if not _is_concerned(version) or not _changes(version, reason):
                return
            changed = replace(
                version,
                state=State.ACTIVE if reason is None else State.INACTIVE,
                state_reason=reason,
                state_reason_code=None,
                revision_id=new_revision_id(),
            )
            log.warning("source object arn=%s: %s", version.qualified_arn, reason or "is back")
            await self._catalog.commit(function, _with_version(function, changed))


def _is_concerned(version: FunctionVersion) -> bool:
    """An update that is under way or has failed is not interfered with."""
    if version.last_update_status is not UpdateStatus.SUCCESSFUL:
        return False
    return version.state is State.ACTIVE or (
        version.state is State.INACTIVE and version.version != LATEST
    )


def _changes(version: FunctionVersion, reason: str | None) -> bool:
    return (version.state is State.ACTIVE) != (reason is None)


def _version(function: Function, number: str) -> FunctionVersion | None:
    return function.latest if number == LATEST else function.versions.get(number)


def _with_version(function: Function, version: FunctionVersion) -> Function:
    if version.version == LATEST:
        return replace(function, latest=version)
    return replace(function, versions={**function.versions, version.version: version})
