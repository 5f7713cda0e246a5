"""The registry: every function of this platform, and what a name stands for right now.

The facade over the nouns (``functions``, ``versions``, ``aliases``, ``policies``, ``urls`` …)
that change things. ``resolve`` is on the path of every invocation: dictionary look-ups in memory.
Called by the frontend and by the invoke path; made by ``app``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from firelet.control.activation import Activations, Activator, is_unfinished
from firelet.control.aliases import Aliases
from firelet.control.catalog import Catalog
from firelet.control.code_signing import CodeSigning
from firelet.control.concurrency import Concurrency
from firelet.control.event_invoke import EventInvokeConfigs
from firelet.control.functions import Functions
from firelet.control.layer_catalog import LayerCatalog
from firelet.control.layers import Layers
from firelet.control.mapping_catalog import MappingCatalog
from firelet.control.mappings import Mappings, NoPollers, Pollers
from firelet.control.mutations import Mutations
from firelet.control.packages import Packages
from firelet.control.policies import ResourcePolicies
from firelet.control.provisioned import NoProvider, Provider, Provisioned
from firelet.control.references import NoSourceObjects, References, SourceObjects
from firelet.control.runtime_management import RuntimeManagements
from firelet.control.tags import Tags
from firelet.control.targets import Resolved, function_key, not_found
from firelet.control.urls import FunctionUrls
from firelet.control.versions import Versions
from firelet.model import limits
from firelet.model.arn import LATEST, FunctionRef
from firelet.store.blobs import BlobStore
from firelet.store.documents import DocumentStore

__all__ = ["Activator", "Pollers", "Provider", "Registry", "Resolved"]


class Registry:
    """``load`` before anything else, ``close`` before the stores are closed."""

    def __init__(
        self,
        documents: DocumentStore,
        blobs: BlobStore,
        *,
        activator: Activator,
        clock: Callable[[], float] = time.time,
        provider: Provider | None = None,
        pollers: Pollers | None = None,
        account_concurrency: int = limits.ACCOUNT_CONCURRENCY,
        update_wait_s: float = limits.UPDATE_WAIT_S,
        answer_wait_s: float = limits.ANSWER_WAIT_S,
        file_systems: Collection[str] = (),
        signing_trust: Collection[str] = (),
        objects: SourceObjects | None = None,
    ) -> None:
        self._catalog = Catalog(documents)
        layers = LayerCatalog(documents)
        self._mutations = Mutations()
        packages = Packages(
            blobs, lambda digest: self.is_code_needed(digest) or layers.is_referenced(digest)
        )
        self._activations = Activations(
            activator, self._catalog, self._mutations, packages, answer_wait_s
        )

        def now() -> str:
            return format_last_modified(clock())

        self.code_signing = CodeSigning(
            documents, self._catalog, self._mutations, now, clock, signing_trust
        )
        self.references = References(self._catalog, self._mutations, objects or NoSourceObjects())
        self.layers = Layers(layers, self._catalog, packages, now)
        self.functions = Functions(
            self._catalog,
            self._mutations,
            self._activations,
            packages,
            self.layers,
            self.references,
            self.code_signing,
            now,
            update_wait_s,
            file_systems,
        )
        self.versions = Versions(
            self._catalog, self._mutations, self._activations, now, update_wait_s
        )
        self.aliases = Aliases(self._catalog, self._mutations)
        self.tags = Tags(self._catalog, self._mutations, self._activations)
        self.concurrency = Concurrency(self._catalog, self._mutations, account_concurrency)
        self.provisioned = Provisioned(
            self._catalog, self._mutations, provider or NoProvider(), account_concurrency, clock
        )
        self.mappings = Mappings(
            MappingCatalog(documents),
            self._catalog,
            pollers or NoPollers(),
            clock,
            update_wait_s,
        )
        self.policies = ResourcePolicies(self._catalog, self._mutations)
        self.urls = FunctionUrls(self._catalog, self._mutations, lambda: format_url_time(clock()))
        self.event_invoke = EventInvokeConfigs(self._catalog, self._mutations, clock)
        self.runtime_management = RuntimeManagements(self._catalog, self._mutations)

    async def load(self) -> None:
        """Reads the store, then activates what a crash left unfinished."""
        await asyncio.to_thread(self._catalog.load)
        await asyncio.to_thread(self.layers.load)
        await asyncio.to_thread(self.mappings.load)
        await asyncio.to_thread(self.code_signing.load)
        self.urls.load()
        for function in list(self._catalog.everything()):
            for version in (function.latest, *function.versions.values()):
                if is_unfinished(version):
                    self._activations.start(version)
        self.mappings.restore()

    async def close(self) -> None:
        """Waits for the changes and activations that are under way."""
        await self.layers.close()
        await self.mappings.close()
        await self.code_signing.close()
        await self._mutations.close()

    def resolve(self, account: str, region: str, ref: FunctionRef) -> Resolved:
        """What an invocation by this reference runs; the weights of an alias are drawn here.

        ResourceNotFound; AccessDenied for a function of another account.
        """
        key = function_key(account, region, ref, "InvokeFunction")
        entry = self._catalog.entry(key)
        target = None if entry is None else entry.target(ref.qualifier)
        if target is None:
            raise not_found(key, ref.qualifier or LATEST)
        if target.second is not None and random.random() < target.weight:
            return target.second
        return target.first

    def reserved_total(self, account: str, region: str) -> int:
        """What an account in a region has set aside for some of its functions."""
        return self.concurrency.reserved_total(account, region)

    def is_code_needed(self, digest: str) -> bool:
        """Whether any version of any function runs from this package, be it as its code or as a
        layer; for sweeping at start-up what is extracted."""
        return self._catalog.is_referenced(digest)

    async def settled(self, resolved: Resolved, timeout_s: float) -> None:
        """Returns when no activation of that version is under way, or after ``timeout_s``."""
        await self._activations.wait(resolved.function_key, resolved.version.version, timeout_s)


def format_last_modified(epoch_s: float) -> str:
    """``2026-11-23T07:00:00.000+0000``, the one timestamp that Lambda sends as a string."""
    moment = datetime.fromtimestamp(epoch_s, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}+0000"


def format_url_time(epoch_s: float) -> str:
    """``2026-11-23T07:00:00.000000Z``, as the operations on function URLs say when."""
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
