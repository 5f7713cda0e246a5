"""Settings of AWS::Lambda::Function: which operation takes each property, and what stands for one
that the template no longer has.

Called by ``function_types`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.stacks.resource_types import Properties, map_tags, unless_missing, without

_WAIT = {"Delay": 0.05, "MaxAttempts": 2_400}
_KEY_TEMPLATE, _KEY_API = "KmsKeyArn", "KMSKeyArn"
# Properties that operations of their own set, also at a creation.
_BY_OTHERS = (
    "Code",
    "Tags",
    "ReservedConcurrentExecutions",
    "RecursiveLoop",
    "RuntimeManagementConfig",
)
# Those that UpdateFunctionConfiguration does not take.
_NOT_IN_UPDATE = (
    *_BY_OTHERS,
    "Architectures",
    "CodeSigningConfigArn",
    "FunctionName",
    "PackageType",
    "TenancyConfig",
)


def read_params(properties: Properties) -> dict[str, Any]:
    """CreateFunction's parameters, apart from code and tags."""
    return _rename(without(properties, _BY_OTHERS))


def change_settings(
    functions: Any, name: str, before: Properties, after: Properties, *, is_new: bool = True
) -> None:
    """All but the code, by difference. A function that ``is_new`` has most of it already."""
    if not is_new:
        changed = _changes(name, before, after)
        if changed:
            functions.update_function_configuration(FunctionName=name, **changed)
            wait_until_updated(functions, name)
        _set_tags(functions, name, map_tags(before), map_tags(after))
        _set_code_signing(functions, name, before, after)
    _reserve(functions, name, before, after)
    _set_runtime_management(functions, name, before, after)
    loop = "RecursiveLoop"
    if before.get(loop) != after.get(loop):
        functions.put_function_recursion_config(
            FunctionName=name, RecursiveLoop=after.get(loop, "Terminate")
        )


def wait_until_updated(functions: Any, name: str) -> None:
    functions.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=_WAIT)


def _rename(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _KEY_API if member == _KEY_TEMPLATE else member: value
        for member, value in properties.items()
    }


def _cleared(name: str) -> Mapping[str, Any]:
    """What an update sends for a property that the template no longer has."""
    return {
        "Description": "",
        "Environment": {"Variables": {}},
        "Layers": [],
        "Timeout": 3,
        "MemorySize": 128,
        _KEY_API: "",
        "DeadLetterConfig": {"TargetArn": ""},
        "TracingConfig": {"Mode": "PassThrough"},
        "EphemeralStorage": {"Size": 512},
        "FileSystemConfigs": [],
        "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
        "SnapStart": {"ApplyOn": "None"},
        "ImageConfig": {},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }


def _changes(name: str, before: Properties, after: Properties) -> dict[str, Any]:
    """What UpdateFunctionConfiguration has to be told so that ``before`` becomes ``after``."""
    old, new = (_rename(without(item, _NOT_IN_UPDATE)) for item in (before, after))
    changed = {member: value for member, value in new.items() if old.get(member) != value}
    cleared = _cleared(name)
    return changed | {
        member: cleared[member] for member in old.keys() - new.keys() if member in cleared
    }


def _set_tags(
    functions: Any, name: str, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    gone = sorted(before.keys() - after.keys())
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    if not gone and not changed:
        return
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    if gone:
        functions.untag_resource(Resource=arn, TagKeys=gone)
    if changed:
        functions.tag_resource(Resource=arn, Tags=changed)


def _set_code_signing(functions: Any, name: str, before: Properties, after: Properties) -> None:
    member = "CodeSigningConfigArn"
    if before.get(member) == after.get(member):
        return
    if after.get(member) is None:
        unless_missing(functions.delete_function_code_signing_config, FunctionName=name)
    else:
        functions.put_function_code_signing_config(FunctionName=name, **{member: after[member]})


def _reserve(functions: Any, name: str, before: Properties, after: Properties) -> None:
    member = "ReservedConcurrentExecutions"
    if before.get(member) == after.get(member):
        return
    if after.get(member) is None:
        unless_missing(functions.delete_function_concurrency, FunctionName=name)
    else:
        functions.put_function_concurrency(FunctionName=name, **{member: after[member]})


def _set_runtime_management(
    functions: Any, name: str, before: Properties, after: Properties
) -> None:
    member = "RuntimeManagementConfig"
    if before.get(member) != after.get(member):
        wanted = after.get(member) or {"UpdateRuntimeOn": "Auto"}
        functions.put_runtime_management_config(FunctionName=name, **wanted)
