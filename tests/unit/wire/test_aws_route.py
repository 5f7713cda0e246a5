"""Requests to operations, for each protocol."""

from __future__ import annotations

from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.model.errors import SerializationError, UnknownOperation
from firelet.wire.aws.model import Operation, Service, load_services
from firelet.wire.aws.route import RouteTable, UnknownAction

SERVICES = load_services()
TABLE = RouteTable(SERVICES)
LAMBDA = next(service for service in SERVICES if service.name == "lambda")
FORM = {b"content-type": b"application/x-www-form-urlencoded; charset=utf-8"}


def fill(operation: Operation, label: str) -> bytes:
    """The operation's target with every label replaced, encoded as boto3 encodes it."""
    parts = [
        quote(label, safe="-._~") if part.startswith("{") else part
        for part in operation.uri.partition("?")[0].split("/")
    ]
    query = operation.uri.partition("?")[2]
    return "/".join(parts).encode() + (b"?" + query.encode() if query else b"")


@pytest.mark.parametrize("operation", LAMBDA.operations.values(), ids=lambda o: o.name)
def test_every_rest_operation_is_found_by_its_own_uri(operation: Operation) -> None:
    route = TABLE.find(operation.method.encode(), fill(operation, "x"), {}, b"")
    assert route.operation is operation
    assert set(route.labels.values()) <= {"x"}


@given(label=st.text(min_size=1))
@pytest.mark.parametrize("name", ["GetFunction", "ListTags", "RemoveLayerVersionPermission"])
def test_any_label_survives_percent_encoding(name: str, label: str) -> None:
    operation = LAMBDA.operations[name]
    route = TABLE.find(operation.method.encode(), fill(operation, label), {}, b"")
    assert route.operation is operation
    assert set(route.labels.values()) == {label}


def test_an_encoded_slash_does_not_split_a_label() -> None:
    route = TABLE.find(b"GET", b"/2017-03-31/tags/arn%3Aaws%3Alambda%2Fx", {}, b"")
    assert route.operation.name == "ListTags"
    assert route.labels == {"Resource": "arn:aws:lambda/x"}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/2018-10-31/layers", "ListLayers"),
        (b"/2018-10-31/layers?find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
        (b"/2018-10-31/layers?Arn=x&find=LayerVersion", "GetLayerVersionByArn"),
        (b"/2018-10-31/layers?find=Other", "ListLayers"),
        (b"/2019-09-30/functions/f/provisioned-concurrency", "GetProvisionedConcurrencyConfig"),
        (
            b"/2019-09-30/functions/f/provisioned-concurrency?List=ALL&MaxItems=1",
            "ListProvisionedConcurrencyConfigs",
        ),
    ],
)
def test_a_fixed_query_tells_operations_of_one_path_apart(target: bytes, name: str) -> None:
    assert TABLE.find(b"GET", target, {}, b"").operation.name == name


def test_a_trailing_slash_is_taken() -> None:
    assert TABLE.find(b"GET", b"/2015-03-31/functions/", {}, b"").operation.name == "ListFunctions"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"/"),
        (b"GET", b""),
        (b"GET", b"/nothing/here"),
        (b"PATCH", b"/2015-03-31/functions/f"),
        (b"GET", b"/2015-03-31/functions//configuration"),
        (b"POST", b"/2015-03-31/functions/f/g/invocations"),
    ],
)
def test_a_path_that_nothing_serves_is_an_unknown_operation(method: bytes, target: bytes) -> None:
    with pytest.raises(UnknownOperation):
        TABLE.find(method, target, {}, b"")


def test_a_label_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(SerializationError):
        TABLE.find(b"GET", b"/2015-03-31/functions/%ff", {}, b"")


def test_the_amz_target_header_names_an_operation_of_a_json_service() -> None:
    headers = {b"x-amz-target": b"Logs_20140328.CreateLogGroup"}
    route = TABLE.find(b"POST", b"/", headers, b"{}")
    assert (route.operation.service.name, route.operation.name) == ("logs", "CreateLogGroup")


@pytest.mark.parametrize("target", [b"Logs_20140328.Nothing", b"Other.CreateLogGroup", b"x"])
def test_an_unknown_amz_target_is_refused(target: bytes) -> None:
    with pytest.raises(UnknownOperation):
        TABLE.find(b"POST", b"/", {b"x-amz-target": target}, b"{}")


@pytest.mark.parametrize(
    ("action", "version", "service"),
    [("GetRole", "2010-05-08", "iam"), ("GetCallerIdentity", "2011-06-15", "sts")],
)
def test_action_and_version_name_a_query_operation_in_form_or_query_string(
    action: str, version: str, service: str
) -> None:
    encoded = urlencode({"Action": action, "Version": version, "RoleName": "a b"}).encode()
    posted = TABLE.find(b"POST", b"/", FORM, encoded)
    fetched = TABLE.find(b"GET", b"/?" + encoded, {}, b"")
    assert posted == fetched
    assert (posted.operation.service.name, posted.operation.name) == (service, action)
    assert posted.form["RoleName"] == "a b"


def test_an_action_without_a_version_is_found_when_some_service_has_it() -> None:
    route = TABLE.find(b"POST", b"/", FORM, b"Action=AssumeRole")
    assert route.operation.service.name == "sts"


def test_an_unknown_action_is_refused_in_the_words_of_the_query_protocol() -> None:
    with pytest.raises(UnknownAction) as caught:
        TABLE.find(b"POST", b"/", FORM, b"Action=Nothing&Version=2010-05-08")
    assert caught.value.message == "Could not find operation Nothing for version 2010-05-08"
    assert caught.value.service is not None
    assert caught.value.service.name == "iam"


def test_a_form_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(SerializationError):
        TABLE.find(b"POST", b"/", FORM, b"Action=GetRole&Version=2010-05-08&RoleName=%ff")


def test_a_form_posted_to_a_function_is_a_payload_and_not_an_action() -> None:
    target = b"/2015-03-31/functions/f/invocations"
    assert TABLE.find(b"POST", target, FORM, b"Action=GetRole").operation.name == "Invoke"


def rest_service(name: str, uri: str) -> Service:
    return Service(
        name,
        {
            "metadata": {"protocol": "rest-json", "apiVersion": "1", "endpointPrefix": name},
            "operations": {"Read": {"http": {"method": "GET", "requestUri": uri}}},
            "shapes": {},
        },
    )


def test_a_path_of_two_services_goes_to_the_one_that_the_request_was_signed_for() -> None:
    table = RouteTable([rest_service("one", "/tags/{Arn}"), rest_service("two", "/tags/{Arn}")])
    found = [
        table.find(b"GET", b"/tags/x", {}, b"", s).operation.service.name
        for s in ("one", "two", None)
    ]
    assert found == ["one", "two", "one"]


def test_a_greedy_label_takes_slashes_and_leaves_the_rest_of_the_path() -> None:
    table = RouteTable([rest_service("one", "/objects/{Key+}/tail")])
    route = table.find(b"GET", b"/objects/a/b%2Fc/tail", {}, b"")
    assert route.labels == {"Key": "a/b/c"}
