"""The rules of Java that show through in AWS's sentences."""

from __future__ import annotations

import pytest

from firelet.wire.aws.java import compile_pattern, order_as_hash_set
from firelet.wire.aws.model import load_services

RECORDED = (
    "nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x,"
    " java25, python3.10, python3.11, java21, ruby3.3, ruby3.4, ruby3.2, python3.8, python3.9,"
    " java17, nodejs16.x, dotnet10, dotnet8, java11, dotnet6"
)


def test_enum_values_are_listed_in_the_recorded_order() -> None:
    recorded = RECORDED.split(", ")
    (service,) = load_services(["lambda"])
    known = [value for value in service.shape("Runtime").enum if value in recorded]
    # The recording is cut off after these; three more values make the set as large as AWS's.
    unlisted = ["\x00", "\x02", "\x03"]
    ordered = order_as_hash_set(known + unlisted)
    assert [value for value in ordered if value not in unlisted] == recorded


def test_characters_outside_the_basic_plane_are_hashed_as_two_units() -> None:
    # "Aa" and "BB" collide in Java; a surrogate pair is two units.
    assert order_as_hash_set(["\U0001f525", "a"]) == ["a", "\U0001f525"]


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "größe 1:/=+-@", True),
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", "a;b", False),
        (r"\d+", "\u0661", False),  # an Arabic digit: Java's \d is ASCII
        (r"[\w-_]*", "a-b_c", True),
        (r"[\w-_]*", "a b", False),
        (r"$|kafka://x", "", True),
    ],
)
def test_a_java_pattern_matches_as_in_java(pattern: str, text: str, matches: bool) -> None:
    assert (compile_pattern(pattern).fullmatch(text) is not None) is matches
