"""One request to a REST API, as its function, its authorizer and its templates see it.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
set-up-lambda-proxy-integrations.html#api-gateway-simple-proxy-for-lambda-input-format and recorded
events: paths and path parameters are undecoded, a slash at the end is in the path only.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from firelet.control.rest_api_records import Definition, RestApi, Stage
from firelet.gateway.hosts import Visit
from firelet.gateway.http_event import find_port, find_scheme, format_time
from firelet.gateway.media_types import matches
from firelet.gateway.proxy_event import (
    ProxyRequest,
    format_event,
    group,
    last_of,
    list_headers,
    parse_query,
)
from firelet.gateway.rest_api_routes import Match
from firelet.model.mapping_template import Variables

_IDENTITY = (
    "accessKey",
    "accountId",
    "caller",
    "cognitoAuthenticationProvider",
    "cognitoAuthenticationType",
    "cognitoIdentityId",
    "cognitoIdentityPoolId",
    "principalOrgId",
    "user",
    "userArn",
)


@dataclass(kw_only=True)
class RestRequest:
    """``path`` is within the stage and undecoded; ``epoch_s`` when it came. ``identity`` and
    ``authorizer`` are filled as the request passes its checks."""

    api: RestApi
    stage: Stage
    definition: Definition
    match: Match
    visit: Visit
    path: str
    request_id: str
    trace_id: str
    epoch_s: float
    identity: dict[str, Any] = field(default_factory=dict)
    authorizer: Mapping[str, Any] | None = None

    @property
    def method(self) -> str:
        return self.visit.request.method.decode("latin-1")

    @property
    def query(self) -> bytes:
        return self.visit.target.partition(b"?")[2]

    @property
    def body(self) -> bytes:
        return self.visit.request.body

    @property
    def domain(self) -> str:
        return self.visit.domain or f"{self.api.id}.execute-api.{self.api.region}.localhost"

    @property
    def stage_variables(self) -> Mapping[str, str]:
        variables: Mapping[str, str] = self.stage.settings.get("variables", {})
        return variables

    @property
    def method_arn(self) -> str:
        """What authorizers and policies are about."""
        return _execute_arn(self.api, self.stage.name, self.method, self.path)

    @property
    def source_arn(self) -> str:
        """In whose name a function is called: the resource, and not what a client asked for."""
        path = self.match.method.resource_path
        return _execute_arn(self.api, self.stage.name, self.method, path)

    @cached_property
    def headers(self) -> list[tuple[str, str]]:
        request = self.visit.request
        scheme = find_scheme(request.headers)
        host = request.headers.get(b"host", b"").decode("latin-1")
        port = find_port(host, scheme)
        return list_headers(request.headers, request.peer, port, scheme, self.trace_id)

    @cached_property
    def parameters(self) -> dict[str, Mapping[str, str]]:
        """By place, as mapping expressions and templates name them."""
        return {
            "path": self.match.parameters,
            "querystring": last_of(group(parse_query(self.query))) or {},
            "header": dict(self.headers),
        }

    @property
    def has_binary_body(self) -> bool:
        types = self.definition.settings.get("binaryMediaTypes", ())
        content_type = self.visit.request.headers.get(b"content-type", b"")
        return matches(types, content_type.decode("latin-1"))

    def context(self) -> dict[str, Any]:
        """The requestContext."""
        agent = self.visit.request.headers.get(b"user-agent")
        identity: dict[str, Any] = dict.fromkeys(_IDENTITY)
        identity |= {
            "sourceIp": self.visit.request.peer,
            "userAgent": None if agent is None else agent.decode("utf-8", "replace"),
        }
        identity |= self.identity
        context: dict[str, Any] = {
            "accountId": self.api.account,
            "apiId": self.api.id,
            "deploymentId": self.stage.deployment_id,
            "domainName": self.domain,
            "domainPrefix": self.domain.partition(".")[0],
            "extendedRequestId": extended_id(self.request_id),
            "httpMethod": self.method,
            "identity": identity,
            "path": f"/{self.stage.name}{self.path}",
            "protocol": "HTTP/1.1",
            "requestId": self.request_id,
            "requestTime": format_time(self.epoch_s),
            "requestTimeEpoch": int(self.epoch_s * 1000),
            "resourceId": self.match.method.resource_id,
            "resourcePath": self.match.method.resource_path,
            "stage": self.stage.name,
        }
        if self.authorizer is not None:
            context["authorizer"] = self.authorizer
        return context

    def event(self) -> bytes:
        """The event of a proxy integration."""
        return format_event(
            ProxyRequest(
                method=self.method,
                resource=self.match.method.resource_path,
                path=self.path,
                headers=self.headers,
                query=self.query,
                path_parameters=self.match.parameters,
                stage_variables=self.stage_variables,
                context=self.context(),
                body=self.body,
                is_binary=self.has_binary_body,
            )
        )

    def variables(self, body: str | None = None) -> Variables:
        """What a template sees; ``body`` is that of an integration's answer, if not the client's
        own."""
        return Variables(
            body=self.body.decode("utf-8", "replace") if body is None else body,
            params=self.parameters,
            context={**self.context(), "requestOverride": {}, "responseOverride": {}},
            stage_variables=self.stage_variables,
        )


def extended_id(request_id: str) -> str:
    """15 characters and ``=``, as API Gateway's ids for its own logs."""
    return base64.b64encode(bytes.fromhex(request_id.replace("-", ""))[:11]).decode()


def _execute_arn(api: RestApi, stage: str, method: str, path: str) -> str:
    return f"arn:aws:execute-api:{api.region}:{api.account}:{api.id}/{stage}/{method}{path}"
