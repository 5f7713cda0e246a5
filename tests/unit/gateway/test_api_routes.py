"""Which route of an API a request takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firelet.gateway.api_routes import RouteTable
from firelet.model.http_api import INTEGRATION, ROUTE, ApiPart


def table(*keys: str) -> RouteTable:
    routes = {
        key: ApiPart(part_id=key, settings={"RouteKey": key, "Target": "integrations/i"})
        for key in keys
    }
    settings = {
        "IntegrationType": "AWS_PROXY",
        "IntegrationUri": "arn:aws:lambda:us-east-1:111122223333:function:${stageVariables.name}",
        "TimeoutInMillis": 500,
    }
    return RouteTable({ROUTE: routes, INTEGRATION: {"i": ApiPart(part_id="i", settings=settings)}})


# The example of the page on routes.
DOCUMENTED = table("GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{proxy+}", "$default")


@pytest.mark.parametrize(
    ("request_line", "key", "parameters"),
    [
        ("GET /pets/dog/1", "GET /pets/dog/1", {}),
        ("GET /pets/dog/2", "GET /pets/dog/{id}", {"id": "2"}),
        ("GET /pets/cat/1", "GET /pets/{proxy+}", {"proxy": "cat/1"}),
        ("POST /test/5", "$default", {}),
        ("POST /pets/dog/1", "$default", {}),
        ("GET /pets", "$default", {}),
        ("GET /pets/", "$default", {}),
        ("GET /pets/dog/", "GET /pets/{proxy+}", {"proxy": "dog/"}),
        ("GET /pets/dog/a%2Fb", "GET /pets/dog/{id}", {"id": "a/b"}),
    ],
)
def test_the_documented_order(request_line: str, key: str, parameters: dict[str, str]) -> None:
    taken = DOCUMENTED.take(*request_line.split(" "))
    assert taken is not None
    assert (taken.route.key, taken.path_parameters) == (key, parameters)


@pytest.mark.parametrize(
    ("keys", "request_line", "key"),
    [
        (("ANY /a", "GET /a"), "GET /a", "GET /a"),
        (("ANY /a", "GET /a"), "PUT /a", "ANY /a"),
        (("GET /{x}", "ANY /a"), "GET /a", "ANY /a"),
        (("GET /{x}/b", "GET /a/{y}"), "GET /a/b", "GET /a/{y}"),
        (("GET /{proxy+}", "GET /{x}/{y}"), "GET /a/b", "GET /{x}/{y}"),
        (("GET /a.b",), "GET /a.b", "GET /a.b"),
    ],
)
def test_the_most_specific_route_wins(keys: tuple[str, ...], request_line: str, key: str) -> None:
    for order in (keys, keys[::-1]):
        taken = table(*order).take(*request_line.split(" "))
        assert taken is not None
        assert taken.route.key == key


@pytest.mark.parametrize(
    "request_line", ["GET /", "GET /axb", "POST /a.b", "GET /a.b/", "GET /A.B"]
)
def test_what_no_route_fits_is_not_found(request_line: str) -> None:
    assert table("GET /a.b").take(*request_line.split(" ")) is None


def test_the_function_behind_a_route_may_be_named_by_the_stage() -> None:
    taken = DOCUMENTED.take("GET", "/pets/dog/1")
    assert taken is not None
    integration = taken.route.integration
    assert integration is not None
    assert integration.timeout_s == 0.5
    assert integration.function_arn({"name": "f:live"}) == (
        "arn:aws:lambda:us-east-1:111122223333:function:f:live"
    )


SEGMENTS = st.sampled_from(["a", "b", "{x}", "{y}", "", "%2F", "*"]) | st.text(
    "ab{}+*%/.", min_size=1, max_size=5
).filter(lambda text: "/" not in text and "{" not in text and "}" not in text)
KEYS = st.just("$default") | st.builds(
    "{} /{}{}".format,
    st.sampled_from(["GET", "POST", "ANY"]),
    st.lists(SEGMENTS, max_size=4).map("/".join),
    st.sampled_from(["", "/{proxy+}"]),
)


@settings(max_examples=300)
@given(
    keys=st.lists(KEYS, unique=True, max_size=6),
    path=st.text(max_size=20) | st.lists(st.sampled_from(["a", "b", "%", "%zz", ""])).map("/".join),
    method=st.sampled_from(["GET", "POST", "ANY", "", "PROPFIND"]),
)
def test_any_path_takes_one_of_the_routes_or_none(keys: list[str], path: str, method: str) -> None:
    taken = table(*keys).take(method, "/" + path)
    assert taken is None or taken.route.key in keys
    if taken is None:
        assert "$default" not in keys


def test_very_long_paths_are_matched() -> None:
    routes = table("GET /a/{x}/b", "ANY /{proxy+}")
    taken = routes.take("GET", "/a/" + "x/" * 100_000)
    assert taken is not None
    assert taken.route.key == "ANY /{proxy+}"
