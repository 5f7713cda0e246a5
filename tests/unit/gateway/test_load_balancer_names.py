"""Names whose kind comes after the region, as those of load balancers do."""

from __future__ import annotations

import pytest

from firelet.gateway.hosts import HostRoutes, Visit
from firelet.wire.http1 import Request, Response


@pytest.mark.parametrize(
    ("host", "target", "visited"),
    [
        (b"web-1.us-east-1.elb.localhost:4566", b"/a?b", ("web-1", "us-east-1", b"/a?b")),
        (b"WEB-1.US-East-1.ELB.localhost", b"/", ("web-1", "us-east-1", b"/")),
        (b"127.0.0.1:4566", b"/_firelet/elb/web-1/a?b", ("web-1", None, b"/a?b")),
        (b"127.0.0.1:4566", b"/_firelet/elb/web-1", ("web-1", None, b"/")),
        (b"elb.localhost", b"/", None),
        (b"web-1.elb.us-east-1.localhost", b"/", None),
        (b"127.0.0.1:4566", b"/_firelet/api/web-1/", None),
    ],
)
def test_a_name_or_a_path_says_the_load_balancer(
    host: bytes, target: bytes, visited: tuple[str, str | None, bytes] | None
) -> None:
    visits: list[Visit] = []

    def site(visit: Visit) -> Response:
        visits.append(visit)
        return Response(200)

    routes = HostRoutes()
    routes.add_last(b"elb", b"elb", site, 10)
    routes.match(Request(b"GET", target, {b"host": host}, b"", ""))

    assert [(v.site_id, v.region, v.target) for v in visits] == (
        [] if visited is None else [visited]
    )
