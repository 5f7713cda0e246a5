"""Which site a request is for."""

from __future__ import annotations

import pytest

from firelet.gateway.hosts import HostRoutes, Visit
from firelet.wire.http1 import Request, Response


class Site:
    """Knows some ids, and remembers who came."""

    def __init__(self, *ids: str) -> None:
        self._ids = ids
        self.visits: list[Visit] = []

    def __call__(self, visit: Visit) -> Response | None:
        if visit.site_id not in self._ids:
            return None
        self.visits.append(visit)
        return Response(200)


@pytest.fixture
def first() -> Site:
    return Site("one")


@pytest.fixture
def second() -> Site:
    return Site("two")


@pytest.fixture
def routes(first: Site, second: Site) -> HostRoutes:
    made = HostRoutes()
    made.add(b"execute-api", b"api", first, 10)
    made.add(b"execute-api", b"api", second, 10)
    return made


def ask(routes: HostRoutes, target: bytes, host: bytes | None) -> object:
    headers = {} if host is None else {b"host": host}
    return routes.match(Request(b"GET", target, headers, b"", ""))


@pytest.mark.parametrize(
    ("host", "site_id", "region", "domain"),
    [
        (b"one.execute-api.us-east-1.localhost:4566", "one", "us-east-1", None),
        (b"ONE.Execute-Api.US-EAST-1.localhost", "one", "us-east-1", None),
        (b"one.execute-api.eu-west-1.amazonaws.com", "one", "eu-west-1", None),
    ],
)
def test_a_name_says_site_and_region(
    routes: HostRoutes, first: Site, host: bytes, site_id: str, region: str, domain: str | None
) -> None:
    assert isinstance(ask(routes, b"/a?b", host), Response)
    (visit,) = first.visits
    assert (visit.site_id, visit.region, visit.target) == (site_id, region, b"/a?b")
    assert visit.domain == host.decode().lower().partition(":")[0]


@pytest.mark.parametrize(
    ("target", "inner"),
    [
        (b"/_firelet/api/two/a/b?c=/d", b"/a/b?c=/d"),
        (b"/_firelet/api/two/", b"/"),
        (b"/_firelet/api/two", b"/"),
        (b"/_firelet/api/two?x=1", b"/?x=1"),
        (b"/_firelet/api/two//a", b"//a"),
    ],
)
def test_a_path_stands_for_a_name(
    routes: HostRoutes, second: Site, target: bytes, inner: bytes
) -> None:
    assert isinstance(ask(routes, target, b"127.0.0.1:4566"), Response)
    (visit,) = second.visits
    assert (visit.target, visit.region, visit.domain) == (inner, None, None)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"/", None),
        (b"/", b""),
        (b"/", b"127.0.0.1:4566"),
        (b"/", b"[::1]:4566"),
        (b"/", b"execute-api.us-east-1.localhost"),
        (b"/", b"execute-api"),
        (b"/", b"one.s3.us-east-1.localhost"),
        (b"/_firelet/status", b"localhost:4566"),
        (b"/_firelet/code/api/one", b"localhost:4566"),
        (b"/_firelet/", b"localhost"),
        (b"/a/_firelet/api/one", b"localhost"),
    ],
)
def test_everything_else_is_not_for_a_site(
    routes: HostRoutes, target: bytes, host: bytes | None
) -> None:
    assert ask(routes, target, host) is None


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"/", b"nobody.execute-api.us-east-1.localhost", 403),
        (b"/_firelet/api", b"localhost", 403),
        (b"/_firelet/api/", b"localhost", 403),
        (b"*", b"one.execute-api.us-east-1.localhost", 400),
        (
            b"http://one.execute-api.us-east-1.localhost/",
            b"one.execute-api.us-east-1.localhost",
            400,
        ),
    ],
)
def test_names_of_nobody_never_reach_the_aws_api(
    routes: HostRoutes, target: bytes, host: bytes, status: int
) -> None:
    answer = ask(routes, target, host)
    assert isinstance(answer, Response)
    assert answer.status == status


@pytest.mark.parametrize(
    ("target", "host", "limit", "status"),
    [
        (b"/a", b"one.execute-api.us-east-1.localhost", 10, 200),
        (b"/2015-03-31/functions", b"two.execute-api.us-east-1.localhost:1", 10, 200),
        (b"/_firelet/api/one/a", b"localhost", 10, 200),
        (b"/a", b"nobody.execute-api.us-east-1.localhost", 10, 403),
        (b"*", b"one.execute-api.us-east-1.localhost", 10, 400),
        (b"/a", b"b.us-east-1.elb.localhost", 7, 200),
        (b"/_firelet/elb/b", None, 7, 200),
        (b"/2015-03-31/functions", b"localhost", None, None),
        (b"/_firelet/", b"", None, None),
        (b"/_firelet", None, None, None),
    ],
)
def test_bodies_have_the_limit_of_their_site(
    routes: HostRoutes, target: bytes, host: bytes | None, limit: int | None, status: int | None
) -> None:
    balancer = Site("b")
    routes.add_last(b"elb", b"elb", balancer, 7)
    headers = {} if host is None else {b"host": host}

    answer = routes.refuse_body(Request(b"POST", target, headers, b"", ""))

    assert routes.body_limit(target, headers) == limit
    assert (None if answer is None else answer.status) == status
    assert all(visit.is_body_too_large for visit in balancer.visits)
