"""Between the API's shapes and the registry's values, for functions and their versions.

Pure. Called by the families of operations on functions and versions.
Source: service model, shapes CreateFunctionRequest, UpdateFunctionConfigurationRequest and
FunctionConfiguration; recorded answers for what is left out and what is always there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from firelet.control.configuration import SOURCE_KMS_KEY, LoggingSettings, Settings
from firelet.model.errors import NotYetImplemented
from firelet.model.function import FunctionVersion, LoggingConfig, State
from firelet.model.runtimes import format_runtime_version_arn

# Returned in a member of its own.
IMAGE_CONFIG = "ImageConfig"

_NOT_SERVED = (
    "CapacityProviderConfig",
    "DurableConfig",
    "RuntimeConfig",
    "AcceleratorConfig",
    "PublishTo",
)
LACKS = f"Runtime=custom; {', '.join(_NOT_SERVED)}"
_VPC_ID_DIGITS = 17


def parse_settings(params: Mapping[str, Any]) -> Settings:
    """What CreateFunction or UpdateFunctionConfiguration sets. NotYetImplemented for members that
    would change how the function runs and cannot yet."""
    for member in _NOT_SERVED:
        if params.get(member):
            raise NotYetImplemented(f"{member} is not served yet.")
    architectures = params.get("Architectures")
    environment = params.get("Environment")
    layers = params.get("Layers")
    logging = params.get("LoggingConfig")
    return Settings(
        role=params.get("Role"),
        runtime=params.get("Runtime"),
        handler=params.get("Handler"),
        description=params.get("Description"),
        timeout_s=params.get("Timeout"),
        memory_mib=params.get("MemorySize"),
        ephemeral_mib=params.get("EphemeralStorage", {}).get("Size"),
        environment=None if environment is None else environment.get("Variables") or {},
        architecture=architectures[0] if architectures else None,
        layers=None if layers is None else tuple(layers),
        tracing_mode=params.get("TracingConfig", {}).get("Mode"),
        logging=None if logging is None else _parse_logging(logging),
        snap_start=params.get("SnapStart", {}).get("ApplyOn"),
        extras=_parse_extras(params),
    )


def format_configuration(version: FunctionVersion, arn: str) -> dict[str, Any]:
    """FunctionConfiguration. ``arn`` is FunctionArn as the caller named the version."""
    members = _configuration(version, arn, has_state=True)
    if version.runtime is not None:
        build = format_runtime_version_arn(version.region, version.runtime)
        members["RuntimeVersionConfig"] = {"RuntimeVersionArn": build}
    return members


def format_listed(version: FunctionVersion, arn: str) -> dict[str, Any]:
    """FunctionConfiguration as an element of a list: without the state, and RuntimeVersionConfig.
    Source: ListFunctions in the API reference."""
    return _configuration(version, arn, has_state=False)


def _configuration(version: FunctionVersion, arn: str, *, has_state: bool) -> dict[str, Any]:
    """What both have, in the order of the answer."""
    shape: dict[str, Any] = {
        "FunctionName": version.name,
        "FunctionArn": arn,
        "Role": version.role,
        "CodeSize": version.code.size,
        "CodeSha256": version.code.sha256,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mib,
        "LastModified": version.last_modified,
        "Version": version.version,
        "TracingConfig": {"Mode": version.tracing_mode},
        "RevisionId": version.revision_id,
    }
    if has_state:
        shape["State"] = version.state.value
    shape |= {
        "PackageType": version.package_type,
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_mib},
        "SnapStart": {
            "ApplyOn": version.snap_start,
            "OptimizationStatus": (
                "On" if version.has_snap_start and version.state is State.ACTIVE else "Off"
            ),
        },
        "LoggingConfig": _format_logging(version.logging),
    }
    if version.runtime is not None:
        shape["Runtime"] = version.runtime
    if version.handler is not None:
        shape["Handler"] = version.handler
    if has_state:
        shape |= _format_reasons(version)
        if version.state is not State.PENDING:
            shape["LastUpdateStatus"] = version.last_update_status.value
    if version.environment is not None:
        shape["Environment"] = {"Variables": dict(version.environment)}
    if version.layers:
        shape["Layers"] = [
            {"Arn": layer.arn, "CodeSize": layer.code.size} for layer in version.layers
        ]
    extras = dict(version.extras)
    extras.pop(SOURCE_KMS_KEY, None)
    image_config = extras.pop(IMAGE_CONFIG, None)
    if image_config is not None:
        shape["ImageConfigResponse"] = {IMAGE_CONFIG: image_config}
    shape.update(extras)
    return shape


def _format_reasons(version: FunctionVersion) -> dict[str, str]:
    reasons = {
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastUpdateStatusReason": version.last_update_reason,
        "LastUpdateStatusReasonCode": version.last_update_reason_code,
    }
    return {name: reason for name, reason in reasons.items() if reason is not None}


def format_arn(version: FunctionVersion, qualifier: str | None) -> str:
    """FunctionArn with the qualifier that the caller used."""
    arn = version.unqualified_arn
    return arn if qualifier is None else f"{arn}:{qualifier}"


def _parse_logging(params: Mapping[str, Any]) -> LoggingSettings:
    return LoggingSettings(
        log_format=params.get("LogFormat"),
        log_group=params.get("LogGroup"),
        application_log_level=params.get("ApplicationLogLevel"),
        system_log_level=params.get("SystemLogLevel"),
    )


def _format_logging(logging: LoggingConfig) -> dict[str, str]:
    shape = {
        "LogFormat": logging.log_format,
        "LogGroup": logging.log_group,
        "ApplicationLogLevel": logging.application_log_level,
        "SystemLogLevel": logging.system_log_level,
    }
    return {name: value for name, value in shape.items() if value is not None}


def _parse_extras(params: Mapping[str, Any]) -> dict[str, Any]:
    """Members that are kept and returned. An empty value removes, as on AWS."""
    extras: dict[str, Any] = {}
    if "VpcConfig" in params:
        extras["VpcConfig"] = _vpc_config(params["VpcConfig"])
    if "DeadLetterConfig" in params:
        extras["DeadLetterConfig"] = (
            params["DeadLetterConfig"] if params["DeadLetterConfig"].get("TargetArn") else None
        )
    for member in ("KMSKeyArn", "FileSystemConfigs", "TenancyConfig", IMAGE_CONFIG):
        if member in params:
            extras[member] = params[member] or None
    source_key = params.get("Code", {}).get(SOURCE_KMS_KEY)
    if source_key:
        extras[SOURCE_KMS_KEY] = source_key
    return extras


def _vpc_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """VpcConfigResponse. firelet has no networks of AWS's kind: the id follows from the subnets,
    so that it is the same for functions in the same subnets."""
    subnets = list(given.get("SubnetIds") or ())
    digest = hashlib.sha256(",".join(sorted(subnets)).encode()).hexdigest()
    return {
        "SubnetIds": subnets,
        "SecurityGroupIds": list(given.get("SecurityGroupIds") or ()),
        "VpcId": f"vpc-{digest[:_VPC_ID_DIGITS]}" if subnets else "",
        "Ipv6AllowedForDualStack": bool(given.get("Ipv6AllowedForDualStack")),
    }
