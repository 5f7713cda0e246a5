"""Logs operations on groups: create, list, delete, retention and tags.

Source: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from firelet.frontend.logs_targets import (
    find_group,
    format_group_arn,
    format_list_token,
    parse_group,
    parse_list_token,
)
from firelet.frontend.operations import Call, Operations
from firelet.model.errors import CallerError
from firelet.observe.log_errors import InvalidLogParameter, LogGroupNotFound
from firelet.observe.log_records import GroupKey, LogGroup
from firelet.observe.logs import LogStore

Output = Mapping[str, Any]

GROUPS_PER_PAGE = 50  # API reference of DescribeLogGroups
TAGS_MAX = 50  # service model, shape Tags

# API reference of PutRetentionPolicy.
RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)


class LogGroupOperations:
    """Groups and what is written on them."""

    def __init__(self, logs: LogStore, clock: Callable[[], float] = time.time) -> None:
        self._logs = logs
        self._clock = clock

    def register(self, operations: Operations) -> None:
        for name, handler in (
            ("CreateLogGroup", self.create_log_group),
            ("DeleteLogGroup", self.delete_log_group),
            ("DescribeLogGroups", self.describe_log_groups),
            ("ListLogGroups", self.list_log_groups),
            ("PutRetentionPolicy", self.put_retention_policy),
            ("DeleteRetentionPolicy", self.delete_retention_policy),
            ("PutLogGroupDeletionProtection", self.put_log_group_deletion_protection),
            ("TagResource", self.tag_resource),
            ("UntagResource", self.untag_resource),
            ("ListTagsForResource", self.list_tags_for_resource),
            ("TagLogGroup", self.tag_log_group),
            ("UntagLogGroup", self.untag_log_group),
            ("ListTagsLogGroup", self.list_tags_log_group),
        ):
            operations.add("logs", name, handler)

    async def create_log_group(self, call: Call) -> None:
        params = call.params
        group = LogGroup(
            name=params["logGroupName"],
            created_ms=int(self._clock() * 1000),
            log_class=params.get("logGroupClass", "STANDARD"),
            kms_key_id=params.get("kmsKeyId"),
            is_protected=params.get("deletionProtectionEnabled", False),
            tags=_add_tags({}, params.get("tags", {})),
        )
        await self._logs.create_group(find_group(call), group)

    async def delete_log_group(self, call: Call) -> None:
        key = find_group(call)
        if (await self._logs.load_group(key)).is_protected:
            raise CallerError(
                "The log group cannot be deleted while its deletion protection is enabled.",
                code="ValidationException",
            )
        await self._logs.delete_group(key)

    async def describe_log_groups(self, call: Call) -> Output:
        params = call.params
        prefix, pattern = params.get("logGroupNamePrefix"), params.get("logGroupNamePattern")
        if prefix is not None and pattern is not None:
            raise InvalidLogParameter(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
            )
        groups = await self._logs.list_groups(
            call.account, call.region, prefix=prefix or "", substring=pattern or ""
        )
        if "logGroupIdentifiers" in params:
            wanted = {parse_group(call, text).name for text in params["logGroupIdentifiers"]}
            groups = [group for group in groups if group.name in wanted]
        groups = _of_class(groups, params)
        page, paging = _cut_page(groups, params)
        described = [_describe(call, group) for group in page]
        if pattern:
            # API reference: then only these members are in the answer.
            members = ("arn", "creationTime", "logGroupName", "logGroupArn")
            described = [{name: group[name] for name in members} for group in described]
        return {"logGroups": described, **paging}

    async def list_log_groups(self, call: Call) -> Output:
        """The pattern has up to five parts between ``|``; ``^`` binds one to the name's start."""
        groups = await self._logs.list_groups(call.account, call.region)
        pattern = call.params.get("logGroupNamePattern")
        if pattern is not None:
            parts = pattern.split("|")
            groups = [group for group in groups if _has_part(group.name, parts)]
        page, paging = _cut_page(_of_class(groups, call.params), call.params)
        summaries = [
            {
                "logGroupName": group.name,
                "logGroupArn": format_group_arn(call, group.name),
                "logGroupClass": group.log_class,
            }
            for group in page
        ]
        return {"logGroups": summaries, **paging}

    async def put_retention_policy(self, call: Call) -> None:
        days = call.params["retentionInDays"]
        if days not in RETENTION_DAYS:
            allowed = ", ".join(map(str, RETENTION_DAYS))
            raise InvalidLogParameter(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to"
                f" satisfy constraint: Member must satisfy enum value set: [{allowed}]"
            )
        await self._logs.change_group(
            find_group(call), lambda group: replace(group, retention_days=days)
        )

    async def delete_retention_policy(self, call: Call) -> None:
        await self._logs.change_group(
            find_group(call), lambda group: replace(group, retention_days=None)
        )

    async def put_log_group_deletion_protection(self, call: Call) -> None:
        is_protected = call.params["deletionProtectionEnabled"]
        await self._logs.change_group(
            find_group(call), lambda group: replace(group, is_protected=is_protected)
        )

    async def tag_resource(self, call: Call) -> None:
        await self._tag(_find_tagged(call), call.params["tags"])

    async def untag_resource(self, call: Call) -> None:
        await self._untag(_find_tagged(call), call.params["tagKeys"])

    async def list_tags_for_resource(self, call: Call) -> Output:
        return {"tags": (await self._logs.load_group(_find_tagged(call))).tags}

    async def tag_log_group(self, call: Call) -> None:
        await self._tag(find_group(call), call.params["tags"])

    async def untag_log_group(self, call: Call) -> None:
        await self._untag(find_group(call), call.params["tags"])

    async def list_tags_log_group(self, call: Call) -> Output:
        return {"tags": (await self._logs.load_group(find_group(call))).tags}

    async def _tag(self, key: GroupKey, added: Mapping[str, str]) -> None:
        await self._logs.change_group(
            key, lambda group: replace(group, tags=_add_tags(group.tags, added))
        )

    async def _untag(self, key: GroupKey, removed: Sequence[str]) -> None:
        await self._logs.change_group(
            key,
            lambda group: replace(
                group, tags={k: v for k, v in group.tags.items() if k not in removed}
            ),
        )


def _describe(call: Call, group: LogGroup) -> dict[str, Any]:
    arn = format_group_arn(call, group.name)
    described: dict[str, Any] = {
        "logGroupName": group.name,
        "creationTime": group.created_ms,
        "metricFilterCount": 0,
        "arn": f"{arn}:*",
        "logGroupArn": arn,
        "storedBytes": group.stored_bytes,
        "logGroupClass": group.log_class,
        "deletionProtectionEnabled": group.is_protected,
    }
    if group.retention_days is not None:
        described["retentionInDays"] = group.retention_days
    if group.kms_key_id is not None:
        described["kmsKeyId"] = group.kms_key_id
    return described


def _find_tagged(call: Call) -> GroupKey:
    """Groups are the only resources that there are to be tagged."""
    try:
        return parse_group(call, call.params["resourceArn"])
    except (InvalidLogParameter, LogGroupNotFound):
        raise CallerError(
            "The specified resource does not exist.", code="ResourceNotFoundException"
        ) from None


def _add_tags(tags: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    if any(key.lower().startswith("aws:") for key in added):
        raise InvalidLogParameter("Tag keys that start with aws: are reserved for AWS use.")
    result = {**tags, **added}
    if len(result) > TAGS_MAX:
        raise CallerError(
            f"A resource can have no more than {TAGS_MAX} tags.", code="TooManyTagsException"
        )
    return result


def _of_class(groups: list[LogGroup], params: Mapping[str, Any]) -> list[LogGroup]:
    wanted = params.get("logGroupClass")
    return groups if wanted is None else [group for group in groups if group.log_class == wanted]


def _has_part(name: str, parts: Sequence[str]) -> bool:
    return any(
        name.startswith(part[1:]) if part.startswith("^") else part in name for part in parts
    )


def _cut_page(
    groups: Sequence[LogGroup], params: Mapping[str, Any]
) -> tuple[Sequence[LogGroup], dict[str, Any]]:
    """The page that ``params`` asks for, and the paging members of the answer."""
    after = parse_list_token(params)
    rest = groups if after is None else [group for group in groups if group.name > after[1]]
    page = rest[: params.get("limit", GROUPS_PER_PAGE)]
    if len(page) == len(rest):
        return page, {}
    return page, {"nextToken": format_list_token((0, page[-1].name))}
