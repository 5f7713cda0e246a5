"""Events and results of HTTP APIs in the format that an integration asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from firelet.gateway import http_event, proxy_event
from firelet.gateway.api_authorizers import Authorized
from firelet.gateway.api_routes import Taken
from firelet.gateway.api_stages import Entry
from firelet.gateway.hosts import Visit
from firelet.gateway.http_event import find_port, find_scheme, format_time, is_text
from firelet.model.http_api import HttpApi
from firelet.wire.http1 import Response

VERSION_1 = "1.0"
_TEXT_TYPE = (b"content-type", b"text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request to one route of one stage."""

    api: HttpApi
    entry: Entry
    taken: Taken
    visit: Visit
    request_id: str
    trace_id: str
    epoch_s: float
    authorized: Authorized | None = None

    @property
    def method(self) -> str:
        return self.visit.request.method.decode("latin-1")

    @property
    def path(self) -> str:
        """Raw, with the stage."""
        return self.visit.target.partition(b"?")[0].decode("latin-1")

    @property
    def query(self) -> bytes:
        return self.visit.target.partition(b"?")[2]

    @property
    def domain(self) -> str:
        """The name of the site, without a port."""
        api = self.api
        return self.visit.domain or f"{api.api_id}.execute-api.{api.region}.localhost"


def format_api_event(request: ApiRequest, version: str) -> bytes:
    """The event in payload format ``1.0`` or ``2.0``, as JSON."""
    if version == VERSION_1:
        return _format_1(request)
    api, taken = request.api, request.taken
    return http_event.format_event(
        request.visit.request,
        http_event.Origin(
            api_id=api.api_id,
            account=api.account,
            domain=request.domain,
            path=request.path,
            query=request.query,
            request_id=request.request_id,
            trace_id=request.trace_id,
            epoch_s=request.epoch_s,
            route_key=taken.route.key,
            stage=request.entry.stage.name,
            path_parameters=taken.path_parameters,
            stage_variables=request.entry.variables,
            authorizer=None if request.authorized is None else request.authorized.member,
            is_signed=taken.route.authorization == "AWS_IAM",
        ),
    )


def parse_api_result(payload: bytes, version: str) -> Response:
    """The answer that a result asks for. MalformedResult."""
    if version != VERSION_1:
        return http_event.parse_result(payload)
    result = proxy_event.parse_result(payload, is_strict=False)
    headers = list(result.headers)
    if not any(name.lower() == b"content-type" for name, _ in headers):
        headers.append(_TEXT_TYPE)
    return Response(result.status, result.decoded(), headers)


def _format_1(request: ApiRequest) -> bytes:
    web = request.visit.request
    content_type = web.headers.get(b"content-type", b"").decode("latin-1")
    scheme = find_scheme(web.headers)
    port = find_port(web.headers.get(b"host", b"").decode("latin-1"), scheme)
    route = request.taken.route
    return proxy_event.format_event(
        proxy_event.ProxyRequest(
            version=VERSION_1,
            method=request.method,
            resource=route.path,
            path=request.path,
            headers=proxy_event.list_headers(web.headers, web.peer, port, scheme, request.trace_id),
            query=request.query,
            path_parameters=request.taken.path_parameters,
            stage_variables=request.entry.variables,
            context=_format_context_1(request),
            body=web.body,
            is_binary=not is_text(content_type),
        )
    )


def _format_context_1(request: ApiRequest) -> dict[str, Any]:
    """Source: the same page, payload format version 1.0."""
    web, api, route = request.visit.request, request.api, request.taken.route
    agent = proxy_event.decode_value(web.headers.get(b"user-agent", b""))
    authorizer = None if request.authorized is None else request.authorized.flat
    return {
        "accountId": api.account,
        "apiId": api.api_id,
        "authorizer": authorizer or {"claims": None, "scopes": None},
        "domainName": request.domain,
        "domainPrefix": request.domain.partition(".")[0],
        "extendedRequestId": request.request_id,
        "httpMethod": request.method,
        "identity": {
            "accessKey": None,
            "accountId": None,
            "caller": None,
            "cognitoAmr": None,
            "cognitoAuthenticationProvider": None,
            "cognitoAuthenticationType": None,
            "cognitoIdentityId": None,
            "cognitoIdentityPoolId": None,
            "principalOrgId": None,
            "sourceIp": web.peer,
            "user": None,
            "userAgent": agent,
            "userArn": None,
        },
        "path": request.path,
        "protocol": "HTTP/1.1",
        "requestId": request.request_id,
        "requestTime": format_time(request.epoch_s),
        "requestTimeEpoch": int(request.epoch_s * 1000),
        "resourceId": route.key,
        "resourcePath": route.path,
        "stage": request.entry.stage.name,
    }
