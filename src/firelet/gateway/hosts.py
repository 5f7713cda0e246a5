"""Which site a request is for: a name below the platform's own, or a path that stands for it.

``<id>.<kind>.<region>.localhost:PORT/path`` and ``/_firelet/<kind's path>/<id>/path`` are the same
site. What it is not: knowledge of what a site does. ``HostRoutes.match`` is the router's first fast
route, before Invoke: a site may have any path, those of the AWS API included. For all other
requests it costs one look at the Host header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from firelet.gateway.answers import message_response
from firelet.wire.http1 import Request, Response

PATH_PREFIX = b"/_firelet/"
FUNCTION_URL_KIND, FUNCTION_URL_PATH = b"lambda-url", b"url"
API_KIND, API_PATH = b"execute-api", b"api"

Answering: TypeAlias = Response | Awaitable[Response]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to one site.

    ``target`` is path and query within the site, raw. ``region`` is None with the path form, and
    with names that are not ours. ``domain`` is the name that the client used, None with the path
    form.
    """

    site_id: str
    target: bytes
    request: Request
    region: str | None = None
    domain: str | None = None


Site: TypeAlias = Callable[[Visit], Answering | None]


class HostRoutes:
    """Sites by kind. Those of one kind are asked in turn; None: the id is not one of theirs."""

    def __init__(self) -> None:
        self._by_host: dict[bytes, list[Site]] = {}
        self._by_last: dict[bytes, list[Site]] = {}
        self._by_path: dict[bytes, list[Site]] = {}

    def add(self, kind: bytes, path: bytes, site: Site) -> None:
        """``kind`` is the second label of the host name, ``path`` stands for it in the path form;
        all sites of a kind must have the same."""
        sites = self._by_host.setdefault(kind, [])
        sites.append(site)
        self._by_path[path] = sites

    def add_last(self, kind: bytes, path: bytes, site: Site) -> None:
        """As ``add``, for names whose kind comes after the region: ``<id>.<region>.<kind>.``."""
        self._by_last[kind] = self._by_path[path] = [site]

    def match(self, request: Request) -> Answering | None:
        """The answer of a site; None for a request that is for none."""
        host = request.headers.get(b"host")
        if host is not None:
            labels = host.split(b".", 3)
            if len(labels) > 2:
                sites = self._by_host.get(labels[1].lower())
                if sites is not None:
                    return _visit(sites, _by_host(host, labels, request))
                sites = self._by_last.get(labels[2].lower())
                if sites is not None:
                    labels[1], labels[2] = labels[2], labels[1]
                    return _visit(sites, _by_host(host, labels, request))
        if request.target.startswith(PATH_PREFIX):
            return self._match_path(request)
        return None

    def _match_path(self, request: Request) -> Answering | None:
        path, mark, query = request.target.partition(b"?")
        parts = path.split(b"/", 4)  # "", "_firelet", kind, id, rest
        sites = self._by_path.get(parts[2])
        if sites is None:
            return None
        site_id = parts[3].decode("latin-1") if len(parts) > 3 else ""
        rest = b"/" + parts[4] if len(parts) > 4 else b"/"
        return _visit(sites, Visit(site_id, rest + mark + query, request))


def _by_host(host: bytes, labels: list[bytes], request: Request) -> Visit:
    name = host.rpartition(b":")[0] if b":" in host else host
    return Visit(
        labels[0].lower().decode("latin-1"),
        request.target,
        request,
        labels[2].lower().decode("latin-1"),
        name.lower().decode("latin-1"),
    )


def _visit(sites: list[Site], visit: Visit) -> Answering:
    # Only the origin form means something here (RFC 9112 section 3.2).
    if not visit.target.startswith(b"/"):
        return message_response(400, "Bad Request")
    for site in sites:
        answer = site(visit)
        if answer is not None:
            return answer
    return message_response(403, "Forbidden")
