"""AWS::Lambda::Function, Version, Alias and LayerVersion.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Lambda.html
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import Clients, Made, Properties, map_tags, without
from firelet.stacks.sam import LOCAL_BUCKET, Packages

# botocore's own delay is for a service that is far away and takes seconds.
_WAIT = {"Delay": 0.05, "MaxAttempts": 2_400}
_CODE_MEMBERS = ("Code", "Architectures")
# Properties that other operations than CreateFunction set.
_SEPARATE = (*_CODE_MEMBERS, "Tags", "ReservedConcurrentExecutions", "PackageType", "FunctionName")
# What an update sends for a property that the template no longer has.
_EMPTY: Mapping[str, Any] = {
    "Description": "",
    "Environment": {"Variables": {}},
    "Layers": [],
    "Timeout": 3,
    "MemorySize": 128,
    "KMSKeyArn": "",
    "DeadLetterConfig": {"TargetArn": ""},
    "TracingConfig": {"Mode": "PassThrough"},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}


class FunctionType:
    """``packages`` are the zips of local paths."""

    immutable = frozenset({"FunctionName", "PackageType"})

    def __init__(self, clients: Clients, packages: Packages) -> None:
        self._functions = clients("lambda")
        self._packages = packages

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("Code", "Tags", "ReservedConcurrentExecutions"))
        params.setdefault("FunctionName", name)
        created = self._functions.create_function(
            **params,
            Code=read_code(properties["Code"], properties, self._packages),
            Tags=map_tags(properties),
        )
        name = created["FunctionName"]
        self._functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=_WAIT)
        self._reserve(name, {}, properties)
        return Made(name, {"Arn": created["FunctionArn"]})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        functions = self._functions
        if any(before.get(name) != after.get(name) for name in _CODE_MEMBERS):
            code = read_code(after["Code"], after, self._packages)
            architectures = {name: after[name] for name in ("Architectures",) if name in after}
            functions.update_function_code(FunctionName=physical_id, **code, **architectures)
            self._wait(physical_id)
        changed = _changes(without(before, _SEPARATE), without(after, _SEPARATE))
        if changed:
            functions.update_function_configuration(FunctionName=physical_id, **changed)
            self._wait(physical_id)
        arn = functions.get_function_configuration(FunctionName=physical_id)["FunctionArn"]
        _set_tags(functions, arn, map_tags(before), map_tags(after))
        self._reserve(physical_id, before, after)
        return Made(physical_id, {"Arn": arn})

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_function(FunctionName=physical_id)

    def _wait(self, name: str) -> None:
        self._functions.get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig=_WAIT
        )

    def _reserve(self, name: str, before: Properties, after: Properties) -> None:
        member = "ReservedConcurrentExecutions"
        if before.get(member) == after.get(member):
            return
        if after.get(member) is None:
            self._functions.delete_function_concurrency(FunctionName=name)
        else:
            self._functions.put_function_concurrency(
                FunctionName=name, ReservedConcurrentExecutions=after[member]
            )


class VersionType:
    """A version is never changed: another one takes its place."""

    immutable = None

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("ProvisionedConcurrencyConfig", "RuntimePolicy"))
        published = self._functions.publish_version(**params)
        number = published["Version"]
        _provide(self._functions, properties["FunctionName"], number, {}, properties)
        return Made(published["FunctionArn"], {"Version": number})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_function(FunctionName=physical_id)


class AliasType:
    """A name for a version."""

    immutable = frozenset({"FunctionName", "Name"})

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def create(self, name: str, properties: Properties) -> Made:
        return self._put(self._functions.create_alias, {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        return self._put(self._functions.update_alias, before, after)

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._functions.delete_alias(
            FunctionName=properties["FunctionName"], Name=properties["Name"]
        )

    def _put(self, operation: Any, before: Properties, after: Properties) -> Made:
        weights = (after.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or []
        additional = {item["FunctionVersion"]: item["FunctionWeight"] for item in weights}
        params = without(after, ("ProvisionedConcurrencyConfig", "RoutingConfig"))
        arn = operation(**params, RoutingConfig={"AdditionalVersionWeights": additional})[
            "AliasArn"
        ]
        _provide(self._functions, after["FunctionName"], after["Name"], before, after)
        return Made(arn, {"AliasArn": arn})


class LayerVersionType:
    """A version of a layer is never changed: another one takes its place."""

    immutable = None

    def __init__(self, clients: Clients, packages: Packages) -> None:
        self._functions = clients("lambda")
        self._packages = packages

    def create(self, name: str, properties: Properties) -> Made:
        params = without(properties, ("Content",))
        params.setdefault("LayerName", name)
        content = read_code(properties["Content"], {}, self._packages)
        arn = self._functions.publish_layer_version(**params, Content=content)["LayerVersionArn"]
        return Made(arn, {"LayerVersionArn": arn})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        layer, _, number = physical_id.rpartition(":")
        self._functions.delete_layer_version(LayerName=layer, VersionNumber=int(number))


def read_code(code: Properties, properties: Properties, packages: Packages) -> dict[str, Any]:
    """The API's members for CloudFormation's Code: text in the template becomes a zip, and a path
    that was taken in its bytes."""
    if code.get("S3Bucket") == LOCAL_BUCKET:
        return {"ZipFile": packages[code["S3Key"]]}
    if "ZipFile" in code:
        return {"ZipFile": _pack_text(code["ZipFile"], properties.get("Runtime", ""))}
    return dict(code)


def _pack_text(text: str, runtime: str) -> bytes:
    """The text is the module ``index``. Source: AWS::Lambda::Function Code, ZipFile."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        name = "index.js" if runtime.startswith("nodejs") else "index.py"
        entry = zipfile.ZipInfo(name)
        entry.external_attr = 0o100644 << 16
        archive.writestr(entry, text)
    return buffer.getvalue()


def _changes(before: Properties, after: Properties) -> dict[str, Any]:
    """What to send so that a configuration becomes ``after``."""
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    gone = before.keys() - after.keys()
    return changed | {name: _EMPTY[name] for name in gone if name in _EMPTY}


def _set_tags(
    functions: Any, arn: str, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    gone = sorted(before.keys() - after.keys())
    if gone:
        functions.untag_resource(Resource=arn, TagKeys=gone)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    if changed:
        functions.tag_resource(Resource=arn, Tags=changed)


def _provide(
    functions: Any, name: str, qualifier: str, before: Properties, after: Properties
) -> None:
    """Provisioned concurrency of a version or an alias."""
    member = "ProvisionedConcurrencyConfig"
    if before.get(member) == after.get(member):
        return
    params = {"FunctionName": name, "Qualifier": qualifier}
    if after.get(member) is None:
        functions.delete_provisioned_concurrency_config(**params)
    else:
        functions.put_provisioned_concurrency_config(
            **params,
            ProvisionedConcurrentExecutions=int(after[member]["ProvisionedConcurrentExecutions"]),
        )
