"""One function behind every kind of address, and raw connections to it, for tests of bad input."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import load_balancers
import rest_apis
from running_platform import ACCOUNT, REGION, Deployer, Platform

MIB = 1024 * 1024
# Says in its log where it was called; large answers are below the limit of all kinds.
FUNCTION = """
import json
def handler(event, context):
    path = event.get("rawPath") or event.get("path") or ""
    print("CALLED", path)
    if path.endswith("/large"):
        return {"statusCode": 200, "body": "x" * 900_000}
    size = len(event.get("body") or "")
    return {"statusCode": 200, "body": json.dumps({"path": path, "size": size})}
"""
ECHO = "def handler(event, context):\n    return event\n"


@dataclass(frozen=True, slots=True)
class Site:
    """``prefix`` begins every path; ``refusal`` is in the answer to a body above ``limit``."""

    host: str
    prefix: str
    limit: int
    refusal: bytes

    def head(self, path: str, *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
        first = f"{method} {self.prefix}{path} HTTP/{version}"
        return "\r\n".join((first, f"Host: {self.host}", *lines, "", "")).encode("latin-1")


class Sites:
    """All of them, for one function that everybody may call."""

    def __init__(self, platform: Platform, deployer: Deployer) -> None:
        self.platform = platform
        self.function = deployer(FUNCTION)
        self._rest = self._make_rest()
        self._http = self._make_http("HTTP")
        self._sockets = self._make_http("WEBSOCKET")
        self._balancer = self._make_balancer()
        self.by_kind = {
            "url": Site(self._make_url(), "", 6_291_456, b"for the InvokeFunction operation"),
            "http": Site(self._address(self._http), "", 10_485_760, b"Request Entity Too Large"),
            "rest": Site(self._address(self._rest.id), "/prod", 10_485_760, b"Request Too Long"),
            "socket": Site(
                self._address(self._sockets), "/prod", 10_485_760, b"Request Entity Too Large"
            ),
            "balancer": Site(
                f"{self._balancer.name}:{platform.port}", "", MIB, b"413 Request Entity Too Large"
            ),
        }

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the APIs."""
        return {"rest": self._rest.id, "http": self._http}

    def close(self) -> None:
        gateway = self.platform.client("apigatewayv2")
        gateway.delete_api(ApiId=self._http)
        gateway.delete_api(ApiId=self._sockets)
        self._rest.client.delete_rest_api(restApiId=self._rest.id)
        self._balancer.client.delete_load_balancer(LoadBalancerArn=self._balancer.arn)

    def called(self) -> list[str]:
        """Where the function has been called."""
        lines = self.platform.log_lines(f"/aws/lambda/{self.function}")
        return [line.split(None, 1)[1].strip() for line in lines if line.startswith("CALLED /")]

    def _address(self, api_id: str) -> str:
        return f"{api_id}.execute-api.{REGION}.localhost:{self.platform.port}"

    def _make_url(self) -> str:
        client = self.platform.client("lambda")
        made = client.create_function_url_config(FunctionName=self.function, AuthType="NONE")
        client.add_permission(
            FunctionName=self.function,
            StatementId="url",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
        )
        client.add_permission(
            FunctionName=self.function,
            StatementId="invoke",
            Action="lambda:InvokeFunction",
            Principal="*",
            InvokedViaFunctionUrl=True,
        )
        return urlsplit(made["FunctionUrl"]).netloc

    def _make_rest(self) -> rest_apis.Api:
        rest_apis.permit(self.platform, self.function)
        api = rest_apis.make_api(self.platform)
        api.method("/", "ANY", rest_apis.proxy(self.function))
        api.method("/{all+}", "ANY", rest_apis.proxy(self.function))
        api.deploy()
        return api

    def _make_http(self, protocol: str) -> str:
        client = self.platform.client("apigatewayv2")
        is_http = protocol == "HTTP"
        more = {} if is_http else {"RouteSelectionExpression": "$request.body.action"}
        api_id: str = client.create_api(Name="hostile", ProtocolType=protocol, **more)["ApiId"]
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.function}"
        uri = f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{arn}/invocations"
        options = {"PayloadFormatVersion": "2.0"} if is_http else {}
        integration = client.create_integration(
            ApiId=api_id,
            IntegrationType="AWS_PROXY",
            IntegrationUri=arn if is_http else uri,
            **options,
        )["IntegrationId"]
        for key in ("$default",) if is_http else ("$connect", "$default"):
            client.create_route(ApiId=api_id, RouteKey=key, Target=f"integrations/{integration}")
        stage = "$default" if is_http else "prod"
        client.create_stage(ApiId=api_id, StageName=stage, AutoDeploy=True)
        return api_id

    def _make_balancer(self) -> load_balancers.Balancer:
        balancer = load_balancers.make_balancer(self.platform)
        balancer.forward(load_balancers.make_group(self.platform, self.function))
        return balancer


def send(platform: Platform, data: bytes, *, timeout_s: float = 30.0) -> bytes:
    """All that comes back until the platform closes; what it does not want to read is not sent."""
    received = b""
    with socket.create_connection(("127.0.0.1", platform.port), timeout=timeout_s) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(65_536):
                received += chunk
    return received


def status_of(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    return int(answer.split(b" ", 2)[1])


def resident_bytes(platform: Platform) -> int:
    """Of the platform's own process."""
    pages = Path(f"/proc/{platform.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


@contextlib.contextmanager
def unharmed(platform: Platform, name: str) -> Iterator[list[int]]:
    """Invokes ``name`` over and over while the block runs: each answer must be right. Yields the
    numbers that were answered."""
    answered: list[int] = []
    wrong: list[str] = []
    over = threading.Event()

    def invoke() -> None:
        number = 0
        while not over.is_set() or not answered:
            number += 1
            try:
                answer = platform.invoke(name, number)
            except Exception as error:  # Told by the test's own thread.
                wrong.append(repr(error))
                return
            if answer.json != number:
                wrong.append(f"{number}: {answer.body!r}")
                return
            answered.append(number)

    thread = threading.Thread(target=invoke)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join(120)
    assert not wrong, json.dumps(wrong)
    assert answered
