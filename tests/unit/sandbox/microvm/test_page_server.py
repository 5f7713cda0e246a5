"""Which pages are put where, without any."""

from __future__ import annotations

import json
from typing import Any

import pytest

from firelet.sandbox.microvm.page_server import Mapping, Pages, Unusable, parse_hello

PAGE = 4096
BASE = 0x7F0000000000
WHOLE = {"base_host_virt_addr": BASE, "size": 40 * PAGE, "offset": 0, "page_size": PAGE}


def pages() -> Pages:
    return Pages(Mapping(**WHOLE))


def test_a_missing_page_comes_with_its_block() -> None:
    assert pages().wanted(BASE + 5 * PAGE + 17) == (0, 16, False)
    assert pages().wanted(BASE + 16 * PAGE) == (16, 16, False)


def test_the_last_block_ends_with_the_memory() -> None:
    assert pages().wanted(BASE + 39 * PAGE) == (32, 8, False)


def test_what_is_there_is_not_put_there_again() -> None:
    known = pages()
    known.note(3, 1)
    known.note(8, 1)
    assert known.wanted(BASE + 5 * PAGE) == (4, 4, False)
    assert known.wanted(BASE + 2 * PAGE) == (0, 3, False)
    # Asked for all the same: it alone is tried.
    assert known.wanted(BASE + 3 * PAGE) == (3, 1, False)


def test_what_was_given_back_is_zeros() -> None:
    known = pages()
    known.note(0, 40)
    known.remove(BASE + 4 * PAGE, BASE + 6 * PAGE)
    assert known.wanted(BASE + 4 * PAGE) == (4, 1, True)
    assert known.wanted(BASE + 6 * PAGE) == (6, 1, False)
    known.note(4, 1)
    assert known.wanted(BASE + 4 * PAGE) == (4, 1, False)


def test_what_is_given_back_elsewhere_does_not_count() -> None:
    known = pages()
    known.remove(BASE - 9 * PAGE, BASE)
    known.remove(BASE + 40 * PAGE, BASE + 50 * PAGE)
    assert known.wanted(BASE) == (0, 16, False)
    known.remove(BASE - PAGE, BASE + PAGE)
    assert known.wanted(BASE) == (0, 1, True)


def test_large_pages_come_one_by_one() -> None:
    large = 2 * 1024 * 1024
    known = Pages(Mapping(base_host_virt_addr=BASE, size=4 * large, offset=0, page_size=large))
    assert known.wanted(BASE + large + 5) == (1, 1, False)


def test_the_mappings_of_older_versions_are_understood() -> None:
    old = {name: value for name, value in WHOLE.items() if name != "page_size"}
    (mapping,) = parse_hello(json.dumps([{**old, "page_size_kib": PAGE}]).encode(), 40 * PAGE)
    assert mapping.page_bytes == PAGE


@pytest.mark.parametrize(
    "hello",
    [
        [],
        {},
        [{**WHOLE, "page_size": 0}],
        [{**WHOLE, "page_size": 3 * PAGE}],
        [{**WHOLE, "size": 1}],
        [{**WHOLE, "offset": PAGE}],
        [{**WHOLE, "base_host_virt_addr": BASE + 1}],
        [{"vcpu": 0, "offset": 0, "flags": 0}],
    ],
)
def test_mappings_that_do_not_fit_are_refused(hello: Any) -> None:
    with pytest.raises(Unusable):
        parse_hello(json.dumps(hello).encode(), 40 * PAGE)
