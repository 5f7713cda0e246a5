"""Who and what may call a function: AWS::Lambda::Permission, Url and EventInvokeConfig.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Lambda.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from firelet.stacks import schemas
from firelet.stacks.errors import StackError
from firelet.stacks.resource_types import Clients, Made, Properties, unless_missing, without


class PermissionType:
    """A statement of a function's policy. It is never changed: another one takes its place."""

    schema = schemas.PERMISSION

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        answer = unless_missing(self._functions.get_policy, FunctionName=properties["FunctionName"])
        statements = json.loads(answer["Policy"])["Statement"] if answer else []
        return [name for statement in statements if statement.get("Sid") == name]

    def create(self, name: str, properties: Properties) -> Made:
        self._functions.add_permission(StatementId=name, **properties)
        return Made(name, {"Id": name})

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        raise StackError(f"{physical_id} cannot be changed")

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._functions.remove_permission,
            FunctionName=properties["FunctionName"],
            StatementId=physical_id,
        )


class UrlType:
    """A function's own address."""

    schema = schemas.URL

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(self._functions.get_function_url_config, **_target(properties))
        return () if found is None else (found["FunctionArn"],)

    def create(self, name: str, properties: Properties) -> Made:
        return self._put(self._functions.create_function_url_config, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        cleared = {"Cors": {}, "InvokeMode": "BUFFERED"}
        gone = {member: cleared[member] for member in cleared if member in before}
        return self._put(self._functions.update_function_url_config, {**gone, **after})

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._functions.delete_function_url_config, **_target(properties))

    def _put(self, operation: Any, properties: Properties) -> Made:
        given = without(properties, ("TargetFunctionArn", "Qualifier"))
        made = operation(**_target(properties), **given)
        attributes = {name: made[name] for name in ("FunctionArn", "FunctionUrl")}
        return Made(made["FunctionArn"], attributes)


class EventInvokeConfigType:
    """How asynchronous invocations are retried, and where their results go."""

    schema = schemas.EVENT_INVOKE_CONFIG

    def __init__(self, clients: Clients) -> None:
        self._functions = clients("lambda")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        found = unless_missing(
            self._functions.get_function_event_invoke_config, **_qualified(properties)
        )
        return () if found is None else (_name_config(properties),)

    def create(self, name: str, properties: Properties) -> Made:
        if self.find(name, properties):
            # PutFunctionEventInvokeConfig would overwrite what is not this stack's.
            raise StackError(f"{_name_config(properties)} has an EventInvokeConfig already")
        return self.update(_name_config(properties), {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        self._functions.put_function_event_invoke_config(**after)
        return Made(physical_id)

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(
            self._functions.delete_function_event_invoke_config, **_qualified(properties)
        )


def _qualified(properties: Properties) -> dict[str, Any]:
    return {name: properties[name] for name in ("FunctionName", "Qualifier")}


def _name_config(properties: Properties) -> str:
    return f"{properties['FunctionName']}|{properties['Qualifier']}"


def _target(properties: Properties) -> dict[str, Any]:
    named = {"FunctionName": properties["TargetFunctionArn"]}
    if "Qualifier" in properties:
        named["Qualifier"] = properties["Qualifier"]
    return named
