"""Publish, read and delete layer versions, and say who may use them.

A version never changes but for its policy; numbers only grow. Functions note the code of the
versions that they use (``model.function.LayerUse``), so that deleting one takes nothing from them.
Called by ``frontend.layers``, and through ``LayerSource`` by ``control.functions``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from firelet.control.activation import new_revision_id
from firelet.control.catalog import Catalog
from firelet.control.layer_catalog import LayerCatalog
from firelet.control.mutations import Mutations
from firelet.control.packages import Packages
from firelet.control.policies import check_length
from firelet.control.targets import denied
from firelet.model import limits
from firelet.model.errors import (
    CodeStorageExceeded,
    InvalidParameterValue,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.function import LayerUse, S3Object
from firelet.model.layer import (
    GET_LAYER_VERSION,
    LayerKey,
    LayerPermission,
    LayerVersion,
    format_layer_arn,
    parse_layer_version_arn,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLayerVersion:
    """A layer version to publish. ``package`` is the zip, of the object ``reference`` if it is
    given by reference."""

    key: LayerKey
    package: bytes
    reference: S3Object | None = None
    description: str = ""
    license_info: str | None = None
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None


class Layers:
    """The operations on layers. Implements ``LayerSource``. ``now`` gives CreatedDate; the code
    storage that layers take is counted in ``functions``, with that of the functions."""

    def __init__(
        self,
        catalog: LayerCatalog,
        functions: Catalog,
        packages: Packages,
        now: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._functions = functions
        self._packages = packages
        self._now = now
        # Of its own: a layer may have the name of a function.
        self._mutations = Mutations()

    def load(self) -> None:
        """Reads the store. Blocking: at start-up, in a thread, after the functions."""
        self._catalog.load()
        for version in self._catalog.everything():
            self._functions.count_code(version.account, version.region, version.code.stored_bytes)

    async def close(self) -> None:
        """Waits for the changes that are under way."""
        await self._mutations.close()

    def use(self, account: str, arn: str) -> LayerUse | None:
        parsed = parse_layer_version_arn(arn)
        if parsed is None:
            return None
        key, number = parsed
        version = self._catalog.find(key, number)
        _check_access(account, key, number, version)
        return None if version is None else LayerUse(arn=arn, code=version.code)

    def get(self, account: str, key: LayerKey, number: int) -> LayerVersion:
        """A version, for a caller of ``account``: AccessDenied, ResourceNotFound."""
        _check_number(number)
        version = self._catalog.find(key, number)
        _check_access(account, key, number, version)
        if version is None:
            raise ResourceNotFound("The resource you requested does not exist.")
        return version

    def versions(
        self, key: LayerKey, runtime: str | None, architecture: str | None
    ) -> list[LayerVersion]:
        """The versions that suit, newest first."""
        return [one for one in self._catalog.versions(key) if one.suits(runtime, architecture)]

    def latest(
        self, account: str, region: str, runtime: str | None, architecture: str | None
    ) -> list[LayerVersion]:
        """The newest version that suits of each layer that has one, by name."""
        found = []
        for key in self._catalog.layers(account, region):
            found.extend(self.versions(key, runtime, architecture)[:1])
        return found

    async def publish(self, new: NewLayerVersion) -> LayerVersion:
        """The version with the next number. CodeStorageExceeded."""
        return await self._mutations.carry_out(self._publish(new))

    async def delete(self, key: LayerKey, number: int) -> None:
        """A version; one that is not there is no error."""
        _check_number(number)
        await self._mutations.carry_out(self._delete(key, number))

    async def add_permission(
        self, key: LayerKey, number: int, permission: LayerPermission, revision_id: str | None
    ) -> LayerVersion:
        """The version with one more statement. ResourceNotFound, ResourceConflict,
        PreconditionFailed, PolicyLengthExceeded."""
        return await self._mutations.carry_out(
            self._add_permission(key, number, permission, revision_id)
        )

    async def remove_permission(
        self, key: LayerKey, number: int, statement_id: str, revision_id: str | None
    ) -> None:
        """ResourceNotFound when there is no such version or statement; PreconditionFailed."""
        await self._mutations.carry_out(
            self._remove_permission(key, number, statement_id, revision_id)
        )

    def with_policy(self, key: LayerKey, number: int) -> LayerVersion:
        """A version whose policy has statements; ResourceNotFound."""
        version = self._existing(key, number)
        if not version.permissions:
            raise ResourceNotFound("No policy is associated with the given resource.")
        return version

    async def _publish(self, new: NewLayerVersion) -> LayerVersion:
        account, region, name = new.key
        hold = self._packages.hold(new.package, new.reference)
        async with self._mutations.lock(new.key), hold as code:
            used = self._functions.world(account, region).code_bytes
            if used + code.stored_bytes > limits.CODE_STORAGE_MAX_BYTES:
                raise CodeStorageExceeded("Code storage limit exceeded.")
            version = LayerVersion(
                account=account,
                region=region,
                name=name,
                number=self._catalog.next_number(new.key),
                code=code,
                description=new.description,
                license_info=new.license_info,
                runtimes=new.runtimes,
                architectures=new.architectures,
                created=self._now(),
                revision_id=new_revision_id(),
            )
            await self._catalog.put(version)
            self._functions.count_code(account, region, code.stored_bytes)
            return version

    async def _delete(self, key: LayerKey, number: int) -> None:
        async with self._mutations.lock(key):
            version = self._catalog.find(key, number)
            if version is None:
                return
            await self._catalog.remove(version)
            self._functions.count_code(key[0], key[1], -version.code.stored_bytes)
            await self._packages.release([version.code.digest])

    async def _add_permission(
        self, key: LayerKey, number: int, permission: LayerPermission, revision_id: str | None
    ) -> LayerVersion:
        async with self._mutations.lock(key):
            version = self._existing(key, number)
            _check_revision(version, revision_id)
            identity = permission.statement_id
            if identity in version.permissions:
                raise ResourceConflict(
                    f"The statement id ({identity}) provided already exists. Please provide a new"
                    " statement id, or remove the existing statement."
                )
            after = replace(
                version,
                permissions={**version.permissions, identity: permission},
                revision_id=new_revision_id(),
            )
            check_length(after.policy())
            await self._catalog.put(after)
            return after

    async def _remove_permission(
        self, key: LayerKey, number: int, statement_id: str, revision_id: str | None
    ) -> None:
        async with self._mutations.lock(key):
            version = self._existing(key, number)
            _check_revision(version, revision_id)
            if statement_id not in version.permissions:
                raise ResourceNotFound(f"Statement {statement_id} is not found in resource policy.")
            left = {sid: one for sid, one in version.permissions.items() if sid != statement_id}
            await self._catalog.put(
                replace(version, permissions=left, revision_id=new_revision_id())
            )

    def _existing(self, key: LayerKey, number: int) -> LayerVersion:
        _check_number(number)
        version = self._catalog.find(key, number)
        if version is None:
            raise ResourceNotFound(f"Layer version {format_layer_arn(key, number)} does not exist.")
        return version


def _check_number(number: int) -> None:
    if number < 1:
        raise InvalidParameterValue("Layer Version Cannot be less than 1")


def _check_access(account: str, key: LayerKey, number: int, version: LayerVersion | None) -> None:
    """Another account's layer is used by permission only, and nobody else learns if it exists."""
    if key[0] == account:
        return
    if version is None or not any(one.allows(account) for one in version.permissions.values()):
        raise denied(account, GET_LAYER_VERSION, format_layer_arn(key, number))


def _check_revision(version: LayerVersion, expected: str | None) -> None:
    if expected is not None and expected != version.revision_id:
        raise PreconditionFailed(
            "The Revision Id provided does not match the latest Revision Id. Call the"
            " GetLayerPolicy API to retrieve the latest Revision Id"
        )
