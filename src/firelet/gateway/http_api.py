"""HTTP APIs: requests to an API's address, by stage and route to a function and back.

What it is: a site of ``hosts``. What it is not: the records of APIs (``control.http_apis``), or the
formats of events (``http_event``, ``proxy_event``).
Source: docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html. That clients are told
503 when a function has no concurrency left is as users report it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from firelet.control.http_apis import HttpApis
from firelet.gateway import cors
from firelet.gateway.answers import message_response
from firelet.gateway.api_authorizers import ApiAuthorizers, Question
from firelet.gateway.api_routes import ANY, Integration, Taken
from firelet.gateway.api_stages import Entry, RouteTables, find_stage
from firelet.gateway.function_calls import make_request_id, make_trace_id
from firelet.gateway.hosts import Answering, Visit
from firelet.gateway.http_api_event import ApiRequest, format_api_event, parse_api_result
from firelet.gateway.integration_calls import (
    IntegrationCalls,
    IntegrationFailed,
    IntegrationRequest,
)
from firelet.gateway.proxy_event import MalformedResult
from firelet.gateway.serving import Serving
from firelet.gateway.stage_throttles import StageThrottles
from firelet.model.http_api import DEFAULT_ROUTE, HTTP, HttpApi
from firelet.wire.http1 import Response

log = logging.getLogger(__name__)

_PREFLIGHT_STATUS = 204


class HttpApiSite:
    """``visit`` is given to ``HostRoutes``. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        apis: HttpApis,
        calls: IntegrationCalls,
        authorizers: ApiAuthorizers,
        throttles: StageThrottles,
        serving: Serving,
        clock: Callable[[], float],
    ) -> None:
        self._apis = apis
        self._calls = calls
        self._authorizers = authorizers
        self._throttles = throttles
        self._serving = serving
        self._clock = clock
        self._tables = RouteTables()

    def visit(self, visit: Visit) -> Answering | None:
        """The answer to one request; None when the id is no HTTP API's."""
        api = self._apis.find(visit.site_id)
        if api is None or api.protocol != HTTP:
            return None
        request_id = make_request_id()
        settings = api.settings.get("CorsConfiguration")
        if settings is not None and cors.is_preflight(visit.request):
            return _with_id(cors.preflight(settings, visit.request, _PREFLIGHT_STATUS), request_id)
        answer = self._find(api, visit)
        if isinstance(answer, Response):
            return _with_id(answer, request_id)
        entry, taken = answer
        return self._serving.start(self._serve(api, entry, taken, visit, request_id))

    def _find(self, api: HttpApi, visit: Visit) -> tuple[Entry, Taken] | Response:
        if visit.region not in (None, api.region) or api.settings.get("DisableExecuteApiEndpoint"):
            return message_response(404, "Not Found")
        if visit.is_body_too_large:
            return message_response(413, "Request Entity Too Large")
        path = visit.target.partition(b"?")[0].decode("latin-1")
        entry = find_stage(api, path)
        if entry is None:
            return message_response(404, "Not Found")
        method = visit.request.method.decode("latin-1")
        taken = self._tables.of(api, entry.stage).take(method, entry.path)
        if taken is None:
            return message_response(404, "Not Found")
        if not self._throttles.admits(api, entry.stage, taken.route.key):
            return message_response(429, "Too Many Requests")
        return entry, taken

    async def _serve(
        self, api: HttpApi, entry: Entry, taken: Taken, visit: Visit, request_id: str
    ) -> Response:
        trace = make_trace_id(visit.request.headers.get(b"x-amzn-trace-id"))
        request = ApiRequest(
            api=api,
            entry=entry,
            taken=taken,
            visit=visit,
            request_id=request_id,
            trace_id=trace,
            epoch_s=self._clock(),
        )
        try:
            authorized = await self._authorizers.authorize(_ask(request))
            request = replace(request, authorized=authorized)
            response = await self._call(request, taken.route.integration)
        except IntegrationFailed as error:
            log.warning("http api integration failed request=%s: %s", request_id, error)
            response = message_response(error.status, error.message)
        except MalformedResult as error:
            log.warning("http api result not answered request=%s: %s", request_id, error)
            response = message_response(500, "Internal Server Error")
        settings = api.settings.get("CorsConfiguration")
        if settings is not None:
            response = cors.share(settings, visit.request, response)
        return _with_id(response, request_id)

    async def _call(self, request: ApiRequest, integration: Integration | None) -> Response:
        if integration is None:
            raise IntegrationFailed(500, "Internal Server Error", "the route has no integration")
        version = integration.payload_version
        payload = await self._calls.call(
            IntegrationRequest(
                api=request.api,
                stage=request.entry.stage.name,
                resource=_resource(request.taken, request.method),
                request_id=request.request_id,
                trace_id=request.trace_id,
            ),
            integration,
            integration.function_arn(request.entry.variables),
            format_api_event(request, version),
        )
        return parse_api_result(payload, version)


def _ask(request: ApiRequest) -> Question:
    return Question(
        api=request.api,
        stage=request.entry.stage.name,
        resource=_resource(request.taken, request.method),
        route=request.taken.route,
        request=request.visit.request,
        event=lambda version: format_api_event(request, version),
        variables=request.entry.variables,
        request_id=request.request_id,
        trace_id=request.trace_id,
    )


def _resource(taken: Taken, method: str) -> str:
    """``GET/pets/{id}``: the route as the ARNs in function policies have it."""
    route = taken.route
    if route.key == DEFAULT_ROUTE:
        return DEFAULT_ROUTE
    return f"{method if route.method == ANY else route.method}{route.path}"


def _with_id(response: Response, request_id: str) -> Response:
    response.headers = [*response.headers, (b"apigw-requestid", request_id.encode())]
    return response
