"""The whole platform on one host: joins every port to its adapter, and starts and stops it all.

The only place that knows both sides. ``serve`` is what ``firelet up`` runs.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from firelet.app.asynchronous import QueuedRunner, QueueSink
from firelet.app.config import PlatformConfig
from firelet.app.dataplane import DataPlane, DataPlaneParts, SnapshotReserves, open_data_plane
from firelet.app.endpoint import Endpoint
from firelet.app.gateway_records import GatewayRecords
from firelet.app.measuring import Measuring, open_metrics
from firelet.app.operations import EndpointParts
from firelet.app.preflight import (
    check_address,
    check_file_systems,
    check_isolation,
    check_walls,
    locked,
    raise_open_files,
)
from firelet.app.references import ReferenceWatch
from firelet.app.registry_ports import Activator, Packages, Provider
from firelet.app.scaling import Scaler
from firelet.app.signing import load_signing_trust
from firelet.app.stores import Stores, open_stores
from firelet.app.tending import tend_environments, watch_memory
from firelet.control.counting import Counting
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
from firelet.observe.invocation_meter import InvocationMeter
from firelet.sandbox import cgroups
from firelet.sandbox.host import HostFacts, probe_host
from firelet.sandbox.interpreters import named_interpreter
from firelet.sandbox.microvm.offer import MicrovmProbe
from firelet.store.documents import DocumentStore
from firelet.store.keyfile import load_key
from firelet.store.queue import EventQueue
from firelet.worker.memory import HostMemory
from firelet.worker.node import Node


async def serve(config: PlatformConfig, on_ready: Callable[[str], None]) -> None:
    """Runs the platform until it is cancelled. ``on_ready`` gets the endpoint's URL once it
    answers. PlatformError when the host or the configuration does not allow it."""
    check_address(config)
    facts = await asyncio.to_thread(probe_host)
    for runtime, executable in config.interpreters.items():
        facts.interpreters[runtime] = named_interpreter(runtime, executable)
    check_walls(facts, config)
    microvms = MicrovmProbe(config.microvms)
    await asyncio.to_thread(check_isolation, config.isolation, microvms)
    check_file_systems(config.file_systems, facts.is_rootless)
    raise_open_files()
    async with AsyncExitStack() as stack:
        stack.enter_context(locked(config.data_dir))
        with _uncollected():
            endpoint = await stack.enter_async_context(_assembled(config, facts, microvms))
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
async def _assembled(
    config: PlatformConfig, facts: HostFacts, microvms: MicrovmProbe
) -> AsyncIterator[Endpoint]:
    """Everything in the order in which it depends on each other; closed in reverse."""
    async with AsyncExitStack() as stack:
        stores = await open_stores(stack, config)
        documents, data = stores.documents, config.data_dir
        policies, roles = await _load_iam(documents)
        sessions = Sessions(roles.role_id_of)
        links = CodeLinks(await asyncio.to_thread(load_key, data / "link.key"), stores.blobs)
        await asyncio.to_thread(cgroups.sweep)
        parts = DataPlaneParts(
            config=config,
            facts=facts,
            microvms=microvms,
            code=stores.code,
            disks=stores.disks,
            logs=stores.logs,
            sessions=sessions,
        )
        plane = await open_data_plane(stack, parts)
        memory = HostMemory()
        manager = _make_manager(config, plane, memory)
        stack.push_async_callback(manager.close)
        counting = Counting(config.account_concurrency)
        registry = await _open_registry(stack, config, stores, plane, manager, counting)
        latencies = Latencies()
        meter, metrics = InvocationMeter(), open_metrics(data / "metrics.db")
        measuring = Measuring(metrics, meter, registry)
        measuring.start()
        stack.push_async_callback(measuring.close)
        scaling = Scaling(documents, time.time)
        await asyncio.to_thread(scaling.load)
        gateway_records = GatewayRecords(documents, time.time)
        await asyncio.to_thread(gateway_records.load)
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
                microvms=microvms,
                registry=registry,
                manager=manager,
                invoker=invoker,
                latencies=latencies,
                events=QueueSink(queue, meter),
                logs=stores.logs,
                metrics=metrics,
                scaling=scaling,
                gateway_records=gateway_records,
                roles=roles,
                policies=policies,
                sessions=sessions,
                links=links,
                images=stores.images,
                debugging=plane if isinstance(plane, Node) else None,
            )
        )
        tending = asyncio.create_task(tend_environments(manager, config))
        watching = asyncio.create_task(watch_memory(memory, manager))
        await dispatcher.start()
        try:
            yield endpoint
        finally:
            await endpoint.close(config.drain_s)
            await dispatcher.stop(config.drain_s)
            tending.cancel()
            watching.cancel()


async def _load_iam(documents: DocumentStore) -> tuple[Policies, Roles]:
    changes = asyncio.Lock()  # IAM's one, for both
    policies = Policies(documents, changes)
    roles = Roles(documents, policies, changes)
    await asyncio.to_thread(policies.load)
    await asyncio.to_thread(roles.load)
    return policies, roles


def _make_manager(config: PlatformConfig, plane: DataPlane, memory: HostMemory) -> Manager:
    memory_mib = memory.read().total_mib * config.memory_overcommit
    return Manager(
        plane,
        time.monotonic,
        memory_mib,
        SnapshotReserves(plane),
        config.environment_lifetime_s,
    )


async def _open_registry(
    stack: AsyncExitStack,
    config: PlatformConfig,
    stores: Stores,
    plane: DataPlane,
    manager: Manager,
    counting: Counting,
) -> Registry:
    """The functions, ready to be invoked or on their way to it; what no function needs is gone."""
    registry = Registry(
        stores.documents,
        Packages(config.data_dir / "blobs", plane, stores.images),
        activator=Activator(plane, manager, stores.images),
        provider=Provider(manager, counting),
        account_concurrency=config.account_concurrency,
        file_systems=config.file_systems,
        signing_trust=await asyncio.to_thread(load_signing_trust, config.signing_trust),
        objects=S3CodeSource(config.s3_endpoint, region=config.region),
    )
    await registry.load()
    # Before the first sandbox: what no function needs any more was left by a crash.
    await stores.code.sweep(registry.is_code_needed)
    stack.push_async_callback(registry.close)
    # First, since the registry waits for its activations.
    stack.callback(stores.images.interrupt)
    registry.provisioned.restore()
    watch = ReferenceWatch(registry.references, config.reference_look_every_s)
    watch.start()
    stack.push_async_callback(watch.close)
    return registry
