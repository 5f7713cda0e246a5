"""Deployment packages made to hurt, sent through the API."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from running_platform import LINK, Deployer, Platform, archive_of, pack

pytest_plugins = ("platform_fixtures",)

ECHO = "def handler(event, context):\n    return event\n"
SENTENCES = (
    "Could not unzip uploaded file. Please check your file, then try to upload again.",
    "Unzipped size must be smaller than 262144000 bytes",
    "Uploaded file must be a non-empty zip",
)


def bomb() -> bytes:
    """300 KB that become 300 MB."""
    return archive_of(("app.py", ECHO.encode(), 0), ("zeros", b"\0" * (300 << 20), 0))


def liar() -> bytes:
    """A bomb whose directory says that it unpacks to one byte."""
    data = bytearray(archive_of(("zeros", b"\0" * (280 << 20), 0)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.index(signature)
        data[at + offset : at + offset + 4] = struct.pack("<I", 1)
    return bytes(data)


def overlapping() -> bytes:
    """Many directory entries for one and the same data."""
    data = archive_of(("a", b"\0" * (16 << 20), 0))
    directory = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry, count = data[directory:end], 40
    entries = b"".join(entry[:46] + chr(97 + n // 26).encode() + entry[47:] for n in range(count))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entries), directory, 0)
    return data[:directory] + entries + tail


HOSTILE: dict[str, Callable[[], bytes]] = {
    "bomb": bomb,
    "liar": liar,
    "overlapping": overlapping,
    "parent directory": lambda: archive_of(("../outside", b"x", 0)),
    "deep parent directory": lambda: archive_of(("a/../../outside", b"x", 0)),
    "absolute": lambda: archive_of(("/outside", b"x", 0)),
    "link to the root": lambda: archive_of(("out", b"/", LINK), ("out/etc/x", b"x", 0)),
    "link upwards": lambda: archive_of(("out", b"../..", LINK), ("out/x", b"x", 0)),
    "link to a link": lambda: archive_of(
        ("a", b"b", LINK), ("b", b"../../..", LINK), ("a/x", b"x", 0)
    ),
    "cut short": lambda: pack({"app.py": ECHO})[:-30],
    "no directory": lambda: b"PK\x03\x04" + b"\0" * 100,
    "empty": lambda: b"PK\x05\x06" + b"\0" * 18,
    "file below a file": lambda: archive_of(("a", b"x", 0), ("a/b", b"x", 0)),
    "long name": lambda: archive_of(("a" * 3_000, b"x", 0)),
    "nul in a name": lambda: archive_of(("ab", b"x", 0)).replace(b"ab", b"a\0"),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_package_is_refused_and_nothing_of_it_remains(
    deploy: Deployer, platform: Platform, lambda_client: Any, make: Callable[[], bytes]
) -> None:
    name = deploy.name()
    outside = set(platform.data_dir.parent.iterdir())

    with pytest.raises(lambda_client.exceptions.InvalidParameterValueException) as caught:
        deploy.create(name, make())

    assert caught.value.response["Error"]["Message"] in SENTENCES
    with pytest.raises(lambda_client.exceptions.ResourceNotFoundException):
        lambda_client.get_function(FunctionName=name)
    assert set(platform.data_dir.parent.iterdir()) == outside
    # os.walk passes over folders that vanish meanwhile: the platform clears away the packages of
    # functions that earlier tests deleted.
    assert not [path for path, _, files in os.walk(platform.data_dir.parent) if "outside" in files]
    assert platform.invoke(deploy(ECHO), "well").json == "well"


def test_a_link_to_a_file_of_the_same_package_is_kept(deploy: Deployer, platform: Platform) -> None:
    code = archive_of(
        ("app.py", b"def handler(event, context):\n    return open(event).read()\n", 0),
        ("real.txt", b"inside", 0),
        ("link.txt", b"real.txt", LINK),
    )
    name = deploy(code)

    assert platform.invoke(name, "/var/task/link.txt").json == "inside"


def test_a_request_over_the_limit_is_413(deploy: Deployer, platform: Platform) -> None:
    client = platform.client("lambda")

    with pytest.raises(client.exceptions.ClientError) as caught:
        deploy.create(deploy.name(), b"PK" * (27 << 20))

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert platform.invoke(deploy(ECHO), 1).json == 1
