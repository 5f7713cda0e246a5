"""Bad input at the addresses of functions: URLs, APIs, WebSocket APIs and load balancers.

Each attack is answered with the right refusal, holds no memory, and does not harm a function that
is invoked meanwhile; nothing of it is a fault in the platform's log.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from hostile_sites import ECHO, MIB, Site, Sites, resident_bytes, send, status_of, unharmed
from running_platform import Deployer, Platform, wait_until

pytest_plugins = ("platform_fixtures",)

KINDS = ("url", "http", "rest", "socket", "balancer")
# Buffers of sockets, and what the allocator keeps.
FLAT_BYTES = 48 * MIB
MANY = 10_000


@pytest.fixture(scope="module")
def sites(platform: Platform) -> Iterator[Sites]:
    deployer = Deployer(platform)
    made = Sites(platform, deployer)
    yield made
    made.close()
    deployer.close()


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, sites: Sites) -> Site:
    return sites.by_kind[request.param]


@pytest.fixture(scope="module")
def neighbour(platform: Platform) -> Iterator[str]:
    deployer = Deployer(platform)
    name = deployer(ECHO)
    assert platform.invoke(name, 1).json == 1
    yield name
    deployer.close()


@pytest.fixture(autouse=True)
def no_fault(platform: Platform) -> Iterator[None]:
    """Nothing in the platform's log says that it failed."""
    before = platform.log_path.stat().st_size
    yield
    said = platform.log_path.read_bytes()[before:]
    assert b"Traceback" not in said, said.decode()
    assert b" ERROR " not in said, said.decode()


@pytest.fixture
def held() -> Iterator[contextlib.ExitStack]:
    """Closes connections after the test."""
    with contextlib.ExitStack() as stack:
        yield stack


def connect(platform: Platform, held: contextlib.ExitStack) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", platform.port), timeout=30)
    return held.enter_context(connection)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length: 4 4",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999999",
        "Content-Length:",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \x0bchunked",
        " Transfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X\0: a",
        "Host: other",
        "no colon",
    ],
)
def test_ambiguous_framing_is_refused_and_nothing_is_smuggled(
    sites: Sites, site: Site, framing: str
) -> None:
    smuggled = site.head("/smuggled")
    answer = send(sites.platform, site.head("/", framing, method="POST") + b"0\r\n\r\n" + smuggled)

    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert not [path for path in sites.called() if "smuggled" in path]


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n",
        b"1\r\nab\r\n",
        b"1\na\n0\n\n",
        b"1 1\r\na\r\n0\r\n\r\n",
        b"\r\n",
    ],
)
def test_chunks_that_are_none_are_refused(sites: Sites, site: Site, chunks: bytes) -> None:
    head = site.head("/chunks", "Transfer-Encoding: chunked", method="POST")

    answer = send(sites.platform, head + chunks)

    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
    assert not [path for path in sites.called() if "chunks" in path]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("X-A: " + "a" * 1_100_000,), 431),
        (tuple(f"X-{n}: y" for n in range(300)), 431),
        (tuple("X-Same: y" for _ in range(300)), 431),
    ],
    ids=["one header", "many headers", "one header often"],
)
def test_heads_that_are_too_large_are_refused(
    sites: Sites, site: Site, lines: tuple[str, ...], status: int
) -> None:
    assert status_of(send(sites.platform, site.head("/heads", *lines))) == status


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_is_sent(
    sites: Sites, site: Site
) -> None:
    for size in (site.limit + 1, 60_000_000, 1 << 50):
        lines = (f"Content-Length: {size}", "Expect: 100-continue")
        answer = send(sites.platform, site.head("/body", *lines, method="POST"))
        assert status_of(answer) == 413
        assert site.refusal in answer


def test_a_body_without_end_is_refused_at_the_limit_of_its_site(
    sites: Sites, site: Site, neighbour: str
) -> None:
    head = site.head("/body", "Transfer-Encoding: chunked", method="POST")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    before = resident_bytes(sites.platform)

    with unharmed(sites.platform, neighbour):
        # Four at once, none of which goes on beyond its limit for long.
        answers = [send(sites.platform, head + chunk * 900) for _ in range(4)]

    for answer in answers:
        assert status_of(answer) == 413
        assert site.refusal in answer
    assert resident_bytes(sites.platform) - before < FLAT_BYTES


def test_a_body_in_single_bytes_is_taken_and_holds_no_more_than_others(
    sites: Sites, neighbour: str
) -> None:
    site = sites.by_kind["url"]
    head = site.head("/bytes", "Transfer-Encoding: chunked", "Connection: close", method="POST")
    before = resident_bytes(sites.platform)

    with unharmed(sites.platform, neighbour):
        answer = send(sites.platform, head + b"2\r\nxy\r\n" * 1_000_000 + b"0\r\n\r\n")

    assert status_of(answer) == 200
    assert resident_bytes(sites.platform) - before < FLAT_BYTES


def test_half_a_head_and_half_a_body_keep_nobody_out(
    sites: Sites, site: Site, neighbour: str, held: contextlib.ExitStack
) -> None:
    half = site.head("/half", "Content-Length: 1000", method="POST")
    before = resident_bytes(sites.platform)
    connections = [connect(sites.platform, held) for _ in range(300)]

    with unharmed(sites.platform, neighbour):
        for number, connection in enumerate(connections):
            connection.sendall(half[:-2] if number % 2 else half + b"x")
        for at in range(20):
            for connection in connections[::10]:
                connection.sendall(b"X" if at else b"y")
        lines = ("Connection: close",)
        answer = send(sites.platform, site.head("/whole", *lines))

    # A WebSocket's address asks to be upgraded.
    assert status_of(answer) in (200, 426, 403)
    assert resident_bytes(sites.platform) - before < FLAT_BYTES
    assert not [path for path in sites.called() if "half" in path]


def test_answers_that_nobody_reads_are_bounded(
    sites: Sites, neighbour: str, held: contextlib.ExitStack
) -> None:
    before = resident_bytes(sites.platform)
    with unharmed(sites.platform, neighbour):
        for kind in ("url", "http", "rest", "balancer"):
            site = sites.by_kind[kind]
            for _ in range(5):
                connection = connect(sites.platform, held)
                # Sixteen requests wait behind the first at most, however many are sent.
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.send(site.head("/large") * 2_000)
        wait_until(
            lambda: sum(path.endswith("/large") for path in sites.called()) >= 20,
            "every connection has been served once",
            60,
        )
    assert resident_bytes(sites.platform) - before < 20 * 4 * MIB


@pytest.fixture
def many_files() -> Iterator[None]:
    """Descriptors of this process for as many connections as are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 500:
        pytest.skip(f"{MANY} connections are missing: this process may have {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("kind", ["silent", "half a head", "between requests"])
def test_ten_thousand_connections_keep_nobody_out(
    sites: Sites, neighbour: str, held: contextlib.ExitStack, kind: str
) -> None:
    site = sites.by_kind["http"]
    first = {
        "silent": b"",
        "half a head": site.head("/half")[:-2],
        "between requests": b"GET /_firelet/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    }[kind]
    before = resident_bytes(sites.platform)
    with unharmed(sites.platform, neighbour) as answered:
        for number in range(MANY):
            connection = connect(sites.platform, held)
            with contextlib.suppress(ConnectionError):
                connection.sendall(first)
            if number % 1_000 == 999 and kind == "half a head":
                time.sleep(0.5)  # A request may take a moment to come in whole.
        before_last = len(answered)
        wait_until(lambda: len(answered) > before_last + 5, "others are served all the while")
        answer = send(sites.platform, site.head("/late", "Connection: close"))
    assert status_of(answer) == 200
    assert resident_bytes(sites.platform) - before < 200 * MIB
