"""Event source mappings on a real platform, as boto3 sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

CODE = "def handler(event, context): return None"
QUEUE = f"arn:aws:sqs:{REGION}:{ACCOUNT}:jobs"
STREAM = f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/clicks"


def wait_for(client: Any, uuid: str, state: str) -> Any:
    def reached() -> Any:
        found = client.get_event_source_mapping(UUID=uuid)
        return found if found["State"] == state else None

    return wait_until(reached, f"the mapping is {state}")


def wait_until_gone(client: Any, uuid: str) -> None:
    def is_gone() -> bool:
        try:
            client.get_event_source_mapping(UUID=uuid)
        except client.exceptions.ResourceNotFoundException:
            return True
        return False

    wait_until(is_gone, "the mapping is gone")


def test_a_mapping_lives_from_create_to_delete(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(CODE)
    created = lambda_client.create_event_source_mapping(
        FunctionName=name, EventSourceArn=QUEUE, Tags={"team": "blue"}
    )
    uuid, arn = created["UUID"], created["EventSourceMappingArn"]
    assert created["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert created["State"] == "Creating"
    wait_for(lambda_client, uuid, "Enabled")
    updated = lambda_client.update_event_source_mapping(UUID=uuid, BatchSize=3, Enabled=False)
    assert (updated["State"], updated["BatchSize"]) == ("Disabling", 3)
    wait_for(lambda_client, uuid, "Disabled")
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"team": "blue"}
    lambda_client.tag_resource(Resource=arn, Tags={"tier": "1"})
    lambda_client.untag_resource(Resource=arn, TagKeys=["team"])
    assert lambda_client.list_tags(Resource=arn)["Tags"] == {"tier": "1"}
    assert lambda_client.delete_event_source_mapping(UUID=uuid)["State"] == "Deleting"
    wait_until_gone(lambda_client, uuid)


def test_changes_may_follow_each_other_at_once(deploy: Deployer, lambda_client: Any) -> None:
    """The client sees its own change as done, however fast it is."""
    name = deploy(CODE)
    uuid = lambda_client.create_event_source_mapping(FunctionName=name, EventSourceArn=QUEUE)[
        "UUID"
    ]
    for size in range(1, 8):
        lambda_client.update_event_source_mapping(UUID=uuid, BatchSize=size)
    deleted = lambda_client.delete_event_source_mapping(UUID=uuid)
    assert (deleted["State"], deleted["BatchSize"]) == ("Deleting", 7)


def test_a_mapping_outlives_its_function(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(CODE)
    created = lambda_client.create_event_source_mapping(
        FunctionName=name, EventSourceArn=STREAM, StartingPosition="LATEST"
    )
    lambda_client.delete_function(FunctionName=name)
    (found,) = lambda_client.list_event_source_mappings(EventSourceArn=STREAM)[
        "EventSourceMappings"
    ]
    assert found["FunctionArn"] == created["FunctionArn"]
    lambda_client.delete_event_source_mapping(UUID=created["UUID"])


def test_the_paginator_walks_all_of_them(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(CODE)
    made = {
        lambda_client.create_event_source_mapping(
            FunctionName=name, EventSourceArn=f"{QUEUE}-{number}"
        )["UUID"]
        for number in range(5)
    }
    pages = lambda_client.get_paginator("list_event_source_mappings").paginate(
        FunctionName=name, PaginationConfig={"PageSize": 2}
    )
    found = [item["UUID"] for page in pages for item in page["EventSourceMappings"]]
    assert found == sorted(made)
    for uuid in made:
        lambda_client.delete_event_source_mapping(UUID=uuid)


def test_the_same_source_twice_is_a_conflict(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(CODE)
    first = lambda_client.create_event_source_mapping(FunctionName=name, EventSourceArn=QUEUE)
    with pytest.raises(lambda_client.exceptions.ResourceConflictException) as refused:
        lambda_client.create_event_source_mapping(FunctionName=name, EventSourceArn=QUEUE)
    assert first["UUID"] in refused.value.response["Error"]["Message"]
    lambda_client.delete_event_source_mapping(UUID=first["UUID"])


def test_mappings_survive_a_crash(make_platform: Callable[[], Platform]) -> None:
    platform = make_platform()
    deployer = Deployer(platform)
    created = platform.client("lambda").create_event_source_mapping(
        FunctionName=deployer(CODE), EventSourceArn=QUEUE, Tags={"a": "1"}
    )
    platform.kill()
    platform.start()
    client = platform.client("lambda")
    found = wait_for(client, created["UUID"], "Enabled")
    assert found["EventSourceArn"] == QUEUE
    assert client.list_tags(Resource=created["EventSourceMappingArn"])["Tags"] == {"a": "1"}
