"""Functions, versions and aliases as values.

A ``FunctionVersion`` is one immutable configuration plus the state that AWS reports for it.
``$LATEST`` is a version whose record is replaced at each update; published ones never change
except for their state. The registry (``control.registry``) owns the changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from firelet.model import limits
from firelet.model.arn import LATEST, format_function_arn
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.function_url import FunctionUrl
from firelet.model.image import Image
from firelet.model.isolation import Isolation, isolation_of

# Account, region and name; and the version.
FunctionKey = tuple[str, str, str]
FunctionVersionKey = tuple[str, str, str, str]

DEFAULT_ARCHITECTURE = "x86_64"
ALLOW_LOOP = "Allow"  # a value of RecursiveLoop; the other is Terminate


class State(StrEnum):
    """State of a version. Source: service model, shape State (the part used on default compute)."""

    PENDING = "Pending"
    ACTIVE = "Active"
    INACTIVE = "Inactive"
    FAILED = "Failed"


class UpdateStatus(StrEnum):
    """Outcome of the last update of ``$LATEST``. Source: service model, LastUpdateStatus."""

    SUCCESSFUL = "Successful"
    IN_PROGRESS = "InProgress"
    FAILED = "Failed"


class InitializationType(StrEnum):
    """How an environment came to be. Source: recorded AWS_LAMBDA_INITIALIZATION_TYPE."""

    ON_DEMAND = "on-demand"
    PROVISIONED = "provisioned-concurrency"
    SNAP_START = "snap-start"


@dataclass(frozen=True, slots=True)
class S3Object:
    """One version of an object in S3."""

    bucket: str
    key: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A deployment package. ``digest`` (hex SHA-256 of the zip) addresses it in the blob store.
    Of an image it is that of the manifest, which is not stored; AWS reports no size of those.

    ``reference`` is the object that a package which was given by reference belongs to: what the
    blob store has of it is a cache, and none of the account's code storage.
    """

    digest: str
    sha256: str  # base64, as AWS reports it; hexadecimal for images
    size: int  # bytes of the zip
    reference: S3Object | None = None

    @property
    def stored_bytes(self) -> int:
        """What it takes of the account's code storage."""
        return self.size if self.reference is None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUse:
    """A layer version in a function's configuration. The code is noted, not only the ARN: a version
    that is deleted goes on working for the functions that have it."""

    arn: str
    code: Code


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingConfig:
    """Where and how a function logs. Levels are None in Text format."""

    log_format: str = "Text"
    log_group: str
    application_log_level: str | None = None
    system_log_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionVersion:
    """One version of a function: what to run, with what, and what AWS says about it.

    ``extras`` holds members of the API shape that are stored and returned as they were given
    (VpcConfig, DeadLetterConfig, FileSystemConfigs, ImageConfig …), by their AWS names.
    ``isolation`` is what the function's tags ask for; None: what the platform is set to.
    """

    account: str
    region: str
    name: str
    version: str = LATEST
    role: str
    runtime: str | None
    handler: str | None
    code: Code
    description: str = ""
    timeout_s: int = limits.TIMEOUT_DEFAULT_S
    memory_mib: int = limits.MEMORY_DEFAULT_MIB
    ephemeral_mib: int = limits.EPHEMERAL_MIN_MIB
    environment: Mapping[str, str] | None = None
    architecture: str = DEFAULT_ARCHITECTURE
    package_type: str = "Zip"
    image: Image | None = None
    layers: tuple[LayerUse, ...] = ()
    tracing_mode: str = "PassThrough"
    logging: LoggingConfig
    snap_start: str = "None"
    isolation: Isolation | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    last_modified: str  # 2026-11-23T07:00:00.000+0000
    revision_id: str
    state: State = State.PENDING
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: UpdateStatus = UpdateStatus.SUCCESSFUL
    last_update_reason: str | None = None
    last_update_reason_code: str | None = None

    @property
    def function_key(self) -> FunctionKey:
        return (self.account, self.region, self.name)

    @property
    def key(self) -> FunctionVersionKey:
        return (self.account, self.region, self.name, self.version)

    @property
    def has_snap_start(self) -> bool:
        """Whether its environments are clones of a snapshot: published versions only."""
        return self.snap_start == "PublishedVersions" and self.version != LATEST

    @property
    def unqualified_arn(self) -> str:
        return format_function_arn(self.region, self.account, self.name)

    @property
    def qualified_arn(self) -> str:
        """ARN with the version, ``$LATEST`` included."""
        return format_function_arn(self.region, self.account, self.name, self.version)

    @property
    def digests(self) -> tuple[str, ...]:
        """Every package that it runs from: its code, then its layers in order; of an image, the
        layers of that."""
        if self.image is not None:
            return tuple(layer.digest for layer in self.image.layers)
        return (self.code.digest, *(layer.code.digest for layer in self.layers))

    @property
    def file_systems(self) -> tuple[tuple[str, str], ...]:
        """ARN and mount path of the file systems in ``FileSystemConfigs``."""
        configs = self.extras.get("FileSystemConfigs", ())
        return tuple((config["Arn"], config["LocalMountPath"]) for config in configs)

    @property
    def is_per_tenant(self) -> bool:
        """Whether every tenant has environments of its own (``TenancyConfig``)."""
        return "TenancyConfig" in self.extras


def without_state(version: FunctionVersion) -> FunctionVersion:
    """Code and configuration alone: equal for records that differ only in what AWS says of them."""
    return replace(
        version,
        last_modified="",
        revision_id="",
        state=State.ACTIVE,
        state_reason=None,
        state_reason_code=None,
        last_update_status=UpdateStatus.SUCCESSFUL,
        last_update_reason=None,
        last_update_reason_code=None,
    )


def with_tags(function: Function, tags: Mapping[str, str]) -> Function:
    """The function with other tags, and the isolation that they ask for in each of its versions.
    InvalidParameterValue when there is no such isolation."""
    isolation = isolation_of(tags)
    if isolation is function.latest.isolation:
        return replace(function, tags=tags)
    serving = function.serving
    return replace(
        function,
        tags=tags,
        latest=replace(function.latest, isolation=isolation),
        serving=None if serving is None else replace(serving, isolation=isolation),
        versions={
            number: replace(version, isolation=isolation)
            for number, version in function.versions.items()
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A pointer to one version, or to two by weight. ``weights`` maps the second to 0.0..1.0."""

    name: str
    version: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)
    revision_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedConcurrency:
    """So many environments are kept initialised for what a version or an alias stands for."""

    requested: int
    last_modified: str  # 2026-11-23T07:00:00+0000


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeManagement:
    """When a version gets another build of its runtime; the ARN of the build if never."""

    update_on: str = "Auto"
    build_arn: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """All that one function name stands for. ``next_version`` only grows.

    ``serving`` is what invocations of ``$LATEST`` run while an update of it is in progress or
    after one has failed; None when that is ``latest`` itself. ``published`` is the fingerprint of
    ``$LATEST`` when a version was last published from it. ``code_signing`` is the ARN of a
    configuration. ``provisioned`` is by qualifier, and so is what follows it, where ``$LATEST``
    stands for the function without a qualifier; ``policies`` are JSON texts.
    """

    latest: FunctionVersion
    versions: Mapping[str, FunctionVersion] = field(default_factory=dict)
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    reserved_concurrency: int | None = None
    next_version: int = 1
    serving: FunctionVersion | None = None
    published: str | None = None
    recursive_loop: str = "Terminate"
    code_signing: str | None = None
    provisioned: Mapping[str, ProvisionedConcurrency] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    urls: Mapping[str, FunctionUrl] = field(default_factory=dict)
    event_invoke: Mapping[str, EventInvokeConfig] = field(default_factory=dict)
    runtime_management: Mapping[str, RuntimeManagement] = field(default_factory=dict)

    @property
    def key(self) -> FunctionKey:
        return (self.latest.account, self.latest.region, self.latest.name)

    @property
    def provisioned_total(self) -> int:
        """Provisioned concurrency of all versions and aliases."""
        return sum(config.requested for config in self.provisioned.values())

    @property
    def set_aside(self) -> int:
        """Concurrency of the account that the other functions cannot use. What is provisioned
        comes out of the function's reservation when it has one."""
        if self.reserved_concurrency is None:
            return self.provisioned_total
        return self.reserved_concurrency
