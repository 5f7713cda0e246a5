"""AWS::Logs::LogGroup.

Source: docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_Logs.html
"""

from __future__ import annotations

from firelet.stacks.resource_types import Clients, Made, Properties, map_tags


class LogGroupType:
    """A log group with its retention."""

    immutable = frozenset({"LogGroupName"})

    def __init__(self, clients: Clients) -> None:
        self._logs = clients("logs")

    def create(self, name: str, properties: Properties) -> Made:
        group = properties.get("LogGroupName", name)
        tags = map_tags(properties)
        self._logs.create_log_group(logGroupName=group, **({"tags": tags} if tags else {}))
        return self._finish(group, {}, properties)

    def update(self, physical_id: str, before: Properties, after: Properties) -> Made:
        return self._finish(physical_id, before, after)

    def delete(self, physical_id: str, properties: Properties) -> None:
        self._logs.delete_log_group(logGroupName=physical_id)

    def _finish(self, group: str, before: Properties, after: Properties) -> Made:
        days = after.get("RetentionInDays")
        if days is not None and days != before.get("RetentionInDays"):
            self._logs.put_retention_policy(logGroupName=group, retentionInDays=days)
        elif days is None and "RetentionInDays" in before:
            self._logs.delete_retention_policy(logGroupName=group)
        found = self._logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        arn = next(item["arn"] for item in found if item["logGroupName"] == group)
        return Made(group, {"Arn": arn})
