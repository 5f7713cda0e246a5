"""Every paginator of botocore's ``lambda``, over lists of several pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import Loader

from conformance.samples import MODEL, make_params
from firelet.app.parity import Standing, list_coverage
from running_platform import PYTHON, REGION, Platform, pack

pytest_plugins = ("platform_fixtures",)

PAGINATORS = Loader().load_service_model("lambda", "paginators-1")["pagination"]
# Capabilities that firelet does not have: managed instances and durable executions.
LATER = (
    "GetDurableExecutionHistory",
    "GetDurableExecutionState",
    "ListCapacityProviders",
    "ListDurableExecutionsByFunction",
    "ListFunctionVersionsByCapacityProvider",
)
CODE = "def handler(event, context): return {}"
COUNT, SIZE = 5, 2
GARBAGE = ("garbage", "e30=", "WyJhIl0", "WzEsW11d", "%%%", "\N{SNOWMAN}", "A" * 2_000)

_accounts = (f"77{number:010}" for number in itertools.count())


@dataclass(frozen=True)
class World:
    """An account that nothing else uses, so that its lists hold what a test has made."""

    client: Any
    account: str
    role: str

    def function(self, name: str, **options: Any) -> str:
        """The ARN of a function that is active."""
        made = self.client.create_function(
            FunctionName=name,
            Runtime=PYTHON,
            Role=self.role,
            Handler="app.handler",
            Code={"ZipFile": pack({"app.py": CODE})},
            **options,
        )
        self.client.get_waiter("function_active_v2").wait(FunctionName=name)
        return str(made["FunctionArn"])


@dataclass(frozen=True)
class Listing:
    """One list: what it is asked with, its items' names in order, and how an item is named."""

    params: dict[str, Any]
    expected: list[Any]
    name: Callable[[Any], Any]


@pytest.fixture
def world(platform: Platform) -> Iterator[World]:
    account = next(_accounts)
    client = platform.client("lambda", account=account)
    yield World(client, account, platform.make_role(account=account))
    for function in client.get_paginator("list_functions").paginate().search("Functions[]"):
        client.delete_function(FunctionName=function["FunctionName"])


def list_functions(world: World) -> Listing:
    arns = [world.function(f"f{number}") for number in range(COUNT)]
    return Listing({}, arns, lambda item: item["FunctionArn"])


def _publish(world: World) -> list[str]:
    """So many published versions of a function ``f``."""
    world.function("f")
    numbers = []
    for number in range(COUNT):
        world.client.update_function_configuration(FunctionName="f", Timeout=number + 10)
        numbers.append(world.client.publish_version(FunctionName="f")["Version"])
    return numbers


def list_versions_by_function(world: World) -> Listing:
    expected = ["$LATEST", *_publish(world)]
    return Listing({"FunctionName": "f"}, expected, lambda item: item["Version"])


def _make_aliases(world: World, count: int = COUNT) -> list[str]:
    world.function("f", Publish=True)
    names = [f"alias-{number:02}" for number in range(count)]
    for name in names:
        world.client.create_alias(FunctionName="f", Name=name, FunctionVersion="1")
    return names


def list_aliases(world: World) -> Listing:
    return Listing({"FunctionName": "f"}, _make_aliases(world), lambda item: item["Name"])


def list_function_event_invoke_configs(world: World) -> Listing:
    names = _make_aliases(world)
    for name in names:
        world.client.put_function_event_invoke_config(
            FunctionName="f", Qualifier=name, MaximumRetryAttempts=0
        )
    return Listing({"FunctionName": "f"}, names, lambda item: item["FunctionArn"].split(":")[7])


def list_function_url_configs(world: World) -> Listing:
    names = _make_aliases(world)
    for name in names:
        world.client.create_function_url_config(FunctionName="f", Qualifier=name, AuthType="NONE")
    return Listing({"FunctionName": "f"}, names, lambda item: item["FunctionArn"].split(":")[7])


def list_provisioned_concurrency_configs(world: World) -> Listing:
    numbers = _publish(world)
    for number in numbers:
        world.client.put_provisioned_concurrency_config(
            FunctionName="f", Qualifier=number, ProvisionedConcurrentExecutions=1
        )
    return Listing({"FunctionName": "f"}, numbers, lambda item: item["FunctionArn"].split(":")[7])


def _publish_layer(world: World, name: str) -> dict[str, Any]:
    content = {"ZipFile": pack({"python/one.py": "ONE = 1"})}
    made: dict[str, Any] = world.client.publish_layer_version(LayerName=name, Content=content)
    return made


def list_layers(world: World) -> Listing:
    names = [f"layer-{number}" for number in range(COUNT)]
    for name in names:
        _publish_layer(world, name)
    return Listing({}, names, lambda item: item["LayerName"])


def list_layer_versions(world: World) -> Listing:
    numbers = [_publish_layer(world, "layer")["Version"] for _ in range(COUNT)]
    return Listing({"LayerName": "layer"}, numbers[::-1], lambda item: item["Version"])


def _make_signing(world: World) -> str:
    profile = f"arn:aws:signer:{REGION}:{world.account}:/signing-profiles/a/0123456789"
    made = world.client.create_code_signing_config(
        AllowedPublishers={"SigningProfileVersionArns": [profile]}
    )
    return str(made["CodeSigningConfig"]["CodeSigningConfigArn"])


def list_code_signing_configs(world: World) -> Listing:
    arns = sorted(_make_signing(world) for _ in range(COUNT))
    return Listing({}, arns, lambda item: item["CodeSigningConfigArn"])


def list_functions_by_code_signing_config(world: World) -> Listing:
    config = _make_signing(world)
    arns = [world.function(f"f{n}", CodeSigningConfigArn=config) for n in range(COUNT)]
    return Listing({"CodeSigningConfigArn": config}, arns, lambda item: item)


def list_event_source_mappings(world: World) -> Listing:
    world.function("f")
    uuids = [
        world.client.create_event_source_mapping(
            FunctionName="f", EventSourceArn=f"arn:aws:sqs:{REGION}:{world.account}:q{number}"
        )["UUID"]
        for number in range(COUNT)
    ]
    return Listing({}, sorted(uuids), lambda item: item["UUID"])


MAKERS: dict[str, Callable[[World], Listing]] = {
    "ListAliases": list_aliases,
    "ListCodeSigningConfigs": list_code_signing_configs,
    "ListEventSourceMappings": list_event_source_mappings,
    "ListFunctionEventInvokeConfigs": list_function_event_invoke_configs,
    "ListFunctionUrlConfigs": list_function_url_configs,
    "ListFunctions": list_functions,
    "ListFunctionsByCodeSigningConfig": list_functions_by_code_signing_config,
    "ListLayerVersions": list_layer_versions,
    "ListLayers": list_layers,
    "ListProvisionedConcurrencyConfigs": list_provisioned_concurrency_configs,
    "ListVersionsByFunction": list_versions_by_function,
}


def test_every_paginator_is_here_and_those_of_later_capabilities_are_missing() -> None:
    assert len(PAGINATORS) == 16
    assert set(PAGINATORS) == {*MAKERS, *LATER}
    standings = {item.operation: item.standing for item in list_coverage()}
    assert {name for name in PAGINATORS if standings[name] is Standing.MISSING} == set(LATER)


@pytest.mark.parametrize("operation", MAKERS)
def test_a_list_is_whole_and_every_page_has_its_size(world: World, operation: str) -> None:
    listing = MAKERS[operation](world)
    member = PAGINATORS[operation]["result_key"]
    paginator = world.client.get_paginator(xform_name(operation))

    pages = list(paginator.paginate(**listing.params, PaginationConfig={"PageSize": SIZE}))
    sizes = [len(page[member]) for page in pages]
    total = len(listing.expected)
    assert sizes == [SIZE] * (total // SIZE) + ([total % SIZE] if total % SIZE else [])
    assert ["NextMarker" in page for page in pages] == [True] * (len(pages) - 1) + [False]
    assert [listing.name(item) for page in pages for item in page[member]] == listing.expected

    first = paginator.paginate(
        **listing.params, PaginationConfig={"MaxItems": 3, "PageSize": SIZE}
    ).build_full_result()
    rest = paginator.paginate(
        **listing.params,
        PaginationConfig={"PageSize": SIZE, "StartingToken": first["NextToken"]},
    ).build_full_result()
    assert "NextToken" not in rest
    names = [[listing.name(item) for item in part[member]] for part in (first, rest)]
    assert names == [listing.expected[:3], listing.expected[3:]]

    for marker in GARBAGE:
        assert _refusal(world.client, operation, listing.params, marker) == (
            400,
            "InvalidParameterValueException",
        )


def _refusal(client: Any, operation: str, params: dict[str, Any], marker: str) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        getattr(client, xform_name(operation))(**params, Marker=marker)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_a_page_has_no_more_than_the_service_gives(world: World) -> None:
    names = _make_aliases(world, 51)
    first = world.client.list_aliases(FunctionName="f", MaxItems=10_000)
    assert [item["Name"] for item in first["Aliases"]] == names[:50]
    last = world.client.list_aliases(FunctionName="f", Marker=first["NextMarker"])
    assert [item["Name"] for item in last["Aliases"]] == names[50:]
    assert "NextMarker" not in last


def test_a_marker_outlives_what_it_was_made_from(world: World) -> None:
    names = _make_aliases(world)
    first = world.client.list_aliases(FunctionName="f", MaxItems=SIZE)
    world.client.delete_alias(FunctionName="f", Name=names[SIZE - 1])
    world.client.create_alias(FunctionName="f", Name="alias-00a", FunctionVersion="1")
    rest = world.client.list_aliases(FunctionName="f", Marker=first["NextMarker"])
    assert [item["Name"] for item in rest["Aliases"]] == names[SIZE:]


@pytest.mark.parametrize("operation", LATER)
def test_a_list_of_a_later_capability_says_so(platform: Platform, operation: str) -> None:
    params = make_params(MODEL.operation_model(operation), {}, is_full=False)
    pages = platform.client("lambda").get_paginator(xform_name(operation)).paginate(**params)
    with pytest.raises(ClientError) as caught:
        list(pages)
    assert caught.value.response["Error"]["Code"] == "NotImplementedException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
