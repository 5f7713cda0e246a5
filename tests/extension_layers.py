"""Layers with extensions for tests, and what is said to the Extensions API by hand.

``CLIENT`` is a small client in Python that extensions and functions of tests begin with.
"""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from running_platform import Answer, Platform, pack, wait_until

CLIENT = '''#!/usr/bin/env python3
import http.server, json, os, signal, socket, sys, threading, time, urllib.error, urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
NAME = os.path.basename(sys.argv[0])

def call(method, path, body=None, **headers):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, method=method)
    for name, value in headers.items():
        request.add_header("Lambda-Extension-" + name.replace("_", "-"), value)
    try:
        with urllib.request.urlopen(request, timeout=None) as answer:
            return answer.status, dict(answer.headers), json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.loads(error.read() or b"null")

def register(*events, name=NAME, **headers):
    status, headers, body = call("POST", "/2020-01-01/extension/register",
                                 {"events": list(events)}, Name=name, **headers)
    assert status == 200, body
    return {key.lower(): value for key, value in headers.items()}["lambda-extension-identifier"]

def next_event(identifier):
    return call("GET", "/2020-01-01/extension/event/next", Identifier=identifier)[2]

def say(*words):
    print(*words, flush=True)

def serve(port, events=None):
    """Collects what telemetry brings; the list of events."""
    events = [] if events is None else events
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        def do_POST(self):
            events.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return events

def subscribe(identifier, port, types, path="/2022-07-01/telemetry", schema="2022-12-13", **more):
    document = {"schemaVersion": schema, "types": types,
                "buffering": {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
                "destination": {"protocol": "HTTP",
                                "URI": "http://sandbox.localdomain:%d/x" % port}}
    document.update(more)
    return call("PUT", path, document, Identifier=identifier)
'''

# An extension with no more than a shell.
SHELL = """#!/bin/bash
set -eu
host=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API#*:}
call() {  # method, path, header, body
    exec 9<>/dev/tcp/$host/$port
    printf '%s /2020-01-01/extension/%s HTTP/1.1\\r\\nHost: a\\r\\n%s\\r\\n' "$1" "$2" "$3" >&9
    printf 'Content-Length: %d\\r\\n\\r\\n%s' "${#4}" "$4" >&9
    length=0
    while IFS=$'\\r' read -r line <&9 && [ -n "${line%$'\\r'}" ]; do
        line=${line%$'\\r'}
        case ${line,,} in
            lambda-extension-identifier:*) id=${line#*: } ;;
            content-length:*) length=${line#*: } ;;
        esac
    done
    read -r -N "$length" body <&9
    exec 9>&-
}
call POST register 'Lambda-Extension-Name: in-shell' '{"events":["INVOKE","SHUTDOWN"]}'
while true; do
    call GET event/next "Lambda-Extension-Identifier: $id" ''
    case $body in
        *SHUTDOWN*) echo shell got SHUTDOWN; exit 0 ;;
    esac
    request=${body#*'"requestId":"'}
    echo "shell got INVOKE ${request%%'"'*}"
done
"""

ECHO = "def handler(event, context):\n    return event\n"
SLEEPS = "import time\ndef handler(event, context):\n    time.sleep(5)\n"
FAILS = """
import os, time
def handler(event, context):
    if event == "sleep":
        time.sleep(5)
    if event == "exit":
        os._exit(3)
    return event
"""
HANDLES_SIGNAL = """
import signal, sys
def end(number, frame):
    print("RUNTIME TOLD", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
def handler(event, context):
    return None
"""
# One that has used up the connections of its sandbox is refused until it has closed some.
ASKS_ON = """
while True:
    try:
        next_event(identifier)
    except (OSError, ValueError):
        time.sleep(0.05)
"""

_numbers = itertools.count(1)


class ExtensionLayers:
    """Publishes layers with extensions, and deletes them at the end of the test."""

    def __init__(self, platform: Platform) -> None:
        self._client = platform.client("lambda")
        self._made: list[tuple[str, int]] = []

    def __call__(self, files: dict[str, str] | None = None, **extensions: str) -> str:
        """A layer whose ``extensions`` are the given texts, by name; its ARN."""
        names = {f"extensions/{name}": text for name, text in extensions.items()}
        content = {**(files or {}), **names}
        layer = f"extensions-{next(_numbers)}-{uuid.uuid4().hex[:6]}"
        answer: dict[str, Any] = self._client.publish_layer_version(
            LayerName=layer,
            Content={"ZipFile": pack(content, executable=tuple(content))},
        )
        self._made.append((layer, answer["Version"]))
        arn: str = answer["LayerVersionArn"]
        return arn

    def close(self) -> None:
        for layer, number in self._made:
            self._client.delete_layer_version(LayerName=layer, VersionNumber=number)


def invoke_to_the_end(platform: Platform, name: str, event: Any = None, **options: Any) -> Answer:
    """An invocation that is answered when extensions are done as well. Its environment is free
    then, so that the next one meets it; after any other answer it may still be at work, and the
    next invocation gets another."""
    return platform.invoke(name, event, LogType="Tail", **options)


def log_of(platform: Platform, name: str) -> list[str]:
    return platform.log_lines(f"/aws/lambda/{name}")


def until_logged(platform: Platform, name: str, word: str) -> list[str]:
    """The log once ``word`` is in it."""

    def logged() -> list[str] | None:
        lines = log_of(platform, name)
        return lines if any(word in line for line in lines) else None

    found: list[str] = wait_until(logged, f"{word!r} is logged")
    return found


def is_frozen(platform: Platform, name: str) -> bool:
    return bool(platform.status_of(name).get("frozen"))


def is_idle(platform: Platform, name: str) -> bool:
    """Whether an environment of the function waits for an invocation, be it frozen or not."""
    status = platform.status_of(name)
    return bool(status and status["idle"] + status["frozen"])
