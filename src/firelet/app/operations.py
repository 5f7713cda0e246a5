"""Which operations the API has: every family of ``frontend``, with what it works with.

What it is not: how requests reach them (``endpoint``), or what an operation does. Called by
``endpoint``, and by ``parity``, which only counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from firelet.app.config import PlatformConfig
from firelet.app.gateway_records import GatewayRecords
from firelet.control.invoke import Invoker
from firelet.control.latencies import Latencies
from firelet.control.manager import Manager
from firelet.control.registry import Registry
from firelet.control.scaling import Scaling
from firelet.frontend.aliases import AliasOperations
from firelet.frontend.apigateway import ApiGatewayOperations
from firelet.frontend.apigatewayv2 import HttpApiOperations
from firelet.frontend.apigatewayv2_parts import part_operations
from firelet.frontend.autoscaling import AutoScalingOperations
from firelet.frontend.cloudwatch import CloudWatchOperations
from firelet.frontend.code_signing import CodeSigningOperations
from firelet.frontend.codelink import CodeLinks
from firelet.frontend.concurrency import ConcurrencyOperations
from firelet.frontend.debug import Debugging
from firelet.frontend.elbv2 import LoadBalancerOperations
from firelet.frontend.elbv2_groups import TargetGroupOperations, Targets
from firelet.frontend.elbv2_listeners import ListenerOperations
from firelet.frontend.event_invoke import EventInvokeOperations
from firelet.frontend.function_options import FunctionOptionOperations
from firelet.frontend.functions import FunctionOperations
from firelet.frontend.iam import IamOperations
from firelet.frontend.images import ImageIntake, ImageResolver
from firelet.frontend.invoke import AsyncSink
from firelet.frontend.invoke_async import InvokeAsyncOperations
from firelet.frontend.layer_policies import LayerPolicyOperations
from firelet.frontend.layers import LayerOperations
from firelet.frontend.logs import LogsOperations
from firelet.frontend.mappings import MappingOperations
from firelet.frontend.operations import Operations
from firelet.frontend.packages import PackageIntake
from firelet.frontend.policies import PolicyOperations
from firelet.frontend.provisioned import ProvisionedOperations
from firelet.frontend.s3source import S3CodeSource
from firelet.frontend.sts import StsOperations
from firelet.frontend.tagging import TaggingOperations
from firelet.frontend.tags import TagOperations
from firelet.frontend.urls import UrlOperations
from firelet.frontend.versions import VersionOperations
from firelet.iam.credentials import SessionCredentials
from firelet.iam.policies import Policies
from firelet.iam.roles import Roles
from firelet.observe.logs import LogStore
from firelet.observe.metrics import MetricStore
from firelet.sandbox.microvm.offer import MicrovmProbe


class OperationFamily(Protocol):
    """A class of ``frontend`` that has handlers to add."""

    def register(self, operations: Operations) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointParts:
    """What the operations and the endpoint work with."""

    config: PlatformConfig
    microvms: MicrovmProbe
    registry: Registry
    manager: Manager
    invoker: Invoker
    latencies: Latencies
    events: AsyncSink
    logs: LogStore
    metrics: MetricStore
    scaling: Scaling
    gateway_records: GatewayRecords
    roles: Roles
    policies: Policies
    sessions: SessionCredentials
    links: CodeLinks
    images: ImageResolver
    debugging: Debugging | None


def make_operations(parts: EndpointParts, targets: Targets) -> Operations:
    """The table of every operation that has a handler."""
    operations = Operations()
    families = (
        *_function_families(parts),
        *_observation_families(parts),
        *_gateway_families(parts.gateway_records, targets),
    )
    for family in families:
        family.register(operations)
    return operations


def _function_families(parts: EndpointParts) -> list[OperationFamily]:
    """Lambda's own, and what provisioned concurrency is scaled by."""
    registry = parts.registry
    intake = PackageIntake(S3CodeSource(parts.config.s3_endpoint, region=parts.config.region))
    return [
        FunctionOperations(registry, intake, ImageIntake(parts.images), parts.links),
        LayerOperations(registry, intake, parts.links),
        LayerPolicyOperations(registry),
        VersionOperations(registry),
        AliasOperations(registry),
        TagOperations(registry),
        TaggingOperations(registry),
        ConcurrencyOperations(registry),
        ProvisionedOperations(registry),
        MappingOperations(registry),
        FunctionOptionOperations(registry),
        PolicyOperations(registry),
        UrlOperations(registry),
        EventInvokeOperations(registry),
        CodeSigningOperations(registry),
        InvokeAsyncOperations(registry, parts.events),
        AutoScalingOperations(parts.scaling, registry),
    ]


def _observation_families(parts: EndpointParts) -> list[OperationFamily]:
    """Who acts, what was logged and what was measured."""
    return [
        IamOperations(parts.roles, parts.policies, parts.sessions),
        StsOperations(parts.roles, parts.sessions),
        LogsOperations(parts.logs),
        CloudWatchOperations(parts.metrics),
    ]


def _gateway_families(records: GatewayRecords, targets: Targets) -> list[OperationFamily]:
    """HTTP, WebSocket and REST APIs, and load balancers."""
    balancers, groups = records.load_balancers, records.target_groups
    return [
        HttpApiOperations(records.http_apis),
        *part_operations(records.http_apis),
        ApiGatewayOperations(
            records.rest_apis, records.usage_plans, records.accounts, records.usage_counts
        ),
        LoadBalancerOperations(balancers, groups),
        ListenerOperations(balancers),
        TargetGroupOperations(groups, balancers, targets),
    ]
