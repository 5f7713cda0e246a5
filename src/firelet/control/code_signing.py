"""Code signing configurations: who may sign the packages of the functions that have one.

Configurations are documents of their own; which function has which is the function's. Called by
``frontend.code_signing``, and by ``control.functions`` for the packages that come in.
Source: docs.aws.amazon.com/lambda/latest/dg/configuration-codesigning.html; recorded messages.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.signatures import find_signature
from firelet.control.tags import change_tags, check_added, check_tags
from firelet.model.code_signing import (
    ENFORCE,
    WARN,
    CodeSigningConfig,
    Signature,
    SigningKey,
    parse_signing_arn,
)
from firelet.model.errors import (
    CodeSigningConfigNotFound,
    CodeVerificationFailed,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.function import Function, FunctionKey
from firelet.store.documents import Delete, DocumentStore, Put

log = logging.getLogger(__name__)

KIND = "lambda.code-signing-config.v1"
_ID_DIGITS = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningSettings:
    """What a caller sets. None: as it was, or the default."""

    description: str | None = None
    publishers: tuple[str, ...] | None = None
    untrusted: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class CodeSigning:
    """The operations on configurations, and on the functions that have them. ``load`` first;
    ``now`` gives LastModified, ``clock`` epoch seconds. ``functions`` are the changes to functions.
    ``trust`` are the fingerprints of the certificates that signatures must lead to; without any,
    a package is checked for what its own certificates say."""

    def __init__(
        self,
        documents: DocumentStore,
        catalog: Catalog,
        functions: Mutations,
        now: Callable[[], str],
        clock: Callable[[], float],
        trust: Collection[str],
    ) -> None:
        self._documents = documents
        self._catalog = catalog
        self._functions = functions
        self._now = now
        self._clock = clock
        self._trust = frozenset(trust)
        self._mutations = Mutations()
        self._configs: dict[SigningKey, CodeSigningConfig] = {}
        self._users: defaultdict[str, set[FunctionKey]] = defaultdict(set)
        self.tags = SigningTags(self)
        catalog.watch(self._follow)

    def load(self) -> None:
        """Reads the store, once the catalog has. Blocking: at start-up, in a thread."""
        for _, body in self._documents.load(KIND):
            config = msgspec.json.decode(body, type=CodeSigningConfig)
            self._configs[config.key] = config
        for function in self._catalog.everything():
            self._follow(None, function)

    async def close(self) -> None:
        """Waits for the changes that are under way."""
        await self._mutations.close()

    def get(self, key: SigningKey) -> CodeSigningConfig:
        """ResourceNotFound."""
        config = self._configs.get(key)
        if config is None:
            account, region, name = key
            arn = f"arn:aws:lambda:{region}:{account}:code-signing-config:{name}"
            raise ResourceNotFound(f"The Lambda code signing configuration {arn} can not be found.")
        return config

    def all(self, account: str, region: str) -> list[CodeSigningConfig]:
        """The configurations of an account in a region, by id."""
        own = [key for key in self._configs if key[:2] == (account, region)]
        return [self._configs[key] for key in sorted(own)]

    def users(self, key: SigningKey) -> list[FunctionKey]:
        """The functions that have a configuration, by name."""
        return sorted(self._users.get(self.get(key).arn, ()))

    async def create(
        self, account: str, region: str, settings: SigningSettings
    ) -> CodeSigningConfig:
        """``settings`` has publishers. The default is to warn."""
        check_tags(settings.tags)
        assert settings.publishers is not None, "required by the service model"
        config = CodeSigningConfig(
            account=account,
            region=region,
            config_id=f"csc-{secrets.token_hex(_ID_DIGITS)[:_ID_DIGITS]}",
            description=settings.description,
            publishers=settings.publishers,
            untrusted=settings.untrusted or WARN,
            tags=dict(settings.tags),
            last_modified=self._now(),
        )
        return await self._mutations.carry_out(self._put(config))

    async def update(self, key: SigningKey, settings: SigningSettings) -> CodeSigningConfig:
        """Takes effect at the next deployment of each function that has it."""
        return await self._mutations.carry_out(self._update(key, settings))

    async def delete(self, key: SigningKey) -> None:
        """ResourceConflict while a function has it."""
        await self._mutations.carry_out(self._delete(key))

    async def change_tags(
        self, key: SigningKey, added: Mapping[str, str], removed: Iterable[str]
    ) -> None:
        """Sets some tags and removes others."""
        await self._mutations.carry_out(self._change_tags(key, added, tuple(removed)))

    def of(self, key: FunctionKey) -> str | None:
        """The ARN of the configuration that a function has."""
        return self._catalog.get(key).code_signing

    async def attach(self, key: FunctionKey, arn: str | None) -> None:
        """Gives a function a configuration, or takes it away (None)."""
        await self._functions.carry_out(self._attach(key, arn))

    @asynccontextmanager
    async def kept(self, arn: str | None) -> AsyncIterator[None]:
        """Nobody deletes that configuration until the block ends. CodeSigningConfigNotFound."""
        if arn is None:
            yield
            return
        key = parse_signing_arn(arn)
        async with self._mutations.lock(key):
            if key not in self._configs:
                raise CodeSigningConfigNotFound(
                    "The code signing configuration cannot be found. Check that the provided"
                    f" configuration is not deleted: {arn}."
                )
            yield

    async def check(
        self, function_name: str, arn: str | None, package: bytes | Path
    ) -> Signature | None:
        """Who has signed a package that is being deployed, or a layer; None for nobody.

        InvalidCodeSignature when it is not what was signed. CodeVerificationFailed when the
        configuration ``arn`` does not trust the signature and enforces that.
        """
        if arn is None:
            return None
        config = self.get(parse_signing_arn(arn))
        signature = await asyncio.to_thread(find_signature, package)
        fault = self._fault(config, signature)
        if fault is None:
            return signature
        if config.untrusted == ENFORCE:
            raise CodeVerificationFailed(
                "Lambda cannot deploy the function. The function or layer might be signed using a"
                " signature that the client is not configured to accept. Check the provided"
                f" signature for {function_name}."
            )
        log.warning(
            "untrusted package deployed: function=%s config=%s reason=%s", function_name, arn, fault
        )
        return signature

    def _fault(self, config: CodeSigningConfig, signature: Signature | None) -> str | None:
        """Why a signature that holds is not good enough; None when it is."""
        if signature is None:
            return "not signed"
        if not any(map(signature.is_by, config.publishers)):
            return "signed by a profile that is not allowed"
        if signature.expires_s is not None and signature.expires_s <= self._clock():
            return "the signature has expired"
        if self._trust and self._trust.isdisjoint(signature.chain):
            return "no certificate of the signature is trusted"
        return None

    async def _update(self, key: SigningKey, settings: SigningSettings) -> CodeSigningConfig:
        async with self._mutations.lock(key):
            before = self.get(key)
            description = settings.description
            return await self._put(
                replace(
                    before,
                    description=before.description if description is None else description,
                    publishers=settings.publishers or before.publishers,
                    untrusted=settings.untrusted or before.untrusted,
                    last_modified=self._now(),
                )
            )

    async def _delete(self, key: SigningKey) -> None:
        async with self._mutations.lock(key):
            arn = self.get(key).arn
            if self.users(key):
                raise ResourceConflict(
                    f"The code signing configuration {arn} is used by a function. Remove it from"
                    " every function before you delete it."
                )
            await self._documents.apply([Delete(KIND, "/".join(key))])
            del self._configs[key]
            self._users.pop(arn, None)

    async def _change_tags(
        self, key: SigningKey, added: Mapping[str, str], removed: tuple[str, ...]
    ) -> None:
        async with self._mutations.lock(key):
            before = self.get(key)
            await self._put(replace(before, tags=change_tags(before.tags, added, removed)))

    async def _put(self, config: CodeSigningConfig) -> CodeSigningConfig:
        body = msgspec.json.encode(config)
        await self._documents.apply([Put(KIND, "/".join(config.key), body)])
        self._configs[config.key] = config
        return config

    async def _attach(self, key: FunctionKey, arn: str | None) -> None:
        async with self.kept(arn), self._functions.lock(key):
            function = self._catalog.get(key)
            if function.code_signing != arn:
                await self._catalog.commit(function, replace(function, code_signing=arn))

    def _follow(self, before: Function | None, after: Function | None) -> None:
        """After each change of a function."""
        if before is not None and before.code_signing is not None:
            self._users[before.code_signing].discard(before.key)
        if after is not None and after.code_signing is not None:
            self._users[after.code_signing].add(after.key)


class SigningTags:
    """The tags of code signing configurations, for ``frontend.tags``."""

    def __init__(self, signing: CodeSigning) -> None:
        self._signing = signing

    def all(self, key: SigningKey) -> Mapping[str, str]:
        return self._signing.get(key).tags

    async def add(self, key: SigningKey, tags: Mapping[str, str]) -> None:
        check_added(tags)
        await self._signing.change_tags(key, tags, ())

    async def remove(self, key: SigningKey, names: Iterable[str]) -> None:
        await self._signing.change_tags(key, {}, names)
