"""Function URLs with InvokeMode RESPONSE_STREAM: heads, pieces as they come, and their ends."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from running_platform import Deployer, Platform, wait_until
from web_client import fetch

pytest_plugins = ("platform_fixtures",)

# Does the steps of its JSON body, or gives the event back in one piece.
FUNCTION = """
import json, os, time
def steps_of(event):
    for kind, value in json.loads(event["body"]):
        if kind == "yield":
            yield value
        elif kind == "bytes":
            yield b"x" * value
        elif kind == "sleep":
            time.sleep(value)
        elif kind == "raise":
            raise LookupError(value)
        elif kind == "print":
            print(value, flush=True)
def handler(event, context):
    if "body" in event:
        return steps_of(event)
    return {"statusCode": 418, "body": "whole"}
"""
HEAD = {
    "statusCode": 201,
    "headers": {"X-One": "1", "Content-Type": "text/plain"},
    "cookies": ["a=1", "b=2"],
}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def name(deploy: Deployer, lambda_client: Any) -> str:
    name = deploy(FUNCTION, Timeout=10)
    for statement, action in (("a", "lambda:InvokeFunctionUrl"), ("b", "lambda:InvokeFunction")):
        lambda_client.add_permission(
            FunctionName=name, StatementId=statement, Action=action, Principal="*"
        )
    return name


@pytest.fixture
def url(name: str, lambda_client: Any) -> str:
    config = lambda_client.create_function_url_config(
        FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )
    return str(config["FunctionUrl"])


def ask(url: str, *steps: tuple[str, Any]) -> Any:
    return fetch(url, "POST", body=json.dumps(steps).encode(), headers=JSON)


def test_a_prelude_sets_status_headers_and_cookies(url: str) -> None:
    answer = ask(url, ("yield", HEAD), ("yield", "one,"), ("yield", "two"))
    assert (answer.status, answer.body) == (201, b"one,two")
    assert answer.headers["x-one"] == "1"
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.cookies == ("a=1", "b=2")
    assert answer.headers["x-amzn-requestid"]


def test_without_a_prelude_it_is_a_body_of_bytes(url: str) -> None:
    answer = ask(url, ("yield", "plain"))
    assert (answer.status, answer.body) == (200, b"plain")
    assert answer.headers["content-type"] == "application/octet-stream"


def test_a_result_that_is_whole_is_sent_as_it_is(url: str) -> None:
    answer = fetch(url)
    assert (answer.status, answer.json) == (200, {"statusCode": 418, "body": "whole"})
    assert answer.headers["content-type"] == "application/json"


def test_pieces_arrive_while_the_function_runs(name: str, url: str, platform: Platform) -> None:
    steps = [("yield", HEAD), ("yield", "early"), ("sleep", 3), ("yield", "late")]
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=30)
    headers = {**JSON, "Host": urlsplit(url).netloc}
    connection.request("POST", "/", json.dumps(steps).encode(), headers)
    response = connection.getresponse()
    assert response.read1(100) == b"early"
    assert not any("END" in line for line in platform.log_lines(f"/aws/lambda/{name}"))
    assert response.read() == b"late"
    connection.close()


def test_megabytes_come_whole(url: str) -> None:
    answer = ask(url, *[("bytes", 1_000_000)] * 12)
    assert len(answer.body) == 12_000_000


def test_a_failure_before_the_first_piece_is_a_bad_gateway(url: str) -> None:
    answer = ask(url, ("raise", "on purpose"))
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_a_failure_in_mid_stream_cuts_the_answer_short(url: str) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(url, ("yield", HEAD), ("yield", "some"), ("raise", "on purpose"))
    assert caught.value.partial == b"some"


@pytest.mark.parametrize("head", [{"statusCode": 99}, {"headers": {"a b": "c"}}, {"cookies": "a"}])
def test_a_prelude_that_is_no_head_is_a_bad_gateway(url: str, head: dict[str, Any]) -> None:
    answer = ask(url, ("yield", head), ("yield", "some"))
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


def test_nobody_may_stream_without_permission(deploy: Deployer, lambda_client: Any) -> None:
    name = deploy(FUNCTION)
    config = lambda_client.create_function_url_config(
        FunctionName=name, AuthType="NONE", InvokeMode="RESPONSE_STREAM"
    )
    assert fetch(config["FunctionUrl"]).status == 403


def test_a_function_that_streams_answers_a_buffered_url(
    name: str, url: str, lambda_client: Any
) -> None:
    lambda_client.update_function_url_config(FunctionName=name, InvokeMode="BUFFERED")
    answer = ask(url, ("yield", HEAD), ("yield", "one,"), ("yield", "two"))
    assert (answer.status, answer.body, answer.cookies) == (201, b"one,two", ("a=1", "b=2"))
    assert answer.headers["content-length"] == "7"


def test_a_client_that_goes_away_does_not_stop_a_stream(
    name: str, url: str, platform: Platform
) -> None:
    steps = [("yield", HEAD), ("bytes", 100_000), ("sleep", 0.5), ("bytes", 9_000_000)]
    body = json.dumps([*steps, ("print", "reached the end")]).encode()
    head = f"POST / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", platform.port)) as connection:
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(1_000).startswith(b"HTTP/1.1 201 ")
    wait_until(
        lambda: "reached the end\n" in platform.log_lines(f"/aws/lambda/{name}"),
        "the function has ended",
    )
