"""The last latencies of each function: bounded in every direction."""

from __future__ import annotations

from firelet.control.latencies import LATENCIES_KEPT, Latencies

KEY = ("123456789012", "us-east-1", "hello")


def test_what_was_noted_is_there_oldest_first_and_apart_for_each_function() -> None:
    latencies = Latencies()
    latencies.note(KEY, 0.2)
    latencies.note(KEY, 0.1)
    latencies.note((*KEY[:2], "other"), 0.3)
    assert latencies.of(KEY) == [0.2, 0.1]
    assert latencies.of((*KEY[:2], "unknown")) == []


def test_only_the_last_ones_are_kept() -> None:
    latencies = Latencies()
    for number in range(LATENCIES_KEPT + 5):
        latencies.note(KEY, float(number))
    kept = latencies.of(KEY)
    assert (len(kept), kept[0], kept[-1]) == (LATENCIES_KEPT, 5.0, LATENCIES_KEPT + 4.0)


def test_with_too_many_functions_the_first_one_is_forgotten() -> None:
    latencies = Latencies()
    names = [f"f{number}" for number in range(4_097)]
    for name in names:
        latencies.note((*KEY[:2], name), 1.0)
    assert latencies.of((*KEY[:2], names[0])) == []
    assert all(latencies.of((*KEY[:2], name)) for name in names[1:])
