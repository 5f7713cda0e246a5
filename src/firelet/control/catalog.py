"""The registry's memory: every function of every account and region, and its durable copy.

A change is in the store before it is in memory, and in memory before anyone is told of it.
What it is not: rules about functions; those are with the nouns (``functions``, ``versions`` …).
``commit`` is called with the function's lock held (see ``control.mutations``).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from firelet.control import records
from firelet.control.difference import Difference, difference
from firelet.control.targets import Target, find_target, not_found
from firelet.model.function import Function, FunctionKey, FunctionVersion
from firelet.store.documents import DocumentStore

# Gets a function before and after a change of it.
Watcher = Callable[["Function | None", "Function | None"], None]


class Entry:
    """One function and the targets that were asked for. A change replaces the whole entry, which
    is how what was resolved before it is forgotten."""

    __slots__ = ("_targets", "function")

    def __init__(self, function: Function) -> None:
        self.function = function
        self._targets: dict[str | None, Target] = {}

    def target(self, qualifier: str | None) -> Target | None:
        target = self._targets.get(qualifier)
        if target is None:
            target = find_target(self.function, qualifier)
            if target is not None:
                self._targets[qualifier] = target
        return target


@dataclass(slots=True)
class World:
    """One account in one region. ``names`` are sorted, so that a page of a list does not look at
    all functions; ``code_bytes`` counts each version, as AWS does; ``set_aside`` is
    reserved and provisioned concurrency."""

    names: list[str] = field(default_factory=list)
    function_count: int = 0
    code_bytes: int = 0
    set_aside: int = 0


class Catalog:
    """All functions. ``load`` first."""

    def __init__(self, documents: DocumentStore) -> None:
        self._documents = documents
        self._entries: dict[FunctionKey, Entry] = {}
        self._worlds: defaultdict[tuple[str, str], World] = defaultdict(World)
        self._references: Counter[str] = Counter()
        self._numbering: dict[FunctionKey, int] = {}
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Calls ``watcher`` after each change, with the function before and after it."""
        self._watchers.append(watcher)

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread."""
        versions: defaultdict[FunctionKey, dict[str, FunctionVersion]] = defaultdict(dict)
        for text, body in self._documents.load(records.VERSION):
            version = records.decode_version(body)
            versions[records.parse_key(text)][version.version] = version
        for text, body in self._documents.load(records.NUMBERING):
            self._numbering[records.parse_key(text)] = records.decode_number(body)
        for text, body in self._documents.load(records.FUNCTION):
            published = versions[records.parse_key(text)]
            ordered = {number: published[number] for number in sorted(published, key=int)}
            function = replace(records.decode_function(body), versions=ordered)
            change = difference(None, function)
            self._count(change)
            self._references.update(change.entered_digests)
            self._enter(function)

    def entry(self, key: FunctionKey) -> Entry | None:
        return self._entries.get(key)

    def find(self, key: FunctionKey) -> Function | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.function

    def get(self, key: FunctionKey, qualifier: str | None = None) -> Function:
        """ResourceNotFound, with the qualifier that was asked for, when there is no function."""
        entry = self._entries.get(key)
        if entry is None:
            raise not_found(key, qualifier)
        return entry.function

    def functions(self, account: str, region: str, since: str = "") -> Iterator[Function]:
        """The functions of one account and region by name, from the name ``since`` on. Lazy:
        whoever wants one page does not pay for all. Not to be kept over an ``await``."""
        world = self._worlds.get((account, region))
        names = [] if world is None else world.names
        wanted = range(bisect_left(names, since), len(names))
        return (self._entries[account, region, names[at]].function for at in wanted)

    def everything(self) -> Iterator[Function]:
        """All functions of all accounts and regions."""
        return (entry.function for entry in self._entries.values())

    def world(self, account: str, region: str) -> World:
        """The totals of one account and region, changes under way included."""
        return self._worlds.get((account, region)) or World()

    def count_code(self, account: str, region: str, size: int) -> None:
        """Code storage, in bytes, of what is not a function: a layer version that is published,
        or with a negative size one that is deleted."""
        self._worlds[account, region].code_bytes += size

    def next_version(self, key: FunctionKey) -> int:
        """The first version number of a new function: never one that an earlier function of the
        same name has used. Source: AWS, introduction to versions."""
        return self._numbering.get(key, 1)

    def is_referenced(self, digest: str) -> bool:
        """Whether any version of any function needs this zip."""
        return self._references[digest] > 0

    async def commit(self, before: Function | None, after: Function | None) -> list[str]:
        """Makes one change durable, then visible. Returns the digests that ``before`` referred to
        and nothing refers to any more.

        The totals change first, so that what is checked against a limit just before the commit
        cannot be passed by two commits at once.
        """
        change = difference(before, after)
        self._count(change)
        self._references.update(change.entered_digests)
        try:
            await self._documents.apply(list(records.changes(change)))
        except BaseException:
            self._count(change, sign=-1)
            self._forget(change.entered_digests)
            raise
        if after is not None:
            self._enter(after)
        elif before is not None:
            del self._entries[before.key]
            names = self._worlds[before.key[:2]].names
            del names[bisect_left(names, before.key[2])]
            if before.next_version > 1:
                self._numbering[before.key] = before.next_version
        for watcher in self._watchers:
            watcher(before, after)
        return self._forget(change.left_digests)

    def _enter(self, function: Function) -> None:
        key = function.key
        if key not in self._entries:
            insort(self._worlds[key[:2]].names, key[2])
        self._entries[key] = Entry(function)

    def _count(self, change: Difference, sign: int = 1) -> None:
        function = change.after or change.before
        if function is not None:
            world = self._worlds[function.key[:2]]
            world.function_count += sign * change.functions
            world.code_bytes += sign * change.code_bytes
            world.set_aside += sign * change.set_aside

    def _forget(self, digests: list[str]) -> list[str]:
        self._references.subtract(digests)
        gone = [digest for digest in set(digests) if not self._references[digest]]
        for digest in gone:
            del self._references[digest]
        return gone
