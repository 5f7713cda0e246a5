"""Values of HTTP and WebSocket APIs to AWS's shapes and back. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from firelet.control.api_errors import BadRequest, NotFound
from firelet.control.http_apis import Owner
from firelet.frontend.markers import cut_page
from firelet.frontend.operations import Call
from firelet.model.errors import InvalidParameterValue
from firelet.model.http_api import (
    HTTP,
    INTEGRATION,
    ROUTE,
    WEBSOCKET,
    ApiPart,
    Deployment,
    HttpApi,
    Stage,
)

SERVICE = "apigatewayv2"
ITEMS_PER_PAGE = 500

T = TypeVar("T")

_TAG_ARN = re.compile(r"arn:aws[a-z-]*:apigateway:([a-z0-9-]+)::/apis/([^/]+)(?:/stages/([^/]+))?")
_NOT_API_SETTINGS = frozenset(
    ("ApiId", "ProtocolType", "Tags", "Target", "RouteKey", "CredentialsArn")
)
_NOT_STAGE_SETTINGS = frozenset(("ApiId", "StageName", "Tags", "DeploymentId"))

# What is shown of settings that nobody gave. Source: answers of the service as users quote them.
_API_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    HTTP: {"RouteSelectionExpression": "$request.method $request.path"},
    WEBSOCKET: {"RouteSelectionExpression": "$request.body.action"},
}
_ANY_API_DEFAULTS = {
    "ApiKeySelectionExpression": "$request.header.x-api-key",
    "DisableExecuteApiEndpoint": False,
    "IpAddressType": "ipv4",
}
_STAGE_DEFAULTS = {
    "DefaultRouteSettings": {"DetailedMetricsEnabled": False},
    "RouteSettings": {},
    "StageVariables": {},
}
PART_DEFAULTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    (HTTP, ROUTE): {"ApiKeyRequired": False, "AuthorizationType": "NONE"},
    (WEBSOCKET, ROUTE): {"ApiKeyRequired": False, "AuthorizationType": "NONE"},
    (HTTP, INTEGRATION): {
        "ConnectionType": "INTERNET",
        "PayloadFormatVersion": "1.0",
        "TimeoutInMillis": 30_000,
    },
    (WEBSOCKET, INTEGRATION): {
        "ConnectionType": "INTERNET",
        "IntegrationResponseSelectionExpression": "${integration.response.statuscode}",
        "PassthroughBehavior": "WHEN_NO_MATCH",
        "PayloadFormatVersion": "1.0",
        "TimeoutInMillis": 29_000,
    },
}


def owner_of(call: Call) -> Owner:
    """The caller's world."""
    return Owner(call.account, call.region)


def api_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept as it was given."""
    return {name: value for name, value in params.items() if name not in _NOT_API_SETTINGS}


def stage_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept as it was given."""
    return {name: value for name, value in params.items() if name not in _NOT_STAGE_SETTINGS}


def format_api(call: Call, api: HttpApi) -> dict[str, Any]:
    """The shape Api, with the address under which this platform serves it."""
    return {
        **_ANY_API_DEFAULTS,
        **_API_DEFAULTS[api.protocol],
        **api.settings,
        "ApiId": api.api_id,
        "ApiEndpoint": format_api_endpoint(api, call.base_url),
        "ProtocolType": api.protocol,
        "CreatedDate": _moment(api.created),
        "Tags": dict(api.tags),
    }


def format_api_endpoint(api: HttpApi, origin: str) -> str:
    """``origin`` is scheme, host and port as the caller reached the platform."""
    scheme, _, host = origin.partition("://")
    _, colon, port = host.rpartition(":")
    suffix = f":{port}" if colon and port.isdigit() else ""
    if api.protocol == WEBSOCKET:
        scheme = "wss" if scheme == "https" else "ws"
    return f"{scheme}://{api.api_id}.execute-api.{api.region}.localhost{suffix}"


def format_part(api: HttpApi, kind: str, part: ApiPart) -> dict[str, Any]:
    """The shape of a route, an integration or a route response."""
    shape = {
        **PART_DEFAULTS.get((api.protocol, kind), {}),
        **{name: value for name, value in part.settings.items() if name != "RouteId"},
        f"{kind}Id": part.part_id,
    }
    if part.is_managed:
        shape["ApiGatewayManaged"] = True
    return shape


def format_stage(stage: Stage) -> dict[str, Any]:
    """The shape Stage."""
    shape = {
        **_STAGE_DEFAULTS,
        **stage.settings,
        "StageName": stage.name,
        "CreatedDate": _moment(stage.created),
        "LastUpdatedDate": _moment(stage.updated),
        "Tags": dict(stage.tags),
    }
    if stage.deployment_id is not None:
        shape["DeploymentId"] = stage.deployment_id
    if stage.is_managed:
        shape["ApiGatewayManaged"] = True
    return shape


def format_deployment(made: Deployment) -> dict[str, Any]:
    """The shape Deployment."""
    shape = {
        "DeploymentId": made.deployment_id,
        "CreatedDate": _moment(made.created),
        "DeploymentStatus": "DEPLOYED",
        "AutoDeployed": made.is_auto,
    }
    if made.description is not None:
        shape["Description"] = made.description
    return shape


def cut_list(
    call: Call,
    items: Iterable[T],
    key: Callable[[T], str],
    format_item: Callable[[T], Mapping[str, Any]],
) -> dict[str, Any]:
    """One page of Items. BadRequest for a token or a number that is none."""
    asked: dict[str, Any] = {}
    most = call.params.get("MaxResults")
    if most is not None:
        if not most.isdecimal() or int(most) < 1:
            raise BadRequest("MaxResults must be a number greater than 0")
        asked["MaxItems"] = int(most)
    if call.params.get("NextToken"):
        asked["Marker"] = call.params["NextToken"]
    ordered = sorted(items, key=key)
    try:
        page, marker = cut_page(ordered, lambda item: (key(item),), asked, ITEMS_PER_PAGE)
    except InvalidParameterValue:
        raise BadRequest("Invalid NextToken") from None
    shape: dict[str, Any] = {"Items": [format_item(item) for item in page]}
    if marker:
        shape["NextToken"] = marker["NextMarker"]
    return shape


def parse_tag_arn(call: Call) -> tuple[str, str | None]:
    """The API and the stage that an ARN names. NotFound for what has no tags here."""
    found = _TAG_ARN.fullmatch(call.params["ResourceArn"])
    if found is None or found[1] != call.region:
        raise NotFound("Invalid Resource identifier specified")
    return found[2], found[3]


def _moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(int(epoch_s), UTC)
