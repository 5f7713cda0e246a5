"""AWS::Lambda::Function, Version, Alias and LayerVersion.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Lambda.html
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any, Protocol

from firelet.stacks import schemas
from firelet.stacks.errors import StackError
from firelet.stacks.function_settings import change_settings, read_params, wait_until_updated
from firelet.stacks.resource_types import (
    Clients,
    Made,
    Properties,
    map_tags,
    unless_missing,
    without,
)
from firelet.stacks.sam import LOCAL_BUCKET

# botocore's own delay is for a service that is far away and takes seconds.
_WAIT = {"Delay": 0.05, "MaxAttempts": 2_400}
_CODE_MEMBERS = ("Code", "Architectures")
_PROVISIONED = "ProvisionedConcurrencyConfig"


class Packages(Protocol):
    """Zips of local paths by their keys."""

    def __getitem__(self, key: str) -> bytes: ...


class FunctionType:
    """A function with its code, settings, tags and reserved concurrency."""

    schema = schemas.FUNCTION

    def __init__(self, clients: Clients, packages: Packages) -> None:
        self._functions = clients("lambda")
        self._packages = packages

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        named = properties.get("FunctionName", name)
        found = unless_missing(self._functions.get_function_configuration, FunctionName=named)
        return () if found is None else (named,)

    def create(self, name: str, properties: Properties) -> Made:
        params = {"FunctionName": name, **read_params(properties)}
        created = self._functions.create_function(
            **params,
            Code=read_code(properties["Code"], properties, self._packages),
            Tags=map_tags(properties),
        )
        name = created["FunctionName"]
        self._functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=_WAIT)
        change_settings(self._functions, name, {}, properties)
        return self._made(name)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        if any(before.get(name) != after.get(name) for name in _CODE_MEMBERS):
            code = read_code(after["Code"], after, self._packages)
            architectures = after.get("Architectures") or ["x86_64"]
            self._functions.update_function_code(
                FunctionName=physical_id, **code, Architectures=architectures
            )
            wait_until_updated(self._functions, physical_id)
        change_settings(self._functions, physical_id, before, after, is_new=False)
        return self._made(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._functions.delete_function, FunctionName=physical_id)

    def _made(self, name: str) -> Made:
        found = self._functions.get_function_configuration(FunctionName=name)
        attributes = {"Arn": found["FunctionArn"]}
        for member, value in (found.get("SnapStart") or {}).items():
            attributes[f"SnapStartResponse.{member}"] = value
        return Made(name, attributes)


class VersionType:
    """A version is never changed: another one takes its place."""

    schema = schemas.VERSION

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        pages = self._functions.get_paginator("list_versions_by_function").paginate(
            FunctionName=properties["FunctionName"]
        )
        found = [item for page in pages for item in page["Versions"]]
        return [item["FunctionArn"] for item in found if item["Version"] != "$LATEST"]

    def create(self, name: str, properties: Properties) -> Made:
        function, known = properties["FunctionName"], self.find(name, properties)
        params = without(properties, (_PROVISIONED, "RuntimePolicy"))
        published = self._functions.publish_version(**params)
        arn, number = published["FunctionArn"], published["Version"]
        if arn in known:
            raise StackError(
                f"A version for this Lambda function exists ( {number} )."
                " Modify the function to create a new version."
            )
        policy = properties.get("RuntimePolicy")
        if policy is not None:
            self._functions.put_runtime_management_config(
                FunctionName=function, Qualifier=number, **policy
            )
        provide(self._functions, function, number, {}, properties)
        return Made(arn, {"Version": number, "FunctionArn": arn})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._functions.delete_function, FunctionName=physical_id)


class AliasType:
    """A name for a version."""

    schema = schemas.ALIAS

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._functions.get_alias, **_alias(properties))
        return () if found is None else (found["AliasArn"],)

    def create(self, name: str, properties: Properties) -> Made:
        return self._put(self._functions.create_alias, {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        cleared = {"Description": ""} if "Description" in before else {}
        return self._put(self._functions.update_alias, before, {**cleared, **after})

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._functions.delete_alias, **_alias(properties))

    def _put(self, operation: Any, before: Properties, after: Properties) -> Made:
        weights = (after.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or []
        additional = {item["FunctionVersion"]: item["FunctionWeight"] for item in weights}
        params = without(after, (_PROVISIONED, "RoutingConfig"))
        if after.get(_PROVISIONED) is None:
            # Weights and provisioned concurrency exclude each other: first go, then come.
            provide(self._functions, after["FunctionName"], after["Name"], before, after)
        arn = operation(**params, RoutingConfig={"AdditionalVersionWeights": additional})[
            "AliasArn"
        ]
        if after.get(_PROVISIONED) is not None:
            provide(self._functions, after["FunctionName"], after["Name"], before, after)
        return Made(arn, {"AliasArn": arn})


class LayerVersionType:
    """A version of a layer is never changed: another one takes its place."""

    schema = schemas.LAYER_VERSION

    def __init__(self, clients: Clients, packages: Packages) -> None:
        self._functions = clients("lambda")
        self._packages = packages

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        pages = self._functions.get_paginator("list_layer_versions").paginate(
            LayerName=properties.get("LayerName", name)
        )
        return [item["LayerVersionArn"] for page in pages for item in page["LayerVersions"]]

    def create(self, name: str, properties: Properties) -> Made:
        params = {"LayerName": name, **without(properties, ("Content",))}
        content = read_code(properties["Content"], {}, self._packages)
        arn = self._functions.publish_layer_version(**params, Content=content)["LayerVersionArn"]
        return Made(arn, {"LayerVersionArn": arn})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        layer, _, number = physical_id.rpartition(":")
        unless_missing(
            self._functions.delete_layer_version, LayerName=layer, VersionNumber=int(number)
        )


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


def provide(
    functions: Any, name: str, qualifier: str, before: Properties, after: Properties
) -> None:
    """Provisioned concurrency of a version or an alias."""
    member = _PROVISIONED
    if before.get(member) == after.get(member):
        return
    params = {"FunctionName": name, "Qualifier": qualifier}
    if after.get(member) is None:
        unless_missing(functions.delete_provisioned_concurrency_config, **params)
    else:
        functions.put_provisioned_concurrency_config(
            **params,
            ProvisionedConcurrentExecutions=int(after[member]["ProvisionedConcurrentExecutions"]),
        )


def _alias(properties: Properties) -> dict[str, Any]:
    return {"FunctionName": properties["FunctionName"], "Name": properties["Name"]}
