"""WebSocket APIs with a real client: connecting, messages, the management API, limits."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from running_platform import ACCOUNT, REGION, Deployer, Platform, wait_until
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

# Tells what it was asked, in its log and in its result; ``$connect`` does what the query says.
FUNCTION = """
import json, time
def handler(event, context):
    context_ = event["requestContext"]
    print("EVENT", json.dumps(event), flush=True)
    asked = event.get("queryStringParameters") or {}
    if context_["eventType"] == "CONNECT":
        if asked.get("do") == "raise":
            raise ValueError("on purpose")
        headers = {"Sec-WebSocket-Protocol": asked["protocol"]} if "protocol" in asked else {}
        return {"statusCode": int(asked.get("status", 200)), "headers": headers}
    if context_["eventType"] == "DISCONNECT":
        return {"statusCode": 200}
    message = event["body"]
    if message.startswith("{"):
        told = json.loads(message)
        time.sleep(told.get("sleep", 0))
        if "raise" in told:
            raise ValueError(told["raise"])
        if "quiet" in told:
            return {"statusCode": 200}
    return {"statusCode": 200, "body": json.dumps({"route": context_["routeKey"], "event": event})}
"""


class Sockets:
    """One WebSocket API whose routes all lead to one function."""

    def __init__(self, platform: Platform, name: str, *routes: str, responds: bool = True) -> None:
        self.platform, self.name = platform, name
        client = self._client = platform.client("apigatewayv2")
        made = client.create_api(
            Name="sockets",
            ProtocolType="WEBSOCKET",
            RouteSelectionExpression="$request.body.action",
        )
        self.id, self.endpoint = made["ApiId"], made["ApiEndpoint"]
        integration = client.create_integration(
            ApiId=self.id,
            IntegrationType="AWS_PROXY",
            IntegrationUri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
            f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}/invocations",
        )
        for key in routes:
            route = client.create_route(
                ApiId=self.id,
                RouteKey=key,
                Target=f"integrations/{integration['IntegrationId']}",
                **({"RouteResponseSelectionExpression": "$default"} if responds else {}),
            )
            if responds:
                client.create_route_response(
                    ApiId=self.id, RouteId=route["RouteId"], RouteResponseKey="$default"
                )
        client.create_stage(
            ApiId=self.id, StageName="prod", AutoDeploy=True, StageVariables={"color": "red"}
        )
        platform.client("lambda").add_permission(
            FunctionName=name,
            StatementId=f"sockets-{self.id}",
            Action="lambda:InvokeFunction",
            Principal="apigateway.amazonaws.com",
            SourceArn=f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{self.id}/*",
        )

    def connect(self, query: str = "", **options: Any) -> ClientConnection:
        """By the API's own name, at the platform's address."""
        options = {"open_timeout": 30, "proxy": None, **options}
        address = ("127.0.0.1", self.platform.port)
        return connect(f"{self.endpoint}/prod{query}", address=address, **options)

    def management(self, **options: Any) -> Any:
        return boto3.session.Session().client(
            "apigatewaymanagementapi",
            endpoint_url=f"{self.platform.url}/_firelet/api/{self.id}/prod",
            region_name=options.get("region", REGION),
            aws_access_key_id=options.get("account", ACCOUNT),
            aws_secret_access_key="any",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def events(self) -> list[Any]:
        """Every event of the function, as it logged them."""
        lines = self.platform.log_lines(f"/aws/lambda/{self.name}")
        return [json.loads(line[6:]) for line in lines if line.startswith("EVENT ")]

    def event(self, kind: str) -> Any:
        """The first one of its kind."""
        found = wait_until(
            lambda: [e for e in self.events() if e["requestContext"]["eventType"] == kind],
            f"an event of type {kind}",
        )
        return found[0]

    def close(self) -> None:
        self._client.delete_api(ApiId=self.id)


Make = Callable[..., Sockets]


@pytest.fixture
def make(deploy: Deployer, platform: Platform) -> Iterator[Make]:
    made: list[Sockets] = []

    def _make(*routes: str, **options: Any) -> Sockets:
        made.append(Sockets(platform, deploy(FUNCTION), *routes, **options))
        return made[-1]

    yield _make
    for api in made:
        api.close()


@pytest.fixture
def api(make: Make) -> Sockets:
    return make("$connect", "$disconnect", "$default", "greet")


def ask(client: ClientConnection, message: str | bytes) -> Any:
    client.send(message)
    return json.loads(client.recv(30))


def test_the_events_of_a_connection(api: Sockets) -> None:
    host = urlsplit(api.endpoint).netloc
    with api.connect(
        "?a=1&a=2", user_agent_header="tester", additional_headers={"X-One": "1"}
    ) as client:
        message = ask(client, '{"action": "greet"}')["event"]
    connect_ = api.event("CONNECT")
    context = connect_.pop("requestContext")
    headers = connect_.pop("headers")
    assert connect_.pop("multiValueHeaders") == {name: [value] for name, value in headers.items()}
    assert connect_ == {
        "queryStringParameters": {"a": "2"},
        "multiValueQueryStringParameters": {"a": ["1", "2"]},
        "stageVariables": {"color": "red"},
        "isBase64Encoded": False,
    }
    assert headers["Host"] == host
    assert headers["X-One"] == "1"
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert not {"Upgrade", "Connection"} & headers.keys()
    connection_id = context["connectionId"]
    assert len(connection_id) == 16
    shared = {
        "stage": "prod",
        "messageDirection": "IN",
        "identity": {"userAgent": "tester", "sourceIp": "127.0.0.1"},
        "domainName": host.partition(":")[0],
        "connectionId": connection_id,
        "connectedAt": context["connectedAt"],
        "apiId": api.id,
    }
    assert context == shared | {
        "routeKey": "$connect",
        "eventType": "CONNECT",
        "requestId": context["requestId"],
        "extendedRequestId": context["extendedRequestId"],
        "requestTime": context["requestTime"],
        "requestTimeEpoch": context["requestTimeEpoch"],
    }
    context = message.pop("requestContext")
    assert message == {
        "stageVariables": {"color": "red"},
        "body": '{"action": "greet"}',
        "isBase64Encoded": False,
    }
    assert context.items() >= (shared | {"routeKey": "greet", "eventType": "MESSAGE"}).items()
    assert context["messageId"]
    disconnect = api.event("DISCONNECT")
    context = disconnect["requestContext"]
    assert context.items() >= (shared | {"routeKey": "$disconnect"}).items()
    assert (context["disconnectStatusCode"], context["disconnectReason"]) == (1000, "")
    assert disconnect["headers"]["Host"] == host


@pytest.mark.parametrize(
    ("message", "route"),
    [
        ('{"action": "greet"}', "greet"),
        ('{"action": "other"}', "$default"),
        ('{"action": 7}', "$default"),
        ('{"action": "$connect"}', "$default"),
        ("no json", "$default"),
        ("[1]", "$default"),
    ],
)
def test_the_member_of_a_message_selects_its_route(api: Sockets, message: str, route: str) -> None:
    with api.connect() as client:
        assert ask(client, message)["route"] == route


def test_messages_of_bytes_come_as_base64(api: Sockets) -> None:
    with api.connect() as client:
        event = ask(client, b"\x00\xff")["event"]
    assert (event["body"], event["isBase64Encoded"]) == (base64.b64encode(b"\0\xff").decode(), True)


def test_without_a_route_a_message_is_forbidden(make: Make) -> None:
    with make("greet").connect() as client:
        answer = ask(client, "hello")
    assert answer["message"] == "Forbidden"
    assert answer.keys() == {"message", "connectionId", "requestId"}


def test_a_failing_function_is_an_internal_error(api: Sockets) -> None:
    with api.connect() as client:
        answer = ask(client, '{"raise": "x"}')
        assert answer["message"] == "Internal server error"
        assert answer.keys() == {"message", "connectionId", "requestId"}
        assert ask(client, "still open")["route"] == "$default"


def test_without_a_route_response_results_stay_here(make: Make) -> None:
    api = make("$default", responds=False)
    with api.connect() as client:
        client.send("hello")
        api.event("MESSAGE")
        with pytest.raises(TimeoutError):
            client.recv(0.3)


def test_a_result_without_a_body_sends_nothing(api: Sockets) -> None:
    with api.connect() as client:
        client.send('{"quiet": 1}')
        assert ask(client, "loud")["event"]["body"] == "loud"


@pytest.mark.parametrize(
    ("query", "status"), [("?status=401", 401), ("?status=403", 403), ("?do=raise", 502)]
)
def test_connect_can_refuse(api: Sockets, query: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as caught:
        api.connect(query)
    assert caught.value.response.status_code == status
    api.event("CONNECT")
    with api.connect() as client:  # nothing of the refused one is left to be disconnected
        client.send("x")
        api.event("MESSAGE")
    assert [e["requestContext"]["eventType"] for e in api.events()].count("DISCONNECT") <= 1


def test_the_function_chooses_the_subprotocol(api: Sockets) -> None:
    with api.connect("?protocol=b", subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"


def test_without_permission_nobody_connects(api: Sockets, lambda_client: Any) -> None:
    lambda_client.remove_permission(FunctionName=api.name, StatementId=f"sockets-{api.id}")
    with pytest.raises(InvalidStatus) as caught:
        api.connect()
    assert caught.value.response.status_code == 502


def test_the_management_api(api: Sockets) -> None:
    management = api.management()
    with api.connect(user_agent_header="tester") as client:
        connection_id = ask(client, "x")["event"]["requestContext"]["connectionId"]
        management.post_to_connection(ConnectionId=connection_id, Data=b"grue\xc3\x9fe")
        assert client.recv(30) == "grueße"
        management.post_to_connection(ConnectionId=connection_id, Data=b"\xff")
        assert client.recv(30) == b"\xff"
        found = management.get_connection(ConnectionId=connection_id)
        assert found["Identity"] == {"SourceIp": "127.0.0.1", "UserAgent": "tester"}
        assert found["ConnectedAt"] <= found["LastActiveAt"]
        with pytest.raises(management.exceptions.PayloadTooLargeException):
            management.post_to_connection(ConnectionId=connection_id, Data=b"x" * 131_073)
        management.delete_connection(ConnectionId=connection_id)
        with pytest.raises(ConnectionClosed):
            client.recv(30)
        assert client.close_code == 1000
    for call in (
        lambda: management.get_connection(ConnectionId=connection_id),
        lambda: management.delete_connection(ConnectionId=connection_id),
        lambda: management.post_to_connection(ConnectionId=connection_id, Data=b""),
    ):
        with pytest.raises(management.exceptions.GoneException):
            call()
    assert api.event("DISCONNECT")["requestContext"]["disconnectStatusCode"] == 1000


def test_connections_are_managed_at_the_platforms_address_too(
    api: Sockets, platform: Platform
) -> None:
    management = platform.client("apigatewaymanagementapi")
    with api.connect() as client:
        connection_id = ask(client, "x")["event"]["requestContext"]["connectionId"]
        management.post_to_connection(ConnectionId=connection_id, Data=b"hello")
        assert client.recv(30) == "hello"
        other = platform.client("apigatewaymanagementapi", account="111122223333")
        with pytest.raises(other.exceptions.ForbiddenException):
            other.get_connection(ConnectionId=connection_id)
    with pytest.raises(management.exceptions.GoneException):
        management.get_connection(ConnectionId="nobody")


def test_who_may_not_manage_connections(api: Sockets, platform: Platform) -> None:
    with api.connect() as client:
        connection_id = ask(client, "x")["event"]["requestContext"]["connectionId"]
        path = f"{platform.url}/_firelet/api/{api.id}/prod/@connections/{connection_id}"
        assert fetch(path, "POST", body=b"x").status == 403
        for options in ({"account": "111122223333"}, {"region": "eu-west-1"}):
            other = api.management(**options)
            with pytest.raises(other.exceptions.ForbiddenException):
                other.post_to_connection(ConnectionId=connection_id, Data=b"x")


@pytest.mark.parametrize(
    ("message", "code"), [("x" * 131_073, 1009), (["x" * 32_769], 1009), (["x" * 32_768] * 4, None)]
)
def test_messages_and_frames_have_limits(
    make: Make, message: str | list[str], code: int | None
) -> None:
    api = make("$default")
    with api.connect(max_size=None) as client:
        # One that is too large may be refused while it is being sent.
        with contextlib.nullcontext() if code is None else pytest.raises(ConnectionClosed):
            client.send(message if isinstance(message, str) else iter(message))
            assert len(json.loads(client.recv(30))["event"]["body"]) == 131_072
        if code is not None:
            assert client.close_code == code


def test_a_plain_request_is_told_to_upgrade(api: Sockets, platform: Platform) -> None:
    answer = fetch(f"{platform.url}/_firelet/api/{api.id}/prod")
    assert (answer.status, answer.json) == (426, {"message": "Upgrade Required"})
    assert fetch(f"{platform.url}/_firelet/api/{api.id}/none").status == 403


def test_the_path_form_connects_too(api: Sockets, platform: Platform) -> None:
    uri = f"ws://127.0.0.1:{platform.port}/_firelet/api/{api.id}/prod"
    with connect(uri, proxy=None) as client:
        assert ask(client, "x")["route"] == "$default"


def test_messages_run_side_by_side(api: Sockets) -> None:
    with api.connect() as client:
        client.send('{"sleep": 2, "name": "slow"}')
        assert ask(client, "quick")["event"]["body"] == "quick"
        assert json.loads(json.loads(client.recv(30))["event"]["body"])["name"] == "slow"


def test_many_messages_at_once_are_all_answered(api: Sockets) -> None:
    with api.connect() as client:
        for number in range(200):
            client.send(str(number))
        seen = {json.loads(client.recv(60))["event"]["body"] for _ in range(200)}
    assert seen == {str(number) for number in range(200)}


class TestHostile:
    """Raw bytes on a WebSocket."""

    KEY = base64.b64encode(b"0123456789abcdef").decode()

    def open(
        self, api: Sockets, platform: Platform, *lines: str, rest: bytes = b""
    ) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", platform.port), timeout=30)
        head = [
            f"GET /prod HTTP/1.1\r\nHost: {urlsplit(api.endpoint).netloc}",
            *(lines or self.lines()),
        ]
        connection.sendall("\r\n".join((*head, "", "")).encode() + rest)
        return connection

    def lines(self, **changed: str) -> tuple[str, ...]:
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self.KEY,
            "Sec-WebSocket-Version": "13",
        }
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        return tuple(f"{name}: {value}" for name, value in headers.items() if value)

    def opened(self, api: Sockets, platform: Platform) -> socket.socket:
        connection = self.open(api, platform)
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += connection.recv(1)
        assert received.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"Content-Length" not in received
        return connection

    def read_all(self, connection: socket.socket) -> bytes:
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        connection.close()
        return received

    @pytest.mark.parametrize(
        "changed",
        [
            {"Upgrade": "h2c"},
            {"Upgrade": ""},
            {"Connection": "close"},
            {"Sec_WebSocket_Key": "short"},
            {"Sec_WebSocket_Key": ""},
            {"Sec_WebSocket_Version": "8"},
        ],
    )
    def test_handshakes_that_are_none(
        self, api: Sockets, platform: Platform, changed: dict[str, str]
    ) -> None:
        connection = self.open(api, platform, *self.lines(**changed))
        assert connection.recv(100).startswith(b"HTTP/1.1 426 ")
        connection.close()

    def test_bytes_sent_before_the_answer_are_refused(
        self, api: Sockets, platform: Platform
    ) -> None:
        received = self.read_all(self.open(api, platform, rest=b"\x81\x80abcd"))
        assert received.startswith(b"HTTP/1.1 400 ")
        assert b" 101 " not in received

    @pytest.mark.parametrize(
        ("frames", "code"),
        [
            (b"\x81\x01a", 1002),  # not masked
            (b"\x83\x80abcd", 1002),  # an opcode that is none
            (b"\xc1\x80abcd", 1002),  # a bit of an extension that was not agreed on
            (b"\x80\x80abcd", 1002),  # goes on with nothing
            (b"\x09\x80abcd", 1002),  # a ping in pieces
            (b"\x81\x81\x00\x00\x00\x00\xff", 1007),  # text that is no UTF-8
        ],
    )
    def test_broken_frames_close_the_connection(
        self, api: Sockets, platform: Platform, frames: bytes, code: int
    ) -> None:
        connection = self.opened(api, platform)
        connection.sendall(frames)
        received = self.read_all(connection)
        assert received[:1] == b"\x88"
        assert struct.unpack("!H", received[2:4])[0] == code

    def test_a_frame_that_claims_to_be_huge_holds_no_memory(
        self, api: Sockets, platform: Platform
    ) -> None:
        connection = self.opened(api, platform)
        connection.sendall(b"\x82\xff" + struct.pack("!Q", 2**40) + b"abcd" + os.urandom(200_000))
        received = connection.recv(100)
        assert struct.unpack("!H", received[2:4])[0] == 1009
        connection.close()

    def test_a_client_that_vanishes_is_disconnected(self, api: Sockets, platform: Platform) -> None:
        connection = self.opened(api, platform)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        context = api.event("DISCONNECT")["requestContext"]
        assert context["disconnectStatusCode"] == 1006

    def test_pings_are_answered(self, api: Sockets, platform: Platform) -> None:
        connection = self.opened(api, platform)
        connection.sendall(b"\x89\x82\x00\x00\x00\x00hi")
        assert connection.recv(100) == b"\x8a\x02hi"
        connection.close()

    def test_a_client_that_does_not_read_is_cut_off(self, api: Sockets, platform: Platform) -> None:
        connection = self.opened(api, platform)
        connection_id = api.event("CONNECT")["requestContext"]["connectionId"]
        management = api.management()

        def post_for_ever() -> None:
            for _ in itertools.repeat(None, 1_000):
                management.post_to_connection(ConnectionId=connection_id, Data=b"x" * 131_072)

        with pytest.raises(management.exceptions.ClientError) as caught:
            post_for_ever()
        assert caught.value.response["Error"]["Code"] in ("GoneException", "LimitExceededException")
        api.event("DISCONNECT")
        connection.close()


def test_idle_and_old_connections_are_closed(
    make_platform: Callable[..., Platform],
) -> None:
    platform = make_platform(FIRELET_WEBSOCKET_IDLE_S="0.5", FIRELET_WEBSOCKET_LIFETIME_S="1.5")
    api = Sockets(platform, Deployer(platform)(FUNCTION), "$default", "$disconnect")
    with api.connect() as client:
        with pytest.raises(ConnectionClosed):
            client.recv(30)
        assert client.close_code == 1001

    def ask_for_ever(client: ClientConnection) -> None:
        while True:
            ask(client, "busy")

    with api.connect() as client, pytest.raises(ConnectionClosed):
        ask_for_ever(client)
    assert client.close_code == 1001
    assert api.event("DISCONNECT")["requestContext"]["disconnectStatusCode"] == 1001


def test_a_platform_that_stops_says_good_bye(make_platform: Callable[..., Platform]) -> None:
    platform = make_platform()
    api = Sockets(platform, Deployer(platform)(FUNCTION), "$default")
    with api.connect() as client:
        ask(client, "x")
        assert platform.stop() == 0
        with pytest.raises(ConnectionClosed):
            client.recv(30)
        assert client.close_code == 1001


async def test_a_thousand_connections_stay_open(make: Make, platform: Platform) -> None:
    api = make("$default")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uri = f"ws://127.0.0.1:{platform.port}/_firelet/api/{api.id}/prod"
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect_async(uri, proxy=None)) for _ in range(1_000)
        ]
        for client in (clients[0], clients[499], clients[999]):
            await client.send("there?")
            assert json.loads(await client.recv())["event"]["body"] == "there?"
