"""Which site a request is for: a name below the platform's own, or a path that stands for it.

``<id>.<kind>.<region>.localhost:PORT/path`` and ``/_firelet/<kind's path>/<id>/path`` are the same
site. What it is not: knowledge of what a site does. ``HostRoutes.match`` is the router's first fast
route, before Invoke: a site may have any path, those of the AWS API included. For all other
requests it costs one look at the Host header.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
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
    form. ``is_body_too_large``: the body was not read and the request has none; such a visit is
    answered at once.
    """

    site_id: str
    target: bytes
    request: Request
    region: str | None = None
    domain: str | None = None
    is_body_too_large: bool = False


Site: TypeAlias = Callable[[Visit], Answering | None]


@dataclass(frozen=True, slots=True)
class _Kind:
    """The sites of one kind, and the largest body that they take."""

    body_bytes: int
    sites: list[Site]


class HostRoutes:
    """Sites by kind. Those of one kind are asked in turn; None: the id is not one of theirs."""

    def __init__(self) -> None:
        self._by_host: dict[bytes, _Kind] = {}
        self._by_last: dict[bytes, _Kind] = {}
        self._by_path: dict[bytes, _Kind] = {}

    def add(self, kind: bytes, path: bytes, site: Site, body_bytes: int) -> None:
        """``kind`` is the second label of the host name, ``path`` stands for it in the path form;
        all sites of a kind must have the same, and the same limit of bodies."""
        known = self._by_host.setdefault(kind, _Kind(body_bytes, []))
        known.sites.append(site)
        self._by_path[path] = known

    def add_last(self, kind: bytes, path: bytes, site: Site, body_bytes: int) -> None:
        """As ``add``, for names whose kind comes after the region: ``<id>.<region>.<kind>.``."""
        self._by_last[kind] = self._by_path[path] = _Kind(body_bytes, [site])

    def match(self, request: Request) -> Answering | None:
        """The answer of a site; None for a request that is for none."""
        kind = self._find(request.target, request.headers)
        return None if kind is None else _visit(kind.sites, self._place(request))

    def body_limit(self, target: bytes, headers: Mapping[bytes, bytes]) -> int | None:
        """How many bytes the body of a request may have; None for one that is for no site."""
        kind = self._find(target, headers)
        return None if kind is None else kind.body_bytes

    def refuse_body(self, request: Request) -> Response | None:
        """The answer to a request, given without its body, which is too large."""
        kind = self._find(request.target, request.headers)
        if kind is None:
            return None
        answer = _visit(kind.sites, replace(self._place(request), is_body_too_large=True))
        assert isinstance(answer, Response)
        return answer

    def _find(self, target: bytes, headers: Mapping[bytes, bytes]) -> _Kind | None:
        host = headers.get(b"host")
        if host is not None:
            labels = host.split(b".", 3)
            if len(labels) > 2:
                kind = self._by_host.get(labels[1].lower()) or self._by_last.get(labels[2].lower())
                if kind is not None:
                    return kind
        if target.startswith(PATH_PREFIX):
            return self._by_path.get(target.partition(b"?")[0].split(b"/", 3)[2])
        return None

    def _place(self, request: Request) -> Visit:
        """The visit of a request that is for a site."""
        host = request.headers.get(b"host", b"")
        labels = host.split(b".", 3)
        if len(labels) > 2:
            if labels[1].lower() in self._by_host:
                return _by_host(host, labels, request)
            if labels[2].lower() in self._by_last:
                labels[1], labels[2] = labels[2], labels[1]
                return _by_host(host, labels, request)
        path, mark, query = request.target.partition(b"?")
        parts = path.split(b"/", 4)  # "", "_firelet", kind, id, rest
        site_id = parts[3].decode("latin-1") if len(parts) > 3 else ""
        rest = b"/" + parts[4] if len(parts) > 4 else b"/"
        return Visit(site_id, rest + mark + query, request)


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
