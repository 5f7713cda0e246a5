"""What may be configured about a function: defaults, merging of changes, AWS's rules. Pure.

The frontend turns parameters into ``Settings``; the service model's own constraints have been
checked by then. Here are the rules that the model does not know.
Called by ``control.functions``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from firelet.control.dead_letters import check_dead_letters
from firelet.control.image_functions import check_image_config, check_package_type
from firelet.model import limits
from firelet.model.errors import InvalidParameterValue, NotYetImplemented, ValidationError
from firelet.model.function import Code, FunctionKey, FunctionVersion, LayerUse, LoggingConfig
from firelet.model.image import Image
from firelet.model.runtimes import BLOCKED, CUSTOM, OFFERED, supports_snap_start

# Source: docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html, reserved variables.
RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
    }
)
# Of the package, not of the configuration: what is deployed next has its own, or none.
SOURCE_KMS_KEY = "SourceKMSKeyArn"
_ENVIRONMENT_PREFIX = (
    "Lambda was unable to configure your environment variables because the environment variables"
    " you have provided "
)


class LayerSource(Protocol):
    """What the registry asks about layers."""

    def use(self, account: str, arn: str) -> LayerUse | None:
        """The layer version of that ARN for a function of ``account``; None when there is none.
        AccessDenied when it is another account's that does not share it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggingSettings:
    """A change of LoggingConfig. None: as it was."""

    log_format: str | None = None
    log_group: str | None = None
    application_log_level: str | None = None
    system_log_level: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a caller sets. None: as it was, or the default. A None among the extras removes."""

    role: str | None = None
    runtime: str | None = None
    handler: str | None = None
    description: str | None = None
    timeout_s: int | None = None
    memory_mib: int | None = None
    ephemeral_mib: int | None = None
    environment: Mapping[str, str] | None = None
    architecture: str | None = None
    layers: tuple[str, ...] | None = None
    tracing_mode: str | None = None
    logging: LoggingSettings | None = None
    snap_start: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)


_SAME_NAME = (
    "role",
    "runtime",
    "handler",
    "description",
    "timeout_s",
    "memory_mib",
    "ephemeral_mib",
    "environment",
    "architecture",
    "tracing_mode",
    "snap_start",
)


def new_version(
    key: FunctionKey,
    settings: Settings,
    code: Code,
    *,
    modified: str,
    revision_id: str,
    image: Image | None = None,
) -> FunctionVersion:
    """``$LATEST`` of a function that is being created; ``image`` is what it runs, if it is one."""
    if image is None and (settings.runtime is None or settings.handler is None):
        raise InvalidParameterValue(
            "Runtime and Handler are mandatory parameters for functions created with deployment"
            " packages."
        )
    assert settings.role is not None, "required by the service model"
    account, region, name = key
    plain = FunctionVersion(
        account=account,
        region=region,
        name=name,
        role=settings.role,
        runtime=settings.runtime,
        handler=settings.handler,
        code=code,
        package_type="Zip" if image is None else "Image",
        image=image,
        logging=LoggingConfig(log_group=f"/aws/lambda/{name}"),
        last_modified=modified,
        revision_id=revision_id,
    )
    return with_settings(plain, settings)


def with_settings(version: FunctionVersion, settings: Settings) -> FunctionVersion:
    """``version`` with what the caller set."""
    changes: dict[str, Any] = {
        name: value for name in _SAME_NAME if (value := getattr(settings, name)) is not None
    }
    if settings.logging is not None:
        changes["logging"] = _merge_logging(version.logging, settings.logging)
    if settings.extras:
        merged = {**version.extras, **settings.extras}
        changes["extras"] = {name: value for name, value in merged.items() if value is not None}
    return replace(version, **changes)


def check_settings(settings: Settings) -> None:
    """The rules about single values."""
    if settings.runtime is not None:
        _check_runtime(settings.runtime)
    for member, value, maximum in (
        ("timeout", settings.timeout_s, limits.TIMEOUT_MAX_S),
        ("memorySize", settings.memory_mib, limits.MEMORY_MAX_MIB),
        ("ephemeralStorage.size", settings.ephemeral_mib, limits.EPHEMERAL_MAX_MIB),
    ):
        # The service model allows more, for managed instances.
        if value is not None and value > maximum:
            raise ValidationError(
                f"1 validation error detected: Value '{value}' at '{member}' failed to satisfy"
                f" constraint: Member must have value less than or equal to {maximum}"
            )
    if settings.environment is not None:
        _check_environment(settings.environment)
    check_image_config(settings.extras.get("ImageConfig") or {})
    check_dead_letters(settings.extras.get("DeadLetterConfig") or {})
    vpc = settings.extras.get("VpcConfig") or {}
    if bool(vpc.get("SubnetIds")) != bool(vpc.get("SecurityGroupIds")):
        # As quoted by users of the service.
        raise InvalidParameterValue("SubnetIds and SecurityIds must coexist or be both empty list.")


def check_version(version: FunctionVersion) -> None:
    """The rules about values that must fit each other."""
    check_package_type(version)
    if version.snap_start != "None":
        _check_snap_start(version)


def _check_snap_start(version: FunctionVersion) -> None:
    """What it does not go with. Source: the SnapStart page of the guide; but for the first one the
    sentences are firelet's own."""
    runtime = version.runtime or ""
    if not supports_snap_start(runtime):
        raise InvalidParameterValue(f"{runtime} is not supported for SnapStart enabled functions.")
    for member in ("FileSystemConfigs", "TenancyConfig"):
        if member in version.extras:
            raise InvalidParameterValue(
                f"{member} is not supported for SnapStart enabled functions."
            )
    if version.ephemeral_mib > limits.EPHEMERAL_MIN_MIB:
        raise InvalidParameterValue(
            f"Ephemeral storage of more than {limits.EPHEMERAL_MIN_MIB} MB is not supported for"
            " SnapStart enabled functions."
        )


def find_layers(
    arns: tuple[str, ...], account: str, region: str, source: LayerSource
) -> tuple[LayerUse, ...]:
    """The layers of one function, checked. Source: recorded messages."""
    if len(arns) > limits.LAYERS_MAX:
        raise InvalidParameterValue(f"Cannot reference more than {limits.LAYERS_MAX} layers.")
    seen: dict[str, str] = {}
    found: list[LayerUse] = []
    for arn in arns:
        name, _, version = arn.rpartition(":")
        layer_region = arn.split(":")[3]
        if layer_region != region:
            raise InvalidParameterValue(
                "Layers are not in the same region as the function. Layers are expected to be in"
                f" region {region}."
            )
        if version.isdigit() and int(version) < 1:
            raise InvalidParameterValue("Layer Version Cannot be less than 1")
        layer = source.use(account, arn)
        if layer is None:
            raise InvalidParameterValue(f"Layer version {arn} does not exist.")
        if name in seen:
            raise InvalidParameterValue(
                "Two different versions of the same layer are not allowed to be referenced in the"
                f" same function. {seen[name]} and {arn} are versions of the same layer."
            )
        seen[name] = arn
        found.append(layer)
    return tuple(found)


def check_unzipped(code: int, layers: int) -> None:
    """Code and layers lie unpacked side by side, and share one limit; all in bytes.

    Source: sentences that users of the service quote, for instance in issue 1 of
    bento-video/bento and issue 2124 of aws/serverless-application-model.
    """
    most = limits.CODE_UNZIPPED_MAX_BYTES
    if layers > most:
        raise InvalidParameterValue(f"Layers consume more than the available size of {most} bytes")
    if code + layers > most:
        raise InvalidParameterValue(
            f"Function code combined with layers exceeds the maximum allowed size of {most} bytes."
            f" The actual size is {code + layers} bytes."
        )


def _check_runtime(runtime: str) -> None:
    if runtime in OFFERED:
        return
    if runtime == CUSTOM:
        raise NotYetImplemented("Customer-managed runtimes (Runtime=custom) are not served yet.")
    if runtime in BLOCKED:
        raise InvalidParameterValue(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating"
            " AWS Lambda functions. We recommend you use a supported runtime while creating or"
            " updating functions."
        )
    raise InvalidParameterValue(
        f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum"
        f" value set: [{', '.join(OFFERED)}] or be a valid ARN"
    )


def _check_environment(variables: Mapping[str, str]) -> None:
    reserved = [name for name in variables if name in RESERVED_VARIABLES]
    if reserved:
        raise InvalidParameterValue(
            f"{_ENVIRONMENT_PREFIX}contains reserved keys that are currently not supported for"
            f" modification. Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = json.dumps(dict(variables), separators=(",", ":"), ensure_ascii=False)
    if len(measured.encode()) > limits.ENVIRONMENT_MAX_BYTES:
        raise InvalidParameterValue(
            f"{_ENVIRONMENT_PREFIX}exceeded the 4KB limit. String measured: {measured}"
        )


def _merge_logging(before: LoggingConfig, change: LoggingSettings) -> LoggingConfig:
    """Levels exist in JSON format only, where both have the default INFO.

    Source: docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-advanced.html.
    """
    log_format = change.log_format or before.log_format
    group = change.log_group or before.log_group
    if log_format != "JSON":
        if change.application_log_level or change.system_log_level:
            raise InvalidParameterValue(
                "ApplicationLogLevel and SystemLogLevel can be set only when LogFormat is JSON."
            )
        return LoggingConfig(log_format=log_format, log_group=group)
    return LoggingConfig(
        log_format=log_format,
        log_group=group,
        application_log_level=(
            change.application_log_level or before.application_log_level or "INFO"
        ),
        system_log_level=change.system_log_level or before.system_log_level or "INFO",
    )
