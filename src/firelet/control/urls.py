"""Function URLs: which functions and aliases have one, and whose an address is.

The rules and the records; the serving of addresses is the gateway's, which asks ``find``.
Called by ``frontend.urls``.
Source: docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html; recorded messages.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.qualifiers import qualified_arn, without
from firelet.model.arn import LATEST, FunctionRef
from firelet.model.errors import InvalidParameterValue, ResourceConflict, ResourceNotFound
from firelet.model.function import Function, FunctionKey
from firelet.model.function_url import FunctionUrl

_ID_BYTES = 20  # 32 characters in base 32


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSettings:
    """What a caller sets. None: as it was, or the default; an empty ``cors`` takes CORS away."""

    auth_type: str | None = None
    cors: Mapping[str, Any] | None = None
    invoke_mode: str | None = None


@dataclass(frozen=True, slots=True)
class FoundUrl:
    """A function URL and what it belongs to; ``qualifier`` is an alias, or None."""

    key: FunctionKey
    qualifier: str | None
    url: FunctionUrl

    @property
    def arn(self) -> str:
        """FunctionArn, with the alias if it is one's."""
        return qualified_arn(self.key, self.qualifier)

    @property
    def ref(self) -> FunctionRef:
        """What an invocation through this URL runs."""
        account, region, name = self.key
        return FunctionRef(name, self.qualifier, account, region)


class FunctionUrls:
    """The operations on function URLs. ``load`` once the catalog has been read; ``now`` gives
    timestamps. A ``qualifier`` of None means the function itself."""

    def __init__(self, catalog: Catalog, mutations: Mutations, now: Callable[[], str]) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._now = now
        self._by_id: dict[str, FoundUrl] = {}
        catalog.watch(self._follow)

    def load(self) -> None:
        """Learns the addresses that the store holds."""
        for function in self._catalog.everything():
            self._follow(None, function)

    def find(self, url_id: str) -> FoundUrl | None:
        """Whose address it is; None when it is nobody's (any more)."""
        return self._by_id.get(url_id)

    def get(self, key: FunctionKey, qualifier: str | None) -> FoundUrl:
        """ResourceNotFound when there is none, or nothing that it could belong to."""
        function = self._catalog.find(key)
        if function is None:
            raise _no_url()
        return _find(function, qualifier)

    def all(self, key: FunctionKey) -> list[FoundUrl]:
        """The URLs of a function: its own, then those of its aliases by name."""
        function = self._catalog.find(key)
        if function is None:
            raise _no_function()
        return sorted(_found(function), key=lambda found: found.qualifier or "")

    async def create(
        self, key: FunctionKey, qualifier: str | None, settings: UrlSettings
    ) -> FoundUrl:
        """ResourceConflict when there is one. ``settings`` has an ``auth_type``."""
        return await self._mutations.carry_out(self._create(key, qualifier, settings))

    async def update(
        self, key: FunctionKey, qualifier: str | None, settings: UrlSettings
    ) -> FoundUrl:
        """What is not set stays as it was; so does the address."""
        return await self._mutations.carry_out(self._update(key, qualifier, settings))

    async def delete(self, key: FunctionKey, qualifier: str | None) -> None:
        """The address is never given out again."""
        await self._mutations.carry_out(self._delete(key, qualifier))

    async def _create(
        self, key: FunctionKey, qualifier: str | None, settings: UrlSettings
    ) -> FoundUrl:
        async with self._mutations.lock(key):
            function = self._existing(key, qualifier)
            if (qualifier or LATEST) in function.urls:
                raise ResourceConflict(
                    "Failed to create function url config for [functionArn ="
                    f" {qualified_arn(key, qualifier)}]. Error message:  FunctionUrlConfig exists"
                    " for this Lambda function"
                )
            if function.latest.is_per_tenant:
                # Source: the page on tenant isolation of the guide; the sentence is firelet's own.
                raise InvalidParameterValue(
                    "Function URLs are not supported for functions with tenancy configuration."
                )
            assert settings.auth_type is not None, "required by the service model"
            now = self._now()
            url = FunctionUrl(
                url_id=new_url_id(), auth_type=settings.auth_type, created=now, last_modified=now
            )
            return await self._put(function, qualifier, _with_settings(url, settings))

    async def _update(
        self, key: FunctionKey, qualifier: str | None, settings: UrlSettings
    ) -> FoundUrl:
        async with self._mutations.lock(key):
            function = self._existing(key, qualifier)
            url = _with_settings(_find(function, qualifier).url, settings)
            return await self._put(function, qualifier, replace(url, last_modified=self._now()))

    async def _delete(self, key: FunctionKey, qualifier: str | None) -> None:
        async with self._mutations.lock(key):
            self.get(key, qualifier)
            function = self._catalog.get(key)
            left = without(function.urls, qualifier or LATEST)
            await self._catalog.commit(function, replace(function, urls=left))

    def _existing(self, key: FunctionKey, qualifier: str | None) -> Function:
        function = self._catalog.find(key)
        if function is None or (qualifier is not None and qualifier not in function.aliases):
            raise _no_function()
        return function

    async def _put(self, function: Function, qualifier: str | None, url: FunctionUrl) -> FoundUrl:
        urls = {**function.urls, qualifier or LATEST: url}
        await self._catalog.commit(function, replace(function, urls=urls))
        return FoundUrl(function.key, qualifier, url)

    def _follow(self, before: Function | None, after: Function | None) -> None:
        """After each change of a function. Most changes are not of its URLs."""
        if before is not None and after is not None and before.urls is after.urls:
            return
        for found in _found(before):
            del self._by_id[found.url.url_id]
        for found in _found(after):
            self._by_id[found.url.url_id] = found


def new_url_id() -> str:
    """32 lower-case characters that nobody can guess."""
    return base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()


def _with_settings(url: FunctionUrl, settings: UrlSettings) -> FunctionUrl:
    return replace(
        url,
        auth_type=settings.auth_type or url.auth_type,
        cors=url.cors if settings.cors is None else dict(settings.cors) or None,
        invoke_mode=settings.invoke_mode or url.invoke_mode,
    )


def _found(function: Function | None) -> Iterator[FoundUrl]:
    if function is not None:
        for name, url in function.urls.items():
            yield FoundUrl(function.key, None if name == LATEST else name, url)


def _find(function: Function, qualifier: str | None) -> FoundUrl:
    url = function.urls.get(qualifier or LATEST)
    if url is None:
        raise _no_url()
    return FoundUrl(function.key, qualifier, url)


def _no_function() -> ResourceNotFound:
    return ResourceNotFound("Function does not exist")


def _no_url() -> ResourceNotFound:
    return ResourceNotFound("The resource you requested does not exist.")
