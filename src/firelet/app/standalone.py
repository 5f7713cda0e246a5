"""The whole platform on one host: joins every port to its adapter, and starts and stops it all.

The only place that knows both sides. ``serve`` is what ``firelet up`` runs.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from firelet.app.asynchronous import QueuedRunner, QueueSink
from firelet.app.config import PlatformConfig
from firelet.app.dataplane import DataPlane, DataPlaneParts, SnapshotReserves, open_data_plane
from firelet.app.endpoint import Endpoint, EndpointParts
from firelet.app.measuring import Measuring, open_metrics
from firelet.app.references import ReferenceWatch
from firelet.app.scaling import Scaler
from firelet.app.signing import load_signing_trust
from firelet.app.web import WebRecords
from firelet.control import records
from firelet.control.counting import Counting
from firelet.control.floor import FloorView
from firelet.control.http_apis import HttpApis
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.metered import MeteredInvoker
from firelet.control.registry import Registry
from firelet.control.scaling import Scaling
from firelet.events.destinations import Destinations
from firelet.events.dispatcher import Dispatcher
from firelet.events.queue import AsyncEventQueue
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.s3source import S3CodeSource
from firelet.iam.credentials import SessionCredentials as Sessions
from firelet.iam.policies import Policies
from firelet.iam.roles import Roles
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import PlatformError
from firelet.model.function import FunctionVersion
from firelet.observe.invocation_meter import InvocationMeter
from firelet.observe.log_tables import LOG_MIGRATIONS
from firelet.observe.logs import LogStore
from firelet.sandbox import cgroups
from firelet.sandbox.host import HostFacts, probe_host
from firelet.sandbox.interpreters import named_interpreter
from firelet.store.blobs import BlobStore
from firelet.store.documents import SqliteDocuments
from firelet.store.keyfile import load_key
from firelet.store.queue import EventQueue
from firelet.store.sealed import SealedDocuments
from firelet.store.sqlite import Database
from firelet.worker.codecache import CodeCache
from firelet.worker.images.sources import ConfiguredSources
from firelet.worker.images.store import ImageStore
from firelet.worker.memory import HostMemory
from firelet.worker.node import Node

log = logging.getLogger(__name__)

_TEND_EVERY_S = 0.1
_WARM_WAIT_S = 1.0
_LOOPBACK = ("127.", "::1", "localhost")


async def serve(config: PlatformConfig, on_ready: Callable[[str], None]) -> None:
    """Runs the platform until it is cancelled. ``on_ready`` gets the endpoint's URL once it
    answers. PlatformError when the host or the configuration does not allow it."""
    check_address(config)
    facts = await asyncio.to_thread(probe_host, with_kvm=False)
    for runtime, executable in config.interpreters.items():
        facts.interpreters[runtime] = named_interpreter(runtime, executable)
    check_walls(facts, config)
    check_file_systems(config.file_systems, facts.is_rootless)
    _raise_open_files()
    async with AsyncExitStack() as stack:
        stack.enter_context(_locked(config.data_dir))
        with _uncollected():
            endpoint = await stack.enter_async_context(_assembled(config, facts))
            host, port = await endpoint.listen(config.host, config.port)
        # What start-up made stays for good: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        on_ready(f"http://{host}:{port}")
        await asyncio.Event().wait()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through ten thousand functions again and again
    while they are read: half of the time that it takes to read them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@asynccontextmanager
async def _assembled(config: PlatformConfig, facts: HostFacts) -> AsyncIterator[Endpoint]:
    """Everything in the order in which it depends on each other; closed in reverse."""
    async with AsyncExitStack() as stack:
        data = config.data_dir
        documents = await _open_documents(data)
        stack.push_async_callback(documents.close)
        blobs = BlobStore(data / "blobs")
        logs = LogStore(Database(data / "logs.db", "logs", LOG_MIGRATIONS))
        await logs.start()
        stack.push_async_callback(logs.close)
        changes = asyncio.Lock()
        policies = Policies(documents, changes)
        roles = Roles(documents, policies, changes)
        await asyncio.to_thread(policies.load)
        await asyncio.to_thread(roles.load)
        sessions = Sessions(roles.role_id_of)
        links = CodeLinks(await asyncio.to_thread(load_key, data / "link.key"), blobs)
        images = ImageStore(
            data,
            ConfiguredSources(config.images, config.registry_credentials, config.image_client),
        )
        await images.open()
        stack.push_async_callback(images.close)
        code = CodeCache(data / "code", blobs, images.blobs)
        await code.open()
        stack.push_async_callback(code.close)
        await asyncio.to_thread(cgroups.sweep)
        plane = await open_data_plane(
            stack,
            DataPlaneParts(config=config, facts=facts, code=code, logs=logs, sessions=sessions),
        )
        memory = HostMemory()
        memory_mib = memory.read().total_mib * config.memory_overcommit
        manager = Manager(
            plane,
            time.monotonic,
            memory_mib,
            SnapshotReserves(plane),
            config.environment_lifetime_s,
        )
        stack.push_async_callback(manager.close)
        counting = Counting(config.account_concurrency)
        packages = _Packages(data / "blobs", plane, images)
        registry = Registry(
            documents,
            packages,
            activator=_Activator(plane, manager, images),
            provider=_Provider(manager, counting),
            account_concurrency=config.account_concurrency,
            file_systems=config.file_systems,
            signing_trust=await asyncio.to_thread(load_signing_trust, config.signing_trust),
            objects=S3CodeSource(config.s3_endpoint, region=config.region),
        )
        await registry.load()
        # Before the first sandbox: what no function needs any more was left by a crash.
        await code.sweep(registry.is_code_needed)
        stack.push_async_callback(registry.close)
        # First, since the registry waits for its activations.
        stack.callback(images.interrupt)
        registry.provisioned.restore()
        watch = ReferenceWatch(registry.references, config.reference_look_every_s)
        watch.start()
        stack.push_async_callback(watch.close)
        latencies = Latencies()
        meter, metrics = InvocationMeter(), open_metrics(data / "metrics.db")
        measuring = Measuring(metrics, meter, registry)
        measuring.start()
        stack.push_async_callback(measuring.close)
        scaling = Scaling(documents, time.time)
        await asyncio.to_thread(scaling.load)
        http_apis = HttpApis(documents, time.time)
        await asyncio.to_thread(http_apis.load)
        web = WebRecords(documents, time.time)
        await asyncio.to_thread(web.load)
        scaler = Scaler(
            scaling, registry.provisioned, meter, metrics, in_after_s=config.scale_in_after_s
        )
        scaler.start()
        stack.push_async_callback(scaler.close)
        invoker = MeteredInvoker(
            manager, counting, registry, latencies, meter, config.stream_bytes_per_s
        )
        queue = AsyncEventQueue(EventQueue(data / "events.db"))
        stack.push_async_callback(queue.close)
        dispatcher = Dispatcher(
            queue,
            QueuedRunner(registry, invoker, meter),
            registry.event_invoke,
            Destinations(queue),
        )
        endpoint = Endpoint(
            EndpointParts(
                config=config,
                registry=registry,
                manager=manager,
                invoker=invoker,
                latencies=latencies,
                events=QueueSink(queue, meter),
                logs=logs,
                metrics=metrics,
                scaling=scaling,
                http_apis=http_apis,
                web=web,
                roles=roles,
                policies=policies,
                sessions=sessions,
                links=links,
                images=images,
                debugging=plane if isinstance(plane, Node) else None,
            )
        )
        tending = asyncio.create_task(_tend(manager, config))
        watching = asyncio.create_task(_watch_memory(memory, manager))
        await dispatcher.start()
        try:
            yield endpoint
        finally:
            await endpoint.close(config.drain_s)
            await dispatcher.stop(config.drain_s)
            tending.cancel()
            watching.cancel()


async def _open_documents(data: Path) -> SealedDocuments:
    """Metadata. The records of functions are sealed, since they hold environment variables."""
    key = await asyncio.to_thread(load_key, data / "environment.key")
    plain = SqliteDocuments(data / "metadata.db")
    documents = SealedDocuments(plain, key, (records.FUNCTION, records.VERSION))
    try:
        await documents.seal_old()
    except BaseException:
        await documents.close()
        raise
    return documents


class _Activator:
    """Joins the data plane, which makes versions ready, and the manager, which holds
    environments."""

    def __init__(self, plane: DataPlane, manager: Manager, images: ImageStore) -> None:
        self._plane = plane
        self._manager = manager
        self._images = images
        self._activated: dict[tuple[str, str, str], dict[str, FunctionVersion]] = {}

    async def activate(self, version: FunctionVersion) -> None:
        """Code on disk, interpreter there, and one environment through INIT ahead of the first
        request; an INIT that takes longer than a moment goes on by itself."""
        if version.image is not None:
            await self._images.fetch(version.image)
        await self._plane.activate(version)
        key = version.function_key
        self._activated.setdefault(key, {})[version.version] = version
        if not version.is_per_tenant:
            await self._manager.warm(version, _WARM_WAIT_S)

    async def retire(self, function_key: tuple[str, str, str], version: str | None) -> None:
        """Ends what runs with another code or configuration than the one activated last."""
        if version is None:
            self._activated.pop(function_key, None)
        if version != LATEST:
            self._plane.retire(function_key, version)
        known = self._activated.get(function_key, {})
        self._manager.retire(function_key, version, known.get(version or ""))


class _Provider:
    """Joins what provisioned concurrency needs: environments, and room to use them."""

    def __init__(self, manager: Manager, counting: Counting) -> None:
        self._manager = manager
        self._counting = counting

    def provide(self, version: FunctionVersion, count: int) -> None:
        """From now on; as many invocations of the version are never refused."""
        key = version.function_key
        self._counting.provide(key, version.version, count)
        self._manager.provide(version, count)

    def provided(self, version: FunctionVersion) -> FloorView:
        return self._manager.provided(version)


class _Packages(BlobStore):
    """The blob store as the registry sees it: a package that nothing names any more goes, and
    with it what was extracted of it. Layers of images are in a store of their own."""

    def __init__(self, root: Path, plane: DataPlane, images: ImageStore) -> None:
        super().__init__(root)
        self._plane = plane
        self._images = images

    async def delete(self, digest: str) -> None:
        await self._plane.discard_code(digest)
        await super().delete(digest)
        await self._images.blobs.delete(digest)


async def _tend(manager: Manager, config: PlatformConfig) -> None:
    while True:
        await asyncio.sleep(_TEND_EVERY_S)
        try:
            manager.tend(config.freeze_after_s, config.idle_stop_after_s)
        except Exception:
            # The supervisor of idle environments: one that cannot be tended must not end us.
            log.exception("idle environments not tended")


async def _watch_memory(memory: HostMemory, manager: Manager) -> None:
    while True:
        await asyncio.sleep(limits.MEMORY_LOOK_EVERY_S)
        try:
            use = memory.read()
            manager.press(use.used_mib, use.total_mib)
        except Exception:
            # The supervisor of memory: what cannot be read now may be read the next time.
            log.exception("memory not watched")


def check_address(config: PlatformConfig) -> None:
    if not config.host.startswith(_LOOPBACK):
        raise PlatformError(
            f"firelet does not listen on {config.host}: signatures are not enforced in this"
            " version, so only loopback addresses are served."
        )


def check_walls(facts: HostFacts, config: PlatformConfig) -> None:
    """Refuses a host that cannot keep the walls; never a silent fall-back to less."""
    missing = facts.missing()
    if missing:
        raise PlatformError(
            "; ".join(f"{item.name}: {item.detail} ({item.consequence})" for item in missing)
        )
    for item in facts.weaker():
        if item.name not in config.accept:
            raise PlatformError(
                f"{item.name}: {item.detail}. Without it {item.consequence}."
                f" To run all the same: --accept {item.name}"
            )
        log.warning("running with weaker isolation: %s: %s", item.name, item.consequence)


def check_file_systems(directories: Mapping[str, Path], is_rootless: bool) -> None:
    """Refuses directories that functions could not use, or not safely. PlatformError."""
    for arn, directory in directories.items():
        if not directory.is_absolute() or not directory.is_dir():
            raise PlatformError(f"The file system {arn} is at {directory}: not a directory.")
        owner = directory.stat()
        if not is_rootless and 0 in (owner.st_uid, owner.st_gid):
            raise PlatformError(
                f"The file system {arn} is at {directory}, which belongs to root. Functions act as"
                " the owner of the directory: give it to a user and a group without rights (chown"
                " USER:GROUP)."
            )


def _raise_open_files() -> None:
    """Every sandbox holds about ten descriptors of ours."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _locked:
    """One platform per data directory: an flock that ends with the process."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._fd = -1

    def __enter__(self) -> None:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(
                self._data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlatformError(
                f"Another firelet is using {self._data_dir}. Give this one its own --data-dir."
            ) from None
        except OSError as error:
            raise PlatformError(f"{self._data_dir} cannot be used: {error.strerror}") from None

    def __exit__(self, *_exception: object) -> None:
        os.close(self._fd)
