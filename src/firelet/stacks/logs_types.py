"""AWS::Logs::LogGroup.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Logs.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from firelet.stacks import schemas
from firelet.stacks.resource_types import Clients, Made, Properties, map_tags, unless_missing


class LogGroupType:
    """A log group with its retention, protection and tags."""

    schema = schemas.LOG_GROUP

    def __init__(self, clients: Clients) -> None:
        self._logs = clients("logs")

    def find(self, name: str, properties: Properties) -> Sequence[str]:
        group = properties.get("LogGroupName", name)
        return () if self._describe(group) is None else (group,)

    def create(self, name: str, properties: Properties) -> Made:
        group = properties.get("LogGroupName", name)
        params = {"logGroupName": group, "tags": map_tags(properties)}
        if "LogGroupClass" in properties:
            params["logGroupClass"] = properties["LogGroupClass"]
        self._logs.create_log_group(**{key: value for key, value in params.items() if value})
        self._set_options(group, {}, properties)
        return self._made(group)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        self._set_options(physical_id, before, after)
        made = self._made(physical_id)
        self._set_tags(made.attributes["Arn"], map_tags(before), map_tags(after))
        return made

    def delete(self, physical_id: str, properties: Properties) -> None:
        unless_missing(self._logs.delete_log_group, logGroupName=physical_id)

    def _set_options(self, group: str, before: Properties, after: Properties) -> None:
        days = after.get("RetentionInDays")
        if days is not None and days != before.get("RetentionInDays"):
            self._logs.put_retention_policy(logGroupName=group, retentionInDays=days)
        elif days is None and "RetentionInDays" in before:
            unless_missing(self._logs.delete_retention_policy, logGroupName=group)
        protection = "DeletionProtectionEnabled"
        if before.get(protection) != after.get(protection):
            self._logs.put_log_group_deletion_protection(
                logGroupIdentifier=group, deletionProtectionEnabled=after.get(protection, False)
            )

    def _set_tags(self, arn: str, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        resource = arn.removesuffix(":*")
        gone = sorted(before.keys() - after.keys())
        if gone:
            self._logs.untag_resource(resourceArn=resource, tagKeys=gone)
        if after != before and after:
            self._logs.tag_resource(resourceArn=resource, tags=after)

    def _describe(self, group: str) -> Any:
        pages = self._logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=group)
        found = (item for page in pages for item in page["logGroups"])
        return next((item for item in found if item["logGroupName"] == group), None)

    def _made(self, group: str) -> Made:
        return Made(group, {"Arn": self._describe(group)["arn"]})
