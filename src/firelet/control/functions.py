"""Create, read, update and delete functions.

Every change is checked, then committed, then activated; see ``control.activation`` for the
states. Called by ``frontend.functions``; zips have been checked by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

from firelet.control.activation import CREATING, CREATING_CODE, Activations, new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.code_signing import CodeSigning
from firelet.control.configuration import (
    SOURCE_KMS_KEY,
    LayerSource,
    Settings,
    check_settings,
    check_unzipped,
    check_version,
    find_layers,
    new_version,
    with_settings,
)
from firelet.control.difference import difference
from firelet.control.file_systems import check_file_systems, check_network
from firelet.control.image_functions import check_not_signed, check_same_type, describe_image
from firelet.control.mutations import Mutations
from firelet.control.packages import Packages, describe_package
from firelet.control.references import References
from firelet.control.signatures import with_signature
from firelet.control.tags import check_tags
from firelet.control.targets import find_version, not_found
from firelet.control.versions import check_revision, last_published, publish
from firelet.model import limits
from firelet.model.code_signing import Signature
from firelet.model.errors import CodeStorageExceeded, ResourceConflict
from firelet.model.function import (
    Code,
    Function,
    FunctionKey,
    FunctionVersion,
    LayerUse,
    S3Object,
    State,
    UpdateStatus,
)
from firelet.model.image import Image
from firelet.model.isolation import isolation_of


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFunction:
    """A function to create. ``package`` is the zip, of the object ``reference`` if it is given by
    reference, or the image that it runs; ``code_signing`` the ARN of a configuration."""

    key: FunctionKey
    settings: Settings
    package: bytes | Image
    reference: S3Object | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    publish: bool = False
    code_signing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCode:
    """Code for an existing function, as in ``NewFunction``. ``revision_id``, ``publish`` and
    ``source_key`` (SourceKMSKeyArn) as in UpdateFunctionCode."""

    key: FunctionKey
    package: bytes | Image
    reference: S3Object | None = None
    architecture: str | None = None
    source_key: str | None = None
    revision_id: str | None = None
    publish: bool = False
    is_dry_run: bool = False


class Functions:
    """The operations on whole functions. ``now`` gives LastModified; ``patience_s`` is how long
    an update waits for the one before it; ``file_systems`` are the ARNs that can be mounted."""

    def __init__(
        self,
        catalog: Catalog,
        mutations: Mutations,
        activations: Activations,
        packages: Packages,
        layers: LayerSource,
        references: References,
        signing: CodeSigning,
        now: Callable[[], str],
        patience_s: float,
        file_systems: Collection[str],
    ) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._activations = activations
        self._packages = packages
        self._layers = layers
        self._references = references
        self._signing = signing
        self._now = now
        self._patience_s = patience_s
        self._file_systems = file_systems

    def get(self, key: FunctionKey, qualifier: str | None = None) -> Function:
        """The function. ResourceNotFound names the qualifier, as AWS does."""
        return self._catalog.get(key, qualifier)

    def version(self, key: FunctionKey, qualifier: str | None = None) -> FunctionVersion:
        """The configuration that a qualifier stands for; ResourceNotFound."""
        version = find_version(self.get(key, qualifier), qualifier)
        if version is None:
            raise not_found(key, qualifier)
        return version

    def all(self, account: str, region: str, since: str = "") -> Iterator[Function]:
        """The functions of one account and region by name, from the name ``since`` on. Not to be
        kept over an ``await``."""
        return self._catalog.functions(account, region, since)

    async def create(self, new: NewFunction) -> FunctionVersion:
        """``$LATEST``, or version 1 if it was to be published; Pending."""
        return await self._answer(await self._mutations.carry_out(self._create(new)))

    async def update_code(self, new: NewCode) -> FunctionVersion:
        """``$LATEST`` with its update InProgress, or the version that was published."""
        return await self._answer(await self._mutations.carry_out(self._update_code(new)))

    async def update_configuration(
        self, key: FunctionKey, settings: Settings, revision_id: str | None
    ) -> FunctionVersion:
        """``$LATEST`` with its update InProgress."""
        return await self._answer(
            await self._mutations.carry_out(self._update_configuration(key, settings, revision_id))
        )

    async def set_recursive_loop(self, key: FunctionKey, value: str) -> None:
        """``Allow`` or ``Terminate``."""
        await self._mutations.carry_out(self._set_recursive_loop(key, value))

    async def delete(self, key: FunctionKey) -> None:
        """The function with its versions, aliases and tags. Code in use lives on until it ends."""
        await self._mutations.carry_out(self._delete(key))

    async def _answer(self, version: FunctionVersion) -> FunctionVersion:
        await self._activations.before_answer(version)
        return version

    async def _create(self, new: NewFunction) -> FunctionVersion:
        self._check_settings(new.settings)
        check_tags(new.tags)
        isolation = isolation_of(new.tags)
        layers = find_layers(new.settings.layers or (), *new.key[:2], self._layers)
        await self._references.check(layer.code for layer in layers)
        async with (
            self._kept(layers),
            self._signing.kept(new.code_signing),
            self._mutations.lock(new.key),
        ):
            if self._catalog.find(new.key) is not None:
                raise ResourceConflict(f"Function already exist: {new.key[2]}")
            signature = await self._check_signature(new.key, new.code_signing, new.package)
            await self._check_layers(new.code_signing, layers)
            async with self._held(new) as code:
                latest = replace(
                    with_signature(
                        new_version(
                            new.key,
                            new.settings,
                            code,
                            modified=self._now(),
                            revision_id=new_revision_id(),
                            image=_image_of(new.package),
                        ),
                        signature,
                    ),
                    layers=layers,
                    isolation=isolation,
                    state_reason=CREATING,
                    state_reason_code=CREATING_CODE,
                )
                check_version(latest)
                check_network(latest)
                await self._check_unzipped(latest)
                function = Function(
                    latest=latest,
                    tags=dict(new.tags),
                    next_version=self._catalog.next_version(new.key),
                    code_signing=new.code_signing,
                )
                published = None
                if new.publish:
                    function, published = publish(function, None, self._now())
                await self._commit(None, function)
            self._activations.start(latest)
            if published is not None:
                self._activations.start(published)
            return published or latest

    async def _update_code(self, new: NewCode) -> FunctionVersion:
        self.get(new.key)
        async with self._activations.when_settled(new.key, self._patience_s):
            function = self.get(new.key)
            check_revision(function.latest.revision_id, new.revision_id)
            check_same_type(function.latest, new.package)
            signature = await self._check_signature(new.key, function.code_signing, new.package)
            changes = Settings(
                architecture=new.architecture, extras={SOURCE_KMS_KEY: new.source_key}
            )
            changed = with_signature(with_settings(function.latest, changes), signature)
            changed = replace(changed, image=_image_of(new.package))
            if new.is_dry_run:
                return replace(changed, code=await _describe(new))
            async with self._held(new) as code:
                latest = replace(changed, code=code)
                await self._check_unzipped(latest)
                after = self._updated(function, latest)
                last = last_published(after) if new.publish else None
                published = None
                if new.publish and last is None:
                    after, published = publish(after, None, self._now())
                await self._commit(function, after)
            self._activations.start(after.latest)
            if published is not None:
                self._activations.start(published)
            return published or last or after.latest

    async def _update_configuration(
        self, key: FunctionKey, settings: Settings, revision_id: str | None
    ) -> FunctionVersion:
        before = self.get(key).latest
        self._check_settings(settings)
        layers = find_layers(settings.layers or (), *key[:2], self._layers)
        await self._references.check(layer.code for layer in layers)
        if before.state is State.INACTIVE:
            await self._references.check([before.code])
        async with self._kept(layers), self._activations.when_settled(key, self._patience_s):
            function = self.get(key)
            check_revision(function.latest.revision_id, revision_id)
            latest = with_settings(function.latest, settings)
            if settings.layers is not None:
                await self._check_layers(function.code_signing, layers)
                latest = replace(latest, layers=layers)
            check_version(latest)
            if settings.extras.keys() & {"FileSystemConfigs", "VpcConfig"}:
                check_network(latest, function.latest)
            await self._check_unzipped(latest)
            after = self._updated(function, latest)
            await self._commit(function, after)
            self._activations.start(after.latest)
            return after.latest

    async def _set_recursive_loop(self, key: FunctionKey, value: str) -> None:
        async with self._mutations.lock(key):
            function = self.get(key)
            await self._catalog.commit(function, replace(function, recursive_loop=value))

    async def _delete(self, key: FunctionKey) -> None:
        async with self._mutations.lock(key):
            gone = await self._catalog.commit(self.get(key), None)
            self._activations.forget(key)
            self._activations.retire(key, None, gone)

    def _check_settings(self, settings: Settings) -> None:
        check_settings(settings)
        configs = settings.extras.get("FileSystemConfigs") or ()
        check_file_systems(configs, self._file_systems)

    async def _check_layers(self, code_signing: str | None, layers: tuple[LayerUse, ...]) -> None:
        """The layers of a function are signed like its own code."""
        for layer in layers:
            path = self._packages.path(layer.code.digest)
            await self._signing.check(layer.arn, code_signing, path)

    @asynccontextmanager
    async def _held(self, new: NewFunction | NewCode) -> AsyncIterator[Code]:
        """Stores a zip until the block ends; the layers of an image are fetched when the function
        is activated, and those that are here already are kept."""
        package = new.package
        if isinstance(package, Image):
            async with self._packages.keep([layer.digest for layer in package.layers]):
                yield describe_image(package)
            return
        async with self._packages.hold(package, new.reference) as code:
            yield code

    async def _check_signature(
        self, key: FunctionKey, code_signing: str | None, package: bytes | Image
    ) -> Signature | None:
        if isinstance(package, Image):
            check_not_signed(code_signing)
            return None
        return await self._signing.check(key[2], code_signing, package)

    def _kept(self, layers: tuple[LayerUse, ...]) -> AbstractAsyncContextManager[None]:
        """A layer that is deleted before the function is written down is still there for it."""
        return self._packages.keep([layer.code.digest for layer in layers])

    async def _check_unzipped(self, version: FunctionVersion) -> None:
        if version.layers:
            code, *layers = version.digests
            check_unzipped(
                await self._packages.unzipped_bytes([code]),
                await self._packages.unzipped_bytes(layers),
            )

    def _updated(self, function: Function, latest: FunctionVersion) -> Function:
        """``$LATEST`` replaced, with its update in progress; invocations keep what they have."""
        before = function.latest
        serving = function.serving
        if before.state is State.ACTIVE and before.last_update_status is UpdateStatus.SUCCESSFUL:
            serving = before
        in_progress = replace(
            latest,
            last_modified=self._now(),
            revision_id=new_revision_id(),
            last_update_status=UpdateStatus.IN_PROGRESS,
            last_update_reason=CREATING,
            last_update_reason_code=CREATING_CODE,
        )
        return replace(function, latest=in_progress, serving=serving)

    async def _commit(self, before: Function | None, after: Function) -> None:
        """Within the account's code storage."""
        account, region, _ = after.key
        used = self._catalog.world(account, region).code_bytes
        grown = difference(before, after).code_bytes
        if grown > 0 and used + grown > limits.CODE_STORAGE_MAX_BYTES:
            raise CodeStorageExceeded("Code storage limit exceeded.")
        await self._packages.release(await self._catalog.commit(before, after))


def _image_of(package: bytes | Image) -> Image | None:
    return package if isinstance(package, Image) else None


async def _describe(new: NewCode) -> Code:
    if isinstance(new.package, Image):
        return describe_image(new.package)
    return await asyncio.to_thread(describe_package, new.package, new.reference)
