"""The Extensions API of one sandbox, and the subscriptions of the Telemetry and Logs APIs.

It is served beside the Runtime API, on the same address, and like it trusts nothing that comes in.
Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html and telemetry-api.html;
error types and sentences as in AWS's runtime interface emulator. Our own are the sentences for a
body that is no JSON and for a subscription that is not valid.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from firelet.model.function import FunctionVersion
from firelet.runtime.extension_phases import ExtensionEvent
from firelet.runtime.extensions import Extension, Extensions, Refused
from firelet.runtime.posted import ACCEPTED, JSON, refuse
from firelet.runtime.telemetry_subscription import (
    Api,
    InvalidSubscription,
    Subscription,
    parse_subscription,
)
from firelet.wire.http1 import Request, Response
from firelet.wire.prompt import PromptFuture

PREFIXES = (b"/2020-01-01/extension/", b"/2022-07-01/telemetry", b"/2020-08-15/logs")

_BASE = "/2020-01-01/extension/"
_IDENTIFIER = b"lambda-extension-identifier"
_NAME = b"lambda-extension-name"
_ERROR_TYPE = b"lambda-extension-function-error-type"
_FEATURES = b"lambda-extension-accept-feature"
# Names and error types end up in log lines of ours.
_PLAIN = re.compile(rb"[\x20-\x7e]{1,128}")
_APIS = {b"/2022-07-01/telemetry": Api.TELEMETRY, b"/2020-08-15/logs": Api.LOGS}

Answer = Response | asyncio.Future[Response]
Subscribe = Callable[[Subscription], None]


class ExtensionApi:
    """Serves the extensions of one environment. ``subscribe`` takes what an extension wants to
    hear of; InvalidSubscription if that cannot be, Refused if it is too late."""

    def __init__(
        self, version: FunctionVersion, extensions: Extensions, subscribe: Subscribe
    ) -> None:
        self._version = version
        self._extensions = extensions
        self._subscribe_to = subscribe
        self._calls: dict[tuple[bytes, str], Callable[[Request], Answer]] = {
            (b"POST", _BASE + "register"): self._register,
            (b"GET", _BASE + "event/next"): self._next,
            (b"POST", _BASE + "init/error"): self._init_error,
            (b"POST", _BASE + "exit/error"): self._exit_error,
            (b"PUT", "/2022-07-01/telemetry"): self._subscribe,
            (b"PUT", "/2020-08-15/logs"): self._subscribe,
        }

    def __call__(self, request: Request) -> Answer:
        path = request.path.rstrip(b"/").decode("latin-1")
        call = self._calls.get((request.method, path))
        if call is None:
            return refuse(404, "InvalidPath", "The path is not part of the Extensions API.")
        try:
            return call(request)
        except Refused as refused:
            return refuse(403, refused.error_type, refused.message)

    def _register(self, request: Request) -> Response:
        name = request.headers.get(_NAME, b"")
        if not name:
            raise Refused("Extension.InvalidExtensionName", "Empty extension name")
        if not _PLAIN.fullmatch(name):
            raise Refused("Extension.InvalidExtensionName", "Invalid extension name")
        extension = self._extensions.register(name.decode(), _parse_events(request.body))
        version = self._version
        document = {
            "functionName": version.name,
            "functionVersion": version.version,
            "handler": version.handler or "",
        }
        features = request.headers.get(_FEATURES, b"").split(b",")
        if b"accountId" in (feature.strip() for feature in features):
            document["accountId"] = version.account
        identifier = (b"lambda-extension-identifier", extension.identifier.encode())
        return Response(200, orjson.dumps(document), (JSON, identifier))

    def _next(self, request: Request) -> Answer:
        extension = self._caller(request)
        event = self._extensions.ask(extension)
        answer = _NextAnswer(self._extensions, extension, event)
        event.listen(answer.on_event)
        return answer

    def _init_error(self, request: Request) -> Response:
        return self._report(request, ExtensionEvent.INIT_ERROR)

    def _exit_error(self, request: Request) -> Response:
        return self._report(request, ExtensionEvent.EXIT_ERROR)

    def _report(self, request: Request, event: ExtensionEvent) -> Response:
        identifier = _parse_identifier(request)
        named = request.headers.get(_ERROR_TYPE, b"")
        if not named:
            raise Refused(
                "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"
            )
        extension = self._extensions.find(identifier)
        if extension is None:
            raise Refused(
                "Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier"
            )
        error_type = named.decode() if _PLAIN.fullmatch(named) else "UnknownError"
        self._extensions.report(extension, event, error_type)
        return ACCEPTED

    def _subscribe(self, request: Request) -> Response:
        extension = self._caller(request)
        api = _APIS[request.path.rstrip(b"/")]
        try:
            self._subscribe_to(parse_subscription(extension.name, api, request.body))
        except InvalidSubscription as error:
            return refuse(400, "ValidationError", str(error))
        return Response(200, b'"OK"', (JSON,))

    def _caller(self, request: Request) -> Extension:
        identifier = _parse_identifier(request)
        extension = self._extensions.find(identifier)
        if extension is None:
            raise Refused("Extension.UnknownExtensionIdentifier", f"Unknown extension {identifier}")
        return extension


class _NextAnswer(PromptFuture[Response]):
    """The response to GET event/next, written in the turn of the loop in which the event is."""

    def __init__(
        self, extensions: Extensions, extension: Extension, event: PromptFuture[bytes]
    ) -> None:
        super().__init__(loop=event.get_loop())
        self._extensions = extensions
        self._extension = extension
        self._event = event

    def on_event(self, event: PromptFuture[bytes]) -> None:
        if self.done():
            return
        if event.cancelled():
            super().cancel()
            return
        identifier = (b"lambda-extension-event-identifier", str(uuid.uuid4()).encode())
        self.set_result(Response(200, event.result(), (JSON, identifier)))

    def cancel(self, msg: Any | None = None) -> bool:
        # An extension that lost its connection asks again, and must not find its event gone.
        self._extensions.withdraw(self._extension, self._event)
        return super().cancel(msg)


def _parse_identifier(request: Request) -> str:
    given = request.headers.get(_IDENTIFIER, b"")
    if not given:
        raise Refused(
            "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"
        )
    try:
        return str(uuid.UUID(given.decode("latin-1")))
    except ValueError:
        raise Refused(
            "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
        ) from None


def _parse_events(body: bytes) -> list[str]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("InvalidRequestFormat", f"The body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused("InvalidRequestFormat", "The body is not a JSON object")
    if document.get("configurationKeys"):
        raise Refused(
            "InvalidRequestFormat",
            "configurationKeys are deprecated; use environment variables instead",
        )
    events = document.get("events") or []
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        raise Refused("InvalidRequestFormat", "events is not a list of strings")
    return [event[:64] for event in events[:16]]
