"""Our view of the service models against botocore's own."""

from __future__ import annotations

import botocore.model
import pytest
from botocore.loaders import Loader

from firelet.wire.aws.java import compile_pattern
from firelet.wire.aws.model import (
    DEFAULT_SERVICES,
    ModelNotFound,
    Service,
    Shape,
    load_services,
)


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return {service.name: service for service in load_services()}


def reachable(service: Service) -> list[Shape]:
    found: dict[str, Shape] = {}
    waiting = [s for o in service.operations.values() for s in (o.input, o.output) if s]
    while waiting:
        shape = waiting.pop()
        if shape.name in found:
            continue
        found[shape.name] = shape
        waiting += [member.shape for member in shape.members.values()]
        if shape.type == "list":
            waiting.append(shape.element.shape)
        elif shape.type == "map":
            waiting += [shape.key.shape, shape.value.shape]
    return list(found.values())


@pytest.mark.parametrize("name", DEFAULT_SERVICES)
def test_operations_and_members_are_those_that_botocore_reads(
    services: dict[str, Service], name: str
) -> None:
    theirs = botocore.model.ServiceModel(Loader().load_service_model(name, "service-2"), name)
    ours = services[name]
    assert sorted(ours.operations) == sorted(theirs.operation_names)
    assert ours.protocol == theirs.resolved_protocol
    assert ours.signing_name == theirs.signing_name
    for operation in ours.operations.values():
        their_operation = theirs.operation_model(operation.name)
        assert operation.method == their_operation.http["method"]
        assert operation.uri == their_operation.http["requestUri"]
        for our_shape, their_shape in (
            (operation.input, their_operation.input_shape),
            (operation.output, their_operation.output_shape),
        ):
            if our_shape is None or their_shape is None:
                assert our_shape is their_shape
                continue
            assert list(our_shape.members) == list(their_shape.members)
            assert list(our_shape.required) == their_shape.required_members
            for member in our_shape.members.values():
                traits = their_shape.members[member.name].serialization
                assert member.wire_name == traits.get("name", member.name)
                assert member.location == {"uri": "uri"}.get(
                    traits.get("location"), traits.get("location")
                )
                assert member.shape.type == their_shape.members[member.name].type_name


@pytest.mark.parametrize("name", DEFAULT_SERVICES)
def test_every_pattern_of_the_served_models_is_understood(
    services: dict[str, Service], name: str
) -> None:
    for shape in reachable(services[name]):
        if shape.pattern is not None:
            compile_pattern(shape.pattern)


def test_a_shape_is_one_object_however_often_it_is_used(services: dict[str, Service]) -> None:
    service = services["lambda"]
    create = service.operations["CreateFunction"]
    assert create.output is service.shape("FunctionConfiguration")


def test_lambda_has_the_91_operations_of_the_reference(services: dict[str, Service]) -> None:
    assert len(services["lambda"].operations) == 91


def test_a_service_that_does_not_exist_is_named() -> None:
    with pytest.raises(ModelNotFound, match="no-such-service"):
        load_services(["no-such-service"])


def test_a_protocol_that_firelet_does_not_speak_is_named() -> None:
    with pytest.raises(ModelNotFound, match="rest-xml"):
        load_services(["s3"])
