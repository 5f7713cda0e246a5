"""Provisioned concurrency: what versions and aliases have asked for, and what there is of it.

The rules and the records; the environments are the worker manager's, behind ``Provider``. A floor
is what one version is to have in all: its own configuration, and its part of those of aliases.
Called by ``frontend.provisioned``; ``control.aliases`` asks before it moves an alias.
Source: docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html; recorded messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from firelet.control.catalog import Catalog
from firelet.control.floor import FloorView
from firelet.control.mutations import Mutations
from firelet.control.qualifiers import has_qualifier, missing_qualifier, without
from firelet.control.shares import divide, floors
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import (
    InvalidParameterValue,
    ProvisionedConcurrencyConfigNotFound,
    ResourceConflict,
)
from firelet.model.function import (
    Alias,
    Function,
    FunctionKey,
    FunctionVersion,
    ProvisionedConcurrency,
)


class Provider(Protocol):
    """The side that holds environments."""

    def provide(self, version: FunctionVersion, count: int) -> None:
        """Keeps so many environments of a version initialised from now on. Asking again tries at
        once what failed before."""

    def provided(self, version: FunctionVersion) -> FloorView:
        """What there is of them."""


class NoProvider:
    """A registry without environments, in which nothing is ever ready."""

    def provide(self, version: FunctionVersion, count: int) -> None:
        """Forgets it."""

    def provided(self, version: FunctionVersion) -> FloorView:
        return FloorView()


class AllocationStatus(StrEnum):
    """Source: service model, shape ProvisionedConcurrencyStatusEnum."""

    IN_PROGRESS = "IN_PROGRESS"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One configuration and how far it has got. ``reason`` is the StatusReason of a failure."""

    qualifier: str
    config: ProvisionedConcurrency
    available: int
    status: AllocationStatus
    reason: str | None = None


class Provisioned:
    """The operations on provisioned concurrency. ``restore`` once the registry has loaded."""

    def __init__(
        self,
        catalog: Catalog,
        mutations: Mutations,
        provider: Provider,
        account_limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._provider = provider
        self._account_limit = account_limit
        self._clock = clock
        self._provisioned: set[FunctionKey] = set()  # the few of the many that are looked at often
        catalog.watch(self._reconcile)

    def restore(self) -> None:
        """Asks for all environments anew, after a start of the platform."""
        for function in self._catalog.everything():
            self._reconcile(None, function)

    def get(self, key: FunctionKey, qualifier: str) -> Allocation:
        """ProvisionedConcurrencyConfigNotFound; ResourceNotFound when there is no such version or
        alias."""
        _check_published(qualifier)
        function = self._find(key, qualifier)
        if qualifier not in function.provisioned:
            raise ProvisionedConcurrencyConfigNotFound(
                "No Provisioned Concurrency Config found for this function"
            )
        return self._allocations(function)[qualifier]

    def all(self, key: FunctionKey) -> list[Allocation]:
        """Those of one function, by qualifier."""
        return list(self._allocations(self._catalog.get(key)).values())

    def has_place(self, key: FunctionKey, qualifier: str) -> bool:
        """Whether there is such a version or alias to provision."""
        function = self._catalog.find(key)
        return function is not None and (
            qualifier in function.versions or qualifier in function.aliases
        )

    def shares(self) -> Iterator[tuple[FunctionKey, str, Mapping[str, int]]]:
        """Every configuration there is: function, qualifier, and environments by version. Asked
        for every second, however many functions have none."""
        for function in map(self._catalog.get, self._provisioned):
            for qualifier in function.provisioned:
                yield function.key, qualifier, divide(function, qualifier)

    async def put(self, key: FunctionKey, qualifier: str, amount: int) -> Allocation:
        """Sets the configuration of a version or alias. InvalidParameterValue when there is not so
        much concurrency left; ResourceConflict between a version and an alias of it."""
        if qualifier == LATEST:
            raise _unpublished()
        return await self._mutations.carry_out(self._put(key, qualifier, amount))

    async def delete(self, key: FunctionKey, qualifier: str) -> None:
        """Deleting what does not exist succeeds, as on AWS."""
        _check_published(qualifier)
        await self._mutations.carry_out(self._delete(key, qualifier))

    async def _put(self, key: FunctionKey, qualifier: str, amount: int) -> Allocation:
        async with self._mutations.lock(key):
            function = self._find(key, qualifier)
            alias = function.aliases.get(qualifier)
            if alias is None:
                _check_version(function, qualifier)
            else:
                check_alias(function, alias)
                if alias.weights:
                    raise InvalidParameterValue(
                        "Alias with weights can not be used with Provisioned Concurrency"
                    )
            self._check_amount(function, qualifier, amount)
            config = ProvisionedConcurrency(
                requested=amount, last_modified=_format_seconds(self._clock())
            )
            after = replace(function, provisioned={**function.provisioned, qualifier: config})
            await self._catalog.commit(function, after)
            for number in divide(after, qualifier):
                # Once more, in case that the same was asked for before and has failed.
                self._provider.provide(after.versions[number], floors(after)[number])
            return replace(
                self._allocations(after)[qualifier],
                status=AllocationStatus.IN_PROGRESS,
                reason=None,
            )

    async def _delete(self, key: FunctionKey, qualifier: str) -> None:
        async with self._mutations.lock(key):
            function = self._find(key, qualifier)
            if qualifier in function.provisioned:
                left = without(function.provisioned, qualifier)
                await self._catalog.commit(function, replace(function, provisioned=left))

    def _find(self, key: FunctionKey, qualifier: str) -> Function:
        function = self._catalog.find(key)
        if function is None or not has_qualifier(function, qualifier):
            raise missing_qualifier(key, qualifier)
        return function

    def _check_amount(self, function: Function, qualifier: str, amount: int) -> None:
        before = function.provisioned.get(qualifier)
        others = function.provisioned_total - (0 if before is None else before.requested)
        if function.reserved_concurrency is not None:
            if others + amount > function.reserved_concurrency:
                raise InvalidParameterValue(
                    "Requested Provisioned Concurrency should not be greater than the"
                    " reservedConcurrentExecution for function"
                )
            return
        account, region, _ = function.key
        elsewhere = self._catalog.world(account, region).set_aside - function.set_aside
        unreserved = self._account_limit - elsewhere - others
        if amount > unreserved:
            raise InvalidParameterValue(
                "Specified ConcurrentExecutions for function is greater than account's unreserved"
                f" concurrency [{unreserved}]."
            )
        if unreserved - amount < limits.UNRESERVED_MIN:
            raise InvalidParameterValue(
                "Specified ConcurrentExecutions for function decreases account's"
                " UnreservedConcurrentExecution below its minimum value of"
                f" [{limits.UNRESERVED_MIN}]."
            )

    def _allocations(self, function: Function) -> dict[str, Allocation]:
        """By qualifier, in order. What a version has goes to one configuration after another."""
        views = {
            number: self._provider.provided(function.versions[number])
            for number in floors(function)
        }
        spare = {number: view.ready for number, view in views.items()}
        allocations = {}
        for qualifier, config in sorted(function.provisioned.items()):
            available = 0
            reason = None
            for number, count in divide(function, qualifier).items():
                taken = min(count, spare[number])
                spare[number] -= taken
                available += taken
                if taken < count:
                    reason = reason or views[number].failure
            allocations[qualifier] = Allocation(
                qualifier=qualifier,
                config=config,
                available=available,
                status=_status(available == config.requested, reason),
                reason=reason,
            )
        return allocations

    def _reconcile(self, before: Function | None, after: Function | None) -> None:
        """After each change of a function: tells the provider which floors have changed, and which
        are to stand on another isolation."""
        if after is not None and after.provisioned:
            self._provisioned.add(after.key)
        elif before is not None:
            self._provisioned.discard(before.key)
        old = {} if before is None else floors(before)
        new = {} if after is None else floors(after)
        is_elsewhere = (
            before is not None
            and after is not None
            and before.latest.isolation is not after.latest.isolation
        )
        for number in old.keys() | new.keys():
            count = new.get(number, 0)
            if is_elsewhere or count != old.get(number, 0):
                owner = after if after is not None and number in after.versions else before
                assert owner is not None
                self._provider.provide(owner.versions[number], count)


def check_alias(function: Function, alias: Alias) -> None:
    """Whether an alias with provisioned concurrency may point where it points."""
    if alias.version == LATEST:
        raise _unpublished()
    for number in (alias.version, *alias.weights):
        if number in function.provisioned:
            raise ResourceConflict(
                "Alias can't be used for Provisioned Concurrency configuration on an already"
                " Provisioned version"
            )
        _check_kind(function.versions[number])


def _check_version(function: Function, number: str) -> None:
    for name, alias in function.aliases.items():
        if name in function.provisioned and number in (alias.version, *alias.weights):
            raise ResourceConflict("Version is pointed by a Provisioned Concurrency alias")
    _check_kind(function.versions[number])


def _check_kind(version: FunctionVersion) -> None:
    """Source: the pages on SnapStart and tenant isolation of the guide; the sentences are firelet's
    own."""
    if version.is_per_tenant:
        raise InvalidParameterValue(
            "Provisioned Concurrency is not supported for functions with tenancy configuration."
        )
    if version.snap_start != "None":
        raise InvalidParameterValue(
            "Provisioned Concurrency is not supported for functions with SnapStart enabled."
        )


def _check_published(qualifier: str) -> None:
    if qualifier == LATEST:
        raise InvalidParameterValue(
            "The function resource provided must be an alias or a published version."
        )


def _unpublished() -> InvalidParameterValue:
    return InvalidParameterValue(
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    )


def _status(is_complete: bool, reason: str | None) -> AllocationStatus:
    if is_complete:
        return AllocationStatus.READY
    return AllocationStatus.IN_PROGRESS if reason is None else AllocationStatus.FAILED


def _format_seconds(epoch_s: float) -> str:
    """``2026-11-23T07:00:00+0000``, as in AWS's examples of these operations."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime(epoch_s))
