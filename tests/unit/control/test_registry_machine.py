"""The registry against what is on its disk: after whatever changes, killed at any of their writes.

After each step a second registry is read from the same documents and has to be the same to
everybody who asks. A change that was refused has changed nothing; one that was acknowledged is
there after a kill; one that was killed at a write is there as a whole or not at all. (That the
database itself keeps what it has acknowledged is for ``tests/unit/store/test_sqlite.py``.)
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from firelet.control.aliases import AliasChange
from firelet.control.code_signing import SigningSettings
from firelet.control.concurrency import AccountUsage
from firelet.control.configuration import Settings
from firelet.control.event_invoke import EventInvokeChange
from firelet.control.functions import NewCode
from firelet.control.layers import NewLayerVersion
from firelet.control.mappings import MappingChange, NewMapping
from firelet.control.registry import Registry
from firelet.control.urls import UrlSettings
from firelet.model import limits
from firelet.model.code_signing import parse_signing_arn
from firelet.model.errors import CallerError
from firelet.model.function import (
    Function,
    FunctionKey,
    FunctionVersion,
    RuntimeManagement,
    without_state,
)
from firelet.model.layer import LayerPermission, LayerVersion
from firelet.model.mapping import PollingOptions
from firelet.model.permission import Permission
from firelet.store.blobs import BlobStore
from firelet.store.documents import Delete, MemoryDocuments, Put
from registry_parts import (
    ACCOUNT,
    OTHER_ZIP,
    REGION,
    ZIP,
    FakeActivator,
    make_zip,
    new_function,
    settle,
)

PUBLISHER = f"arn:aws:signer:{REGION}:{ACCOUNT}:/signing-profiles/release/abcdefghij"
LAYER = (ACCOUNT, REGION, "shared")
LAYER_ZIP = make_zip({"python/shared.py": "x = 1\n"})

keys = st.sampled_from([(ACCOUNT, REGION, name) for name in ("ant", "bee")])
layer_keys = st.sampled_from([(ACCOUNT, REGION, name) for name in ("ant", "shared")])
qualifiers = st.sampled_from(["$LATEST", "1", "2", "3", "live", "next"])
numbers = st.sampled_from(["1", "2", "3", "4"])
aliases = st.sampled_from(["live", "next"])
tags = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=2)
packages = st.sampled_from([ZIP, OTHER_ZIP])


class Killed(BaseException):
    """The process is no more."""


class Disk(MemoryDocuments):
    """Outlives its process, which is killed at one of its writes: before it or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None  # None: it lives on
        self.keeps_the_last = False

    @property
    def is_dead(self) -> bool:
        return self.writes_left is not None and self.writes_left <= 0

    async def apply(self, changes: Sequence[Put | Delete]) -> None:
        if self.is_dead:
            raise Killed
        if self.writes_left is not None:
            self.writes_left -= 1
        if not self.is_dead or self.keeps_the_last:
            await super().apply(changes)
        if self.is_dead:
            raise Killed

    def copy(self) -> Disk:
        other = Disk()
        other._bodies = dict(self._bodies)
        return other


class Blobs(BlobStore):
    """What a killed process would still do in its ``finally``, it does not do."""

    def __init__(self, home: Path, disk: Disk) -> None:
        super().__init__(home)
        self._disk = disk

    async def delete(self, digest: str) -> None:
        if self._disk.is_dead:
            raise Killed
        await super().delete(digest)


class RegistryMachine(RuleBasedStateMachine):
    """Two functions and what hangs on them, two layers, mappings and signing configurations."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = Path(tempfile.mkdtemp(prefix="firelet-registry-"))
        self.disk = Disk()
        self.registry = self.start(self.disk)
        self.live: dict[FunctionKey, set[int]] = {}
        self.highest: Counter[FunctionKey] = Counter()
        self.kills: list[tuple[int, int, bool]] = []

    def start(self, disk: Disk) -> Registry:
        registry = Registry(
            disk,
            Blobs(self.home, disk),
            activator=FakeActivator(),
            clock=lambda: 1_795_417_200.0,
            answer_wait_s=0.0,
        )
        self.loop.run_until_complete(registry.load())
        self.loop.run_until_complete(settle(registry))
        return registry

    def do(self, change: Coroutine[Any, Any, Any]) -> None:
        """Carries out a change with all that comes of it, and compares with the disk."""
        self.arm()
        before = look(self.registry)
        is_first_write_lost = self.disk.writes_left == 1 and not self.disk.keeps_the_last
        is_refused = self.loop.run_until_complete(attempt(self.registry, change))
        if self.disk.is_dead:
            self.disk = self.disk.copy()
            self.registry = self.start(self.disk)
            is_unchanged = is_first_write_lost
        else:
            is_unchanged = is_refused
        if is_unchanged:
            assert look(self.registry) == before, "what was refused or lost has changed something"
        self.compare()

    def compare(self) -> None:
        other = self.start(self.disk.copy())
        assert look(other) == look(self.registry)
        assert missing_packages(self.registry, BlobStore(self.home)) == []
        assert counted(self.registry) == self.registry.concurrency.usage(ACCOUNT, REGION)
        self.check_numbers()

    def check_numbers(self) -> None:
        """No number of a version is ever given again, not even after the function is deleted."""
        live = {
            function.key: set(map(int, function.versions))
            for function in self.registry.functions.all(ACCOUNT, REGION)
        }
        for key, found in live.items():
            for number in sorted(found - self.live.get(key, set())):
                assert number > self.highest[key]
                self.highest[key] = number
        self.live = live

    def teardown(self) -> None:
        self.loop.run_until_complete(settle(self.registry))
        self.loop.close()
        shutil.rmtree(self.home)

    @initialize(kills=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3), st.booleans())))
    def begin(self, kills: list[tuple[int, int, bool]]) -> None:
        """After how many changes the process is killed, at which of the writes that follow, and
        whether that one is kept; then the next time."""
        self.kills = kills
        self.do(self.registry.layers.publish(NewLayerVersion(key=LAYER, package=LAYER_ZIP)))
        self.deploy((ACCOUNT, REGION, "ant"))

    def deploy(self, key: FunctionKey) -> Registry:
        """A registry in which the function is there, as a rule with two versions and an alias."""
        if not any(one.key == key for one in self.registry.functions.all(*key[:2])):
            self.do(self.registry.functions.create(new_function(key, publish=True)))
            self.do(self.registry.functions.update_code(NewCode(key=key, package=OTHER_ZIP)))
            self.do(self.registry.versions.publish(key))
            self.do(self.registry.aliases.create(key, "live", "1"))
        return self.registry

    def arm(self) -> None:
        if self.kills and self.disk.writes_left is None:
            changes, writes, keeps_the_last = self.kills[0]
            if changes > 0:
                self.kills[0] = (changes - 1, writes, keeps_the_last)
                return
            del self.kills[0]
            self.disk.writes_left = writes
            self.disk.keeps_the_last = keeps_the_last

    @rule(key=keys, package=packages, publish=st.booleans(), tags=tags, layer=st.booleans())
    def create(
        self, key: FunctionKey, package: bytes, publish: bool, tags: Any, layer: bool
    ) -> None:
        layers = (self.layer_arn,) if layer else ()
        new = new_function(key, package, publish=publish, tags=tags, layers=layers)
        self.do(self.registry.functions.create(new))

    @rule(key=keys, description=st.sampled_from(["one", "two"]), layer=st.booleans())
    def update_configuration(self, key: FunctionKey, description: str, layer: bool) -> None:
        layers = (self.layer_arn,) if layer else ()
        change = Settings(description=description, layers=layers)
        self.do(self.deploy(key).functions.update_configuration(key, change, None))

    @rule(key=keys, package=packages, publish=st.booleans())
    def update_code(self, key: FunctionKey, package: bytes, publish: bool) -> None:
        new = NewCode(key=key, package=package, publish=publish)
        self.do(self.deploy(key).functions.update_code(new))

    @rule(key=keys)
    def publish(self, key: FunctionKey) -> None:
        self.do(self.deploy(key).versions.publish(key))

    @rule(key=keys, number=numbers)
    def delete_version(self, key: FunctionKey, number: str) -> None:
        self.do(self.deploy(key).versions.delete(key, number))

    @rule(key=keys)
    def delete(self, key: FunctionKey) -> None:
        self.do(self.deploy(key).functions.delete(key))

    @rule(key=keys, name=aliases, number=numbers)
    def create_alias(self, key: FunctionKey, name: str, number: str) -> None:
        self.do(self.deploy(key).aliases.create(key, name, number))

    @rule(key=keys, name=aliases, number=numbers, other=numbers, weight=st.sampled_from([0.0, 0.5]))
    def update_alias(
        self, key: FunctionKey, name: str, number: str, other: str, weight: float
    ) -> None:
        change = AliasChange(version=number, weights={other: weight} if weight else {})
        self.do(self.deploy(key).aliases.update(key, name, change))

    @rule(key=keys, name=aliases)
    def delete_alias(self, key: FunctionKey, name: str) -> None:
        self.do(self.deploy(key).aliases.delete(key, name))

    @rule(key=keys, tags=tags, gone=st.sampled_from("abc"), is_added=st.booleans())
    def change_tags(self, key: FunctionKey, tags: Any, gone: str, is_added: bool) -> None:
        operations = self.deploy(key).tags
        self.do(operations.add(key, tags) if is_added else operations.remove(key, [gone]))

    @rule(key=keys, amount=st.sampled_from([None, 0, 7]))
    def reserve(self, key: FunctionKey, amount: int | None) -> None:
        self.do(self.deploy(key).concurrency.reserve(key, amount))

    @rule(key=keys, qualifier=qualifiers, amount=st.sampled_from([0, 1, 5]))
    def provision(self, key: FunctionKey, qualifier: str, amount: int) -> None:
        provisioned = self.deploy(key).provisioned
        if amount:
            self.do(provisioned.put(key, qualifier, amount))
        else:
            self.do(provisioned.delete(key, qualifier))

    @rule(key=keys, qualifier=st.none() | qualifiers, is_added=st.booleans())
    def permit(self, key: FunctionKey, qualifier: str | None, is_added: bool) -> None:
        permission = Permission(
            statement_id="s", action="lambda:InvokeFunction", principal="s3.amazonaws.com"
        )
        policies = self.deploy(key).policies
        if is_added:
            self.do(policies.add(key, qualifier, permission, None))
        else:
            self.do(policies.remove(key, qualifier, "s", None))

    @rule(key=keys, name=st.none() | aliases, step=st.sampled_from(["create", "update", "delete"]))
    def change_url(self, key: FunctionKey, name: str | None, step: str) -> None:
        urls = self.deploy(key).urls
        if step == "create":
            self.do(urls.create(key, name, UrlSettings(auth_type="NONE")))
        elif step == "update":
            self.do(urls.update(key, name, UrlSettings(cors={"AllowOrigins": ["*"]})))
        else:
            self.do(urls.delete(key, name))

    @rule(key=keys, qualifier=qualifiers, retries=st.sampled_from([None, 0, 1]))
    def change_event_invoke(self, key: FunctionKey, qualifier: str, retries: int | None) -> None:
        configs = self.deploy(key).event_invoke
        if retries is None:
            self.do(configs.delete(key, qualifier))
        else:
            self.do(configs.put(key, qualifier, EventInvokeChange(retries_max=retries)))

    @rule(key=keys, number=st.just("$LATEST") | numbers, mode=st.sampled_from(["Auto", "Manual"]))
    def manage_runtime(self, key: FunctionKey, number: str, mode: str) -> None:
        setting = RuntimeManagement(update_on=mode)
        self.do(self.deploy(key).runtime_management.put(key, number, setting))

    @rule(key=keys, value=st.sampled_from(["Allow", "Terminate"]))
    def allow_loops(self, key: FunctionKey, value: str) -> None:
        self.do(self.deploy(key).functions.set_recursive_loop(key, value))

    @rule(key=layer_keys, package=st.sampled_from([LAYER_ZIP, ZIP]))
    def publish_layer(self, key: FunctionKey, package: bytes) -> None:
        self.do(self.registry.layers.publish(NewLayerVersion(key=key, package=package)))

    @rule(key=layer_keys, number=st.integers(1, 3))
    def delete_layer(self, key: FunctionKey, number: int) -> None:
        self.do(self.registry.layers.delete(key, number))

    @rule(key=layer_keys, number=st.integers(1, 3), is_added=st.booleans())
    def share_layer(self, key: FunctionKey, number: int, is_added: bool) -> None:
        layers = self.registry.layers
        if is_added:
            self.do(layers.add_permission(key, number, LayerPermission("s", "*"), None))
        else:
            self.do(layers.remove_permission(key, number, "s", None))

    @rule(key=keys, qualifier=st.none() | aliases, queue=st.sampled_from("pq"), on=st.booleans())
    def create_mapping(self, key: FunctionKey, qualifier: str | None, queue: str, on: bool) -> None:
        new = NewMapping(
            account=ACCOUNT,
            region=REGION,
            source_arn=f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}",
            function=key,
            qualifier=qualifier,
            is_enabled=on,
        )
        self.do(self.deploy(key).mappings.create(new))

    @rule(which=st.integers(0, 9), size=st.sampled_from([1, 10]), on=st.none() | st.booleans())
    def update_mapping(self, which: int, size: int, on: bool | None) -> None:
        change = MappingChange(options=PollingOptions(batch_size=size), is_enabled=on)
        self.with_mapping(which, lambda key: self.registry.mappings.update(key, change))

    @rule(which=st.integers(0, 9))
    def delete_mapping(self, which: int) -> None:
        self.with_mapping(which, self.registry.mappings.delete)

    @rule(which=st.integers(0, 9), tags=tags)
    def tag_mapping(self, which: int, tags: Any) -> None:
        self.with_mapping(which, lambda key: self.registry.mappings.tags.add(key, tags))

    @rule(policy=st.sampled_from(["Warn", "Enforce"]), tags=tags)
    def create_signing(self, policy: str, tags: Any) -> None:
        new = SigningSettings(publishers=(PUBLISHER,), untrusted=policy, tags=tags)
        self.do(self.registry.code_signing.create(ACCOUNT, REGION, new))

    @rule(which=st.integers(0, 9), step=st.sampled_from(["update", "tag", "delete"]), tags=tags)
    def change_signing(self, which: int, step: str, tags: Any) -> None:
        signing = self.registry.code_signing
        arn = self.signing_arn(which)
        if arn is None:
            return
        key = parse_signing_arn(arn)
        if step == "update":
            self.do(signing.update(key, SigningSettings(description="changed", untrusted="Warn")))
        elif step == "tag":
            self.do(signing.tags.add(key, tags))
        else:
            self.do(signing.delete(key))

    @rule(key=keys, which=st.integers(0, 9), is_attached=st.booleans())
    def attach_signing(self, key: FunctionKey, which: int, is_attached: bool) -> None:
        arn = self.signing_arn(which) if is_attached else None
        self.do(self.deploy(key).code_signing.attach(key, arn))

    @property
    def layer_arn(self) -> str:
        """A layer version that may be there or not."""
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:shared:1"

    def signing_arn(self, which: int) -> str | None:
        """In an order that does not depend on ids, which are different each time."""
        signing = self.registry.code_signing
        known = sorted(
            signing.all(ACCOUNT, REGION),
            key=lambda one: (
                signing.users(one.key),
                one.untrusted,
                str(one.description),
                str(one.tags),
            ),
        )
        return known[which % len(known)].arn if known else None

    def with_mapping(self, which: int, change: Callable[[Any], Coroutine[Any, Any, Any]]) -> None:
        known = sorted(
            self.registry.mappings.all(ACCOUNT, REGION),
            key=lambda one: (one.function_arn, one.source_arn),
        )
        if known:
            self.do(change(known[which % len(known)].key))


async def attempt(registry: Registry, change: Coroutine[Any, Any, Any]) -> bool:
    """Whether the change was refused. What it began in the background has ended, too. Whether it
    was killed can be seen of the disk."""
    try:
        await change
    except CallerError:
        return True
    except Killed:
        return False
    finally:
        await settle(registry)
    return False


def look(registry: Registry) -> dict[str, Any]:
    """All that can be asked, as plain values. RevisionIds and states belong to activations, which
    are done again after a kill."""
    functions = list(registry.functions.all(ACCOUNT, REGION))
    signing = registry.code_signing.all(ACCOUNT, REGION)
    urls = [found for function in functions for found in registry.urls.all(function.key)]
    return {
        "functions": [msgspec.to_builtins(without_states(function)) for function in functions],
        "urls": [(one.url.url_id, registry.urls.find(one.url.url_id) == one) for one in urls],
        "layers": msgspec.to_builtins(all_layers(registry)),
        "mappings": msgspec.to_builtins(list(registry.mappings.all(ACCOUNT, REGION))),
        "signing": msgspec.to_builtins(signing),
        "users": {config.arn: registry.code_signing.users(config.key) for config in signing},
        "usage": registry.concurrency.usage(ACCOUNT, REGION),
    }


def without_states(function: Function) -> Function:
    return replace(
        function,
        latest=without_state(function.latest),
        versions={number: without_state(found) for number, found in function.versions.items()},
    )


def all_layers(registry: Registry) -> list[LayerVersion]:
    newest = registry.layers.latest(ACCOUNT, REGION, None, None)
    return [one for layer in newest for one in registry.layers.versions(layer.key, None, None)]


def all_versions(registry: Registry) -> list[FunctionVersion]:
    functions = registry.functions.all(ACCOUNT, REGION)
    return [one for found in functions for one in (found.latest, *found.versions.values())]


def missing_packages(registry: Registry, blobs: BlobStore) -> list[str]:
    digests = {digest for version in all_versions(registry) for digest in version.digests}
    digests |= {layer.code.digest for layer in all_layers(registry)}
    return [digest for digest in sorted(digests) if not blobs.contains(digest)]


def counted(registry: Registry) -> AccountUsage:
    """The totals of the account, by going through everything."""
    functions = list(registry.functions.all(ACCOUNT, REGION))
    sizes = [one.code.size for one in (*all_versions(registry), *all_layers(registry))]
    return AccountUsage(
        function_count=len(functions),
        code_bytes=sum(sizes),
        concurrency=limits.ACCOUNT_CONCURRENCY,
        unreserved_concurrency=(
            limits.ACCOUNT_CONCURRENCY - sum(function.set_aside for function in functions)
        ),
    )


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
