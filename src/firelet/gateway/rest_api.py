"""REST APIs: requests to an API's address, by stage, resource and method to what answers them.

What it is: a site of ``hosts``. What it is not: the records of APIs (``control.rest_apis``).
Order: stage, resource, size, authorizer, key and throttles, parameters, integration.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-call-api.html;
sentences as users have seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from firelet.control.rest_api_records import Deployment, RestApi, Stage
from firelet.control.rest_apis import RestApis
from firelet.gateway.answers import message_response
from firelet.gateway.function_calls import make_request_id, make_trace_id
from firelet.gateway.hosts import Answering, Visit
from firelet.gateway.rest_api_authorizers import RestAuthorizers
from firelet.gateway.rest_api_failures import Refusal, answer
from firelet.gateway.rest_api_guard import RestGuard
from firelet.gateway.rest_api_integrations import RestIntegrations
from firelet.gateway.rest_api_request import RestRequest, extended_id
from firelet.gateway.rest_api_routes import Routes
from firelet.gateway.serving import Serving
from firelet.model import limits
from firelet.model.mapping_template import Variables
from firelet.wire.http1 import Request, Response

_ROUTES_MAX = 256  # deployments whose routes are remembered
_USER_REQUEST = b"/_user_request_"
# What tools for local clouds put before the id of an API, the older way and the newer one.
_OLD_PREFIX, _NEW_PREFIX = b"/restapis/", b"/_aws/execute-api/"


class RestApiSite:
    """``visit`` is given to ``HostRoutes``, the rest to the router: these are the addresses that
    tools for local clouds make, ``/restapis/ID/STAGE/_user_request_/path`` and
    ``/_aws/execute-api/ID/STAGE/path``. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        apis: RestApis,
        authorizers: RestAuthorizers,
        guard: RestGuard,
        integrations: RestIntegrations,
        serving: Serving,
        clock: Callable[[], float],
    ) -> None:
        self._apis = apis
        self._authorizers = authorizers
        self._guard = guard
        self._integrations = integrations
        self._serving = serving
        self._clock = clock
        self._routes: dict[tuple[str, str], Routes] = {}

    def match(self, request: Request) -> Answering | None:
        """The answer to a request for a local address; None for all others."""
        visit = _find_local(request)
        if visit is None:
            return None
        found = self.visit(visit)
        return message_response(403, "Forbidden") if found is None else found

    def body_limit(self, target: bytes, headers: Mapping[bytes, bytes]) -> int | None:
        """How many bytes the body of a request for a local address may have."""
        if not target.startswith((_OLD_PREFIX, _NEW_PREFIX)):
            return None
        is_local = _find_local(Request(b"", target, {}, b"", "")) is not None
        return limits.GATEWAY_REQUEST_MAX_BYTES if is_local else None

    def refuse_body(self, request: Request) -> Response | None:
        """The answer to one, given without its body, which is too large."""
        visit = _find_local(request)
        if visit is None:
            return None
        found = self.visit(replace(visit, is_body_too_large=True))
        if found is None:
            return message_response(403, "Forbidden")
        assert isinstance(found, Response)
        return found

    def visit(self, visit: Visit) -> Answering | None:
        """The answer to one request; None when the id is no REST API's."""
        api = self._apis.find(visit.site_id)
        if api is None:
            return None
        request_id = make_request_id()
        path = visit.target.partition(b"?")[0].decode("latin-1")
        name, slash, rest = path[1:].partition("/")
        stage = api.stages.get(name)
        is_closed = api.definition.settings.get("disableExecuteApiEndpoint", False)
        if stage is None or is_closed or visit.region not in (None, api.region):
            return _with_ids(message_response(403, "Forbidden"), request_id)
        trace = make_trace_id(visit.request.headers.get(b"x-amzn-trace-id"))
        found = self._find(api, stage, visit, slash + rest or "/", (request_id, trace))
        if isinstance(found, Response):
            return _with_ids(found, request_id, trace)
        return self._serving.start(self._serve(found))

    def _find(
        self, api: RestApi, stage: Stage, visit: Visit, path: str, ids: tuple[str, str]
    ) -> RestRequest | Response:
        """``ids`` are those of the request and of its trace."""
        request_id, trace = ids
        deployment = self._apis.find_deployment(api.id, stage.deployment_id)
        if deployment is None:
            return message_response(500, "Internal server error")
        match = self._routes_of(deployment).find(path, visit.request.method.decode("latin-1"))
        if match is None:
            return _refuse_path(deployment, request_id)
        request = RestRequest(
            api=api,
            stage=stage,
            definition=deployment.definition,
            match=match,
            visit=visit,
            path=path,
            request_id=request_id,
            trace_id=trace,
            epoch_s=self._clock(),
        )
        if visit.is_body_too_large:
            return _refuse(request, Refusal("REQUEST_TOO_LARGE", "Request Too Long"))
        return request

    async def _serve(self, request: RestRequest) -> Response:
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = _refuse(request, refusal)
        return _with_ids(response, request.request_id, request.trace_id)

    async def _answer(self, request: RestRequest) -> Response:
        usage_key = await self._authorizers.authorize(request)
        self._guard.check(request, usage_key)
        return await self._integrations.run(request)

    def _routes_of(self, deployment: Deployment) -> Routes:
        """Compiled once: a deployment never changes."""
        key = (deployment.api_id, deployment.id)
        routes = self._routes.get(key)
        if routes is None:
            if len(self._routes) >= _ROUTES_MAX:
                self._routes.clear()
            routes = self._routes[key] = Routes(deployment.definition)
        return routes


def _find_local(request: Request) -> Visit | None:
    """Where a local address leads; None for all others."""
    path, mark, query = request.target.partition(b"?")
    if path.startswith(_NEW_PREFIX):
        site_id, _, rest = path.removeprefix(_NEW_PREFIX).partition(b"/")
    elif path.startswith(_OLD_PREFIX):
        head, is_ours, rest = path.removeprefix(_OLD_PREFIX).partition(_USER_REQUEST)
        site_id, _, stage = head.partition(b"/")
        if not is_ours:  # an operation of the API
            return None
        rest = stage + rest
    else:
        return None
    return Visit(site_id.decode("latin-1"), b"/" + rest + mark + query, request)


def _refuse(request: RestRequest, refusal: Refusal) -> Response:
    settings = request.definition.gateway_responses
    return answer(refusal, settings, request.context(), request.variables(""))


def _refuse_path(deployment: Deployment, request_id: str) -> Response:
    """Nothing is at that path, or not by that method. The sentence is AWS's, for this too."""
    return answer(
        Refusal("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token"),
        deployment.definition.gateway_responses,
        {"requestId": request_id, "apiId": deployment.api_id},
        Variables(),
    )


def _with_ids(response: Response, request_id: str, trace: str | None = None) -> Response:
    ids = [
        (b"x-amzn-RequestId", request_id.encode()),
        (b"x-amz-apigw-id", extended_id(request_id).encode()),
    ]
    if trace is not None:
        ids.append((b"X-Amzn-Trace-Id", trace.encode("latin-1", "replace")))
    response.headers = [*response.headers, *ids]
    return response
