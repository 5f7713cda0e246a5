"""Function URLs: requests to the address of a function or an alias.

What it is: preflight, authorization, event, invocation, answer. What it is not: the records of URLs
(``control.urls``). A site of ``hosts``.
Source: docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html, urls-auth.html; recorded answers.
firelet's own: an address that is nobody's answers as one that nobody may call; a result that is no
answer gets the body of a function error; what AWS says when a function cannot run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson

from firelet.control.urls import FoundUrl, FunctionUrls
from firelet.gateway import cors
from firelet.gateway.answers import JSON_TYPE
from firelet.gateway.function_calls import (
    FunctionCalls,
    make_request_id,
    make_trace_id,
    payload_too_large,
)
from firelet.gateway.function_url_auth import UrlAuthorizer, forbidden, format_authorizer
from firelet.gateway.hosts import Answering, Visit
from firelet.gateway.http_event import Origin, format_event, parse_result
from firelet.gateway.proxy_event import MalformedResult
from firelet.gateway.serving import Answer, Serving
from firelet.gateway.streamed_answer import StreamedAnswer
from firelet.model.errors import CallerError, FireletError
from firelet.model.function_url import RESPONSE_STREAM
from firelet.wire.http1 import Response

log = logging.getLogger(__name__)

_PREFLIGHT_STATUS = 200
_SERVER_ERROR = b"Internal Server Error"


class FunctionUrlSite:
    """``visit`` is given to ``HostRoutes``. ``clock`` gives epoch seconds."""

    def __init__(
        self,
        urls: FunctionUrls,
        authorizer: UrlAuthorizer,
        calls: FunctionCalls,
        serving: Serving,
        clock: Callable[[], float],
    ) -> None:
        self._urls = urls
        self._authorizer = authorizer
        self._calls = calls
        self._serving = serving
        self._clock = clock

    def visit(self, visit: Visit) -> Answering:
        """The answer to one request."""
        request, request_id = visit.request, make_request_id()
        found = self._urls.find(visit.site_id)
        if found is None or visit.region not in (None, found.key[1]):
            return _add_ids(_refuse(forbidden()), request_id)
        settings = found.url.cors
        if settings is not None and cors.is_preflight(request):
            return cors.preflight(settings, request, _PREFLIGHT_STATUS)
        if visit.is_body_too_large:
            refused = _refuse(payload_too_large())
            return _finish(refused, found, visit, request_id, make_trace_id(None))
        if found.url.invoke_mode == RESPONSE_STREAM:
            return self._serving.start_open(
                lambda answer: self._stream(found, visit, request_id, answer)
            )
        return self._serving.start(self._serve(found, visit, request_id))

    async def _serve(self, found: FoundUrl, visit: Visit, request_id: str) -> Response:
        trace = make_trace_id(visit.request.headers.get(b"x-amzn-trace-id"))
        try:
            event = self._make_event(found, visit, request_id, trace)
            outcome = await self._calls.call(found.ref, event, request_id, trace)
            if outcome.function_error is not None:
                response = _fail()
            else:
                response = parse_result(outcome.payload)
        except MalformedResult as error:
            response = _fail_malformed(error, request_id)
        except FireletError as error:
            response = _refuse_logged(error, request_id)
        return _finish(response, found, visit, request_id, trace)

    async def _stream(self, found: FoundUrl, visit: Visit, request_id: str, answer: Answer) -> None:
        trace = make_trace_id(visit.request.headers.get(b"x-amzn-trace-id"))
        sink = StreamedAnswer(
            answer,
            lambda response: _finish(response, found, visit, request_id, trace),
            lambda error: _fail_malformed(error, request_id),
        )
        response = _fail()
        try:
            event = self._make_event(found, visit, request_id, trace)
            outcome = await self._calls.stream(found.ref, event, request_id, trace, sink)
            if outcome.function_error is None:
                sink.end()
                return
        except FireletError as error:
            response = _refuse_logged(error, request_id)
        if sink.has_begun:
            sink.abort()
        elif not answer.done():
            answer.set_result(_finish(response, found, visit, request_id, trace))

    def _make_event(self, found: FoundUrl, visit: Visit, request_id: str, trace: str) -> bytes:
        """AccessDenied when the caller may not."""
        caller = self._authorizer.authorize(found, visit.request)
        path, _, query = visit.target.partition(b"?")
        url_id, region = found.url.url_id, found.key[1]
        return format_event(
            visit.request,
            Origin(
                api_id=url_id,
                account="anonymous" if caller is None else caller.account,
                domain=visit.domain or f"{url_id}.lambda-url.{region}.localhost",
                path=path.decode("latin-1"),
                query=query,
                request_id=request_id,
                trace_id=trace,
                epoch_s=self._clock(),
                authorizer=None if caller is None else format_authorizer(caller),
                is_signed=caller is not None,
            ),
        )


def _finish(
    response: Response, found: FoundUrl, visit: Visit, request_id: str, trace: str
) -> Response:
    """What every answer has."""
    response = _add_ids(response, request_id, trace)
    settings = found.url.cors
    return response if settings is None else cors.share(settings, visit.request, response)


def _fail_malformed(error: MalformedResult, request_id: str) -> Response:
    log.warning("function url result not answered request=%s: %s", request_id, error)
    return _fail()


def _refuse_logged(error: FireletError, request_id: str) -> Response:
    if not isinstance(error, CallerError):
        log.warning("function url not served request=%s: %s", request_id, error.message)
    return _refuse(error)


def _add_ids(response: Response, request_id: str, trace: str | None = None) -> Response:
    ids = [(b"x-amzn-RequestId", request_id.encode())]
    if trace is not None:
        ids.append((b"X-Amzn-Trace-Id", trace.encode("latin-1", "replace")))
    response.headers = [*response.headers, *ids]
    return response


def _fail() -> Response:
    """The function failed, or its result is none. What went wrong is in its log."""
    return Response(502, _SERVER_ERROR, (JSON_TYPE,))


def _refuse(error: FireletError) -> Response:
    """AWS's error as JSON; a failure of the platform says no more than that."""
    headers = [JSON_TYPE, (b"x-amzn-ErrorType", error.code.encode())]
    if not isinstance(error, CallerError):
        return Response(error.status, _SERVER_ERROR, headers)
    return Response(error.status, orjson.dumps({"Message": error.message, **error.fields}), headers)
