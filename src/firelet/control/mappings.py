"""Event source mappings: create, read, list, update, delete.

A change is checked, committed in its transitional state and answered; then the pollers follow it,
and the state settles. A mapping outlives its function, as on AWS. The rules of each kind of source
are in ``control.source_checks``; the pollers are behind ``Pollers``.
Called by ``frontend.mappings``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from firelet.control.catalog import Catalog
from firelet.control.mapping_catalog import MappingCatalog
from firelet.control.mapping_tags import MappingTags
from firelet.control.mutations import Mutations
from firelet.control.source_checks import check_new, check_options, check_update
from firelet.control.sources import RULES, fill_defaults, find_kind, merge_options
from firelet.control.tags import check_tags
from firelet.control.targets import find_version
from firelet.model.errors import (
    InvalidParameterValue,
    ResourceConflict,
    ResourceInUse,
    ResourceNotFound,
)
from firelet.model.function import FunctionKey
from firelet.model.mapping import (
    EventSourceMapping,
    MappingEvent,
    MappingKey,
    MappingState,
    NoTransition,
    PollingOptions,
    SourceKind,
    advance,
    is_settled,
)


class Pollers(Protocol):
    """The side that reads sources."""

    async def follow(self, mapping: EventSourceMapping) -> None:
        """Polls from now on as ``mapping`` says, which is not at all unless it is enabled and not
        being deleted. Returns once that is so."""


class NoPollers:
    """A platform that reads no sources: whatever a mapping says is so at once."""

    async def follow(self, mapping: EventSourceMapping) -> None:
        """Nothing to begin or to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMapping:
    """A mapping to create, in an account and region. ``servers`` are those of a self-managed
    Kafka, which has no ``source_arn``."""

    account: str
    region: str
    source_arn: str | None = None
    servers: tuple[str, ...] = ()
    function: FunctionKey
    qualifier: str | None = None
    options: PollingOptions = field(default_factory=PollingOptions)
    is_enabled: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingChange:
    """What an update gives; None and options that are None stay as they are."""

    function: tuple[FunctionKey, str | None] | None = None
    options: PollingOptions = field(default_factory=PollingOptions)
    is_enabled: bool | None = None


class Mappings:
    """The operations on mappings. ``load``, then ``restore`` once functions are there too.

    ``clock`` gives epoch seconds; ``patience_s`` is how long a change waits for the one before it
    to settle.
    """

    def __init__(
        self,
        mappings: MappingCatalog,
        functions: Catalog,
        pollers: Pollers,
        clock: Callable[[], float],
        patience_s: float,
    ) -> None:
        self._mappings = mappings
        self._functions = functions
        self._pollers = pollers
        self._clock = clock
        self._patience_s = patience_s
        self._mutations = Mutations()
        self.tags = MappingTags(mappings, self._mutations)
        self._settling: dict[MappingKey, asyncio.Event] = {}

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread."""
        self._mappings.load()

    def restore(self) -> None:
        """Lets the pollers follow every mapping, after a start of the platform."""
        for mapping in self._mappings.everything():
            self._start_to_settle(mapping)

    async def close(self) -> None:
        """Waits for the changes that are under way."""
        await self._mutations.close()

    def get(self, key: MappingKey) -> EventSourceMapping:
        """ResourceNotFound."""
        mapping = self._mappings.find(key)
        if mapping is None:
            raise ResourceNotFound("The resource you requested does not exist.")
        return mapping

    def all(
        self,
        account: str,
        region: str,
        source: str | None = None,
        function_arn: str | None = None,
    ) -> Iterator[EventSourceMapping]:
        """The mappings of one account and region by UUID, or those of one source or function.
        Lazy: whoever wants one page does not pay for all. Not to be kept over an ``await``."""
        if source is None:
            found = self._mappings.all(account, region)
        else:
            found = iter(self._mappings.reading(account, region, source))
        if function_arn is None:
            return found
        return (item for item in found if item.function_arn == function_arn)

    async def create(self, new: NewMapping) -> EventSourceMapping:
        """The mapping, Creating. InvalidParameterValue; ResourceConflict when the same source is
        mapped to the same function already."""
        kind = find_kind(new.source_arn, new.servers)
        now = self._clock()
        check_new(kind, new.options, new.source_arn, now)
        check_tags(new.tags)
        self._check_function(new.function, new.qualifier)
        name = str(uuid.uuid4())
        rules = RULES[kind]
        mapping = EventSourceMapping(
            account=new.account,
            region=new.region,
            uuid=name,
            kind=kind,
            source_arn=new.source_arn,
            servers=new.servers,
            function=new.function,
            qualifier=new.qualifier,
            options=fill_defaults(kind, new.options, name),
            is_enabled=new.is_enabled,
            state_reason=rules.state_reason,
            last_result=rules.first_result,
            last_modified=now,
            tags=dict(new.tags),
        )
        await self._mutations.carry_out(self._create(mapping))
        return mapping

    async def update(self, key: MappingKey, change: MappingChange) -> EventSourceMapping:
        """The mapping in its transitional state. ResourceInUse while another change of it is
        under way."""
        self.get(key)
        await self._wait_until_settled(key)
        return await self._mutations.carry_out(self._update(key, change))

    async def delete(self, key: MappingKey) -> EventSourceMapping:
        """The mapping, Deleting. ResourceInUse while a change of it is under way."""
        self.get(key)
        await self._wait_until_settled(key)
        return await self._mutations.carry_out(self._delete(key))

    async def _create(self, mapping: EventSourceMapping) -> None:
        async with self._mutations.lock(mapping.key):
            self._check_unique(mapping)
            await self._mappings.commit(None, mapping)
            self._start_to_settle(mapping)

    async def _update(self, key: MappingKey, change: MappingChange) -> EventSourceMapping:
        async with self._mutations.lock(key):
            before = self.get(key)
            check_update(before.options, change.options)
            options = merge_options(before.options, change.options)
            check_options(before.kind, options)
            if change.options.pollers is not None:
                options = fill_defaults(before.kind, options, before.uuid)
            after = replace(before, options=options)
            if change.function is not None:
                self._check_function(*change.function)
                function, qualifier = change.function
                after = replace(after, function=function, qualifier=qualifier)
                self._check_unique(after)
            if change.is_enabled is not None:
                after = replace(after, is_enabled=change.is_enabled)
            after = self._advanced(after, _wish(before, after), "update")
            await self._mappings.commit(before, after)
            self._start_to_settle(after)
            return after

    async def _delete(self, key: MappingKey) -> EventSourceMapping:
        async with self._mutations.lock(key):
            before = self.get(key)
            after = self._advanced(before, MappingEvent.DELETE, "delete")
            await self._mappings.commit(before, after)
            self._start_to_settle(after)
            return after

    def _start_to_settle(self, mapping: EventSourceMapping) -> None:
        if not is_settled(mapping.state):
            self._settling[mapping.key] = asyncio.Event()
        self._mutations.start(self._settle(mapping))

    async def _settle(self, followed: EventSourceMapping) -> None:
        """Waits for the pollers, then records that they are where the mapping wants them."""
        await self._pollers.follow(followed)
        if is_settled(followed.state):
            return
        key = followed.key
        try:
            async with self._mutations.lock(key):
                before = self.get(key)
                after = None
                if before.state is not MappingState.DELETING:
                    event = MappingEvent.POLLING if before.is_enabled else MappingEvent.RESTING
                    after = self._advanced(before, event, "update")
                await self._mappings.commit(before, after)
        finally:
            self._settling.pop(key).set()

    async def _wait_until_settled(self, key: MappingKey) -> None:
        """Returns after ``patience_s`` in any case; the table of states has the last word."""
        settled = self._settling.get(key)
        if settled is not None:
            try:
                async with asyncio.timeout(self._patience_s):
                    await settled.wait()
            except TimeoutError:
                return

    def _advanced(
        self, mapping: EventSourceMapping, event: MappingEvent, verb: str
    ) -> EventSourceMapping:
        try:
            state = advance(mapping.state, event)
        except NoTransition:
            raise ResourceInUse(
                f"Cannot {verb} the event source mapping because it is in use."
            ) from None
        return replace(mapping, state=state, last_modified=self._clock())

    def _check_function(self, key: FunctionKey, qualifier: str | None) -> None:
        function = self._functions.find(key)
        if function is None or find_version(function, qualifier) is None:
            raise InvalidParameterValue("Function does not exist")

    def _check_unique(self, new: EventSourceMapping) -> None:
        for other in self._mappings.rivals(new):
            if other.function_arn == new.function_arn and _has_same_records(other, new):
                raise ResourceConflict(_describe_duplicate(other, new))


def _wish(before: EventSourceMapping, after: EventSourceMapping) -> MappingEvent:
    if before.is_enabled == after.is_enabled:
        return MappingEvent.UPDATE
    return MappingEvent.ENABLE if after.is_enabled else MappingEvent.DISABLE


def _has_same_records(one: EventSourceMapping, other: EventSourceMapping) -> bool:
    """Of the same source: brokers hold topics, queues and collections beside each other."""
    if one.options.documentdb != other.options.documentdb:
        return False
    for names, others in (
        (one.options.topics, other.options.topics),
        (one.options.queues, other.options.queues),
    ):
        if names is not None and others is not None and not set(names) & set(others):
            return False
    return True


def _describe_duplicate(there: EventSourceMapping, new: EventSourceMapping) -> str:
    """Recorded for queues, streams and Kafka; the others are worded as Kafka is."""
    advice = f"Please update or delete the existing mapping with UUID {there.uuid}"
    _, _, name = new.function
    if new.kind in (SourceKind.SQS, SourceKind.SQS_FIFO):
        return (
            f'An event source mapping with SQS arn (" {new.source_arn} ") and function'
            f' (" {name} ") already exists. {advice}'
        )
    if new.kind in (SourceKind.KINESIS, SourceKind.DYNAMODB):
        return (
            f'The event source arn (" {new.source_arn} ") and function (" {name} ") provided'
            f" mapping already exists. {advice}"
        )
    parts = [
        f'An event source mapping with event source ("{",".join(new.sources)}")',
        f'function ("{new.function_arn}")',
    ]
    for label, names in (("topics", new.options.topics), ("queues", new.options.queues)):
        if names is not None:
            parts.append(f'{label} ("{",".join(names)}")')
    return f"{', '.join(parts)} already exists. {advice}"
