"""Random requests, frames and documents at a real platform: each is answered, refused or cut off;
none is a fault, and a function that is invoked meanwhile does not notice."""

from __future__ import annotations

import base64
import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_sites import ECHO, MIB, Site, Sites, resident_bytes, send, status_of, unharmed
from running_platform import ACCOUNT, REGION, Deployer, Platform

pytest_plugins = ("platform_fixtures",)

FLAT_BYTES = 64 * MIB
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def sites(platform: Platform) -> Iterator[Sites]:
    deployer = Deployer(platform)
    made = Sites(platform, deployer)
    yield made
    made.close()
    deployer.close()


@pytest.fixture(scope="module")
def neighbour(platform: Platform) -> Iterator[str]:
    deployer = Deployer(platform)
    yield deployer(ECHO)
    deployer.close()


@pytest.fixture(autouse=True)
def no_harm(platform: Platform, neighbour: str) -> Iterator[None]:
    """No fault in the platform's log, no memory held, and right answers to others meanwhile."""
    logged, resident = platform.log_path.stat().st_size, resident_bytes(platform)
    with unharmed(platform, neighbour):
        yield
    said = platform.log_path.read_bytes()[logged:]
    assert b"Traceback" not in said, said.decode()
    assert b" ERROR " not in said, said.decode()
    assert resident_bytes(platform) - resident < FLAT_BYTES


# What may stand in a head without ending it.
OCTETS = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\r\n\0"))
TARGETS = st.builds(
    lambda path, query: b"/" + b"/".join(path) + query,
    st.lists(OCTETS.map(lambda raw: raw.replace(b" ", b"")) | st.sampled_from([b"..", b"%2f"])),
    OCTETS.map(lambda raw: b"?" + raw.replace(b" ", b"")) | st.just(b""),
)
NAMES = st.sampled_from(
    [
        *(b"Authorization", b"Cookie", b"Content-Type", b"Origin", b"X-Forwarded-For", b"Upgrade"),
        *(b"X-Forwarded-Proto", b"X-Forwarded-Port", b"X-Amzn-Trace-Id", b"X-Api-Key", b"Expect"),
        *(b"Access-Control-Request-Method", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version"),
        *(b"X-Amz-Date", b"X-Amz-Content-Sha256", b"User-Agent", b"Connection", b"X-Other"),
    ]
)
HEADERS = st.lists(st.tuples(NAMES, OCTETS), max_size=6)
METHODS = st.sampled_from([b"GET", b"POST", b"OPTIONS", b"HEAD", b"DELETE", b"PROPFIND", b"NO"])


@FUZZ
@given(
    kind=st.sampled_from(["url", "http", "rest", "socket", "balancer"]),
    method=METHODS,
    target=TARGETS,
    headers=HEADERS,
    body=st.binary(max_size=40),
)
def test_any_request_to_a_site_is_answered(
    sites: Sites,
    kind: str,
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    site = sites.by_kind[kind]
    lines = [
        method + b" " + site.prefix.encode() + target + b" HTTP/1.1",
        b"Host: " + site.host.encode(),
        *(name + b": " + value for name, value in headers),
        b"Content-Length: %d" % len(body),
    ]
    if not any(name == b"Connection" for name, _ in headers):
        lines.append(b"Connection: close")
    else:
        lines.append(b"Connection: close, x")

    answer = send(sites.platform, b"\r\n".join((*lines, b"", body)))

    status = status_of(answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    assert status in (200, 204, 400, 403, 404, 405, 415, 426, 429, 431, 500, 502), answer
    # 500 and 502 are words for what the function's own answer is; this function's is always right.
    assert status not in (500, 502), answer


FRAMES = st.builds(
    lambda first, is_masked, length, mask, payload: (
        struct.pack("!BB", first, (0x80 if is_masked else 0) | length) + mask + payload
    ),
    st.integers(0, 255) | st.sampled_from([0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A]),
    st.booleans() | st.just(True),
    st.integers(0, 127) | st.integers(0, 8),
    st.binary(min_size=4, max_size=4),
    st.binary(max_size=12),
)


@FUZZ
@given(pieces=st.lists(FRAMES | st.binary(max_size=20), max_size=8))
def test_any_frames_on_a_websocket_end_its_connection_alone(
    sites: Sites, pieces: list[bytes]
) -> None:
    site: Site = sites.by_kind["socket"]
    head = site.head(
        "",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
    )
    with socket.create_connection(("127.0.0.1", sites.platform.port), timeout=30) as connection:
        connection.sendall(head)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1)
        assert status_of(received) == 101
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:
            return  # It was cut off: what it had sent was no frame.


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.sampled_from(["add", "replace", "remove", "/", "/name", "arn:x", "http://[", "{a+}", "$"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "op",
                        "path",
                        "value",
                        "from",
                        "name",
                        "Name",
                        "protocolType",
                        "ProtocolType",
                    ),
                    *(
                        "patchOperations",
                        "openapi",
                        "swagger",
                        "info",
                        "title",
                        "paths",
                        "/a",
                        "get",
                    ),
                    *("x-amazon-apigateway-integration", "type", "uri", "body", "servers", "url"),
                    *(
                        "FunctionName",
                        "PackageType",
                        "Code",
                        "ImageUri",
                        "Role",
                        "function",
                        "event",
                    ),
                    *("routeKey", "target", "integrationType", "integrationUri", "items", "port"),
                ]
            ),
            inner,
        )
    ),
    max_leaves=12,
)
OPERATIONS = (
    ("apigateway", "POST", "/restapis"),
    ("apigateway", "PATCH", "/restapis/{rest}"),
    ("apigateway", "PUT", "/restapis/{rest}?mode=merge&basepath=prepend"),
    ("apigateway", "POST", "/restapis?mode=import&basepath=split"),
    ("apigateway", "PUT", "/restapis/{rest}/gatewayresponses/DEFAULT_4XX"),
    ("apigateway", "POST", "/usageplans"),
    ("apigateway", "PATCH", "/account"),
    ("apigateway", "POST", "/v2/apis"),
    ("apigateway", "PUT", "/v2/apis"),
    ("apigateway", "PUT", "/v2/apis/{http}"),
    ("apigateway", "PATCH", "/v2/apis/{http}"),
    ("apigateway", "POST", "/v2/apis/{http}/routes"),
    ("apigateway", "POST", "/v2/apis/{http}/integrations"),
    ("apigateway", "POST", "/v2/apis/{http}/authorizers"),
    ("lambda", "POST", "/2015-03-31/functions"),
    ("lambda", "PUT", "/2015-03-31/functions/{function}/code"),
    ("lambda", "POST", "/2021-10-31/functions/{function}/url"),
    ("lambda", "PUT", "/2021-10-31/functions/{function}/url"),
    ("lambda", "POST", "/_firelet/debug"),
)
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30)


@pytest.mark.parametrize(("service", "method", "path"), OPERATIONS)
@settings(FUZZ, max_examples=15)
@given(body=BODIES)
def test_any_body_of_an_operation_is_taken_or_is_the_callers_error(
    sites: Sites, service: str, method: str, path: str, body: bytes
) -> None:
    target = path.format(function=sites.function, **sites.ids)

    status = call(sites.platform, service, method, target, body, "application/json")

    assert status < 500 or status == 501


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        (
            "PUT",
            "/restapis/{rest}?mode=merge&basepath=prepend",
            {
                "openapi": "3.0.1",
                "info": {"title": "t"},
                "paths": {},
                "servers": [{"url": "http://["}],
            },
        ),
        (
            "POST",
            "/v2/apis/{http}/integrations",
            {
                "integrationType": "AWS_PROXY",
                "integrationUri": "arn:x",
                "payloadFormatVersion": "2.0",
            },
        ),
        (
            "POST",
            "/v2/apis/{http}/authorizers",
            {
                "name": "a",
                "authorizerType": "JWT",
                "identitySource": ["$request.header.A"],
                "jwtConfiguration": {"issuer": "http://[", "audience": ["a"]},
            },
        ),
    ],
)
def test_addresses_that_are_none_are_the_callers_error(
    sites: Sites, method: str, path: str, document: dict[str, Any]
) -> None:
    body = json.dumps(document).encode()
    target = path.format(**sites.ids)
    assert call(sites.platform, "apigateway", method, target, body, "application/json") == 400


PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            *("Name", "LoadBalancerArn", "Protocol", "Port", "Priority", "TargetGroupArn"),
            *("DefaultActions.member.1.Type", "DefaultActions.member.1.TargetGroupArn"),
            "DefaultActions.member.1.RedirectConfig.StatusCode",
            "DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.Weight",
            *("Conditions.member.1.Field", "Conditions.member.1.Values.member.1"),
            *("Conditions.member.x.Field", "Conditions.member.999999999.Field", "Subnets.member.1"),
            *("Targets.member.1.Id", "HealthCheckIntervalSeconds", "Attributes.member.1.Key"),
        ]
    ),
    st.text(max_size=12) | st.sampled_from(["forward", "redirect", "HTTP", "lambda", "-1", "80"]),
    max_size=8,
)
ACTIONS = st.sampled_from(
    [
        *("CreateLoadBalancer", "CreateListener", "CreateRule", "CreateTargetGroup", "ModifyRule"),
        *("RegisterTargets", "ModifyTargetGroup", "ModifyLoadBalancerAttributes", "Nothing"),
        *("SetRulePriorities", "DescribeTargetHealth", "AddTags"),
    ]
)


@settings(FUZZ, max_examples=80)
@given(action=ACTIONS, parameters=PARAMETERS)
def test_any_form_of_a_load_balancer_is_taken_or_is_the_callers_error(
    sites: Sites, action: str, parameters: dict[str, str]
) -> None:
    form = {"Action": action, "Version": "2015-12-01", **parameters}
    body = "&".join(f"{name}={quote(value)}" for name, value in form.items()).encode()
    kind = "application/x-www-form-urlencoded"

    status = call(sites.platform, "elasticloadbalancing", "POST", "/", body, kind)

    assert status < 500 or status == 501


def call(
    platform: Platform, service: str, method: str, target: str, body: bytes, content_type: str
) -> int:
    """The status of the answer to one request of an AWS API, signed by nobody in particular."""
    lines: tuple[Any, ...] = (
        f"{method} {target} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        f"Authorization: AWS4-HMAC-SHA256 Credential={ACCOUNT}/20261126/{REGION}/{service}"
        "/aws4_request, SignedHeaders=host, Signature=0",
    )
    return status_of(send(platform, "\r\n".join((*lines, "", "")).encode() + body))
