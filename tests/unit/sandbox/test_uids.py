"""User ids of sandboxes: each range has one owner, and each id one sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from firelet.model.errors import PlatformError
from firelet.sandbox import uids
from firelet.sandbox.uids import UidRange


@pytest.fixture
def claim() -> Iterator[Callable[[], UidRange]]:
    """Makes ranges and gives them back."""
    made: list[UidRange] = []

    def make() -> UidRange:
        made.append(UidRange())
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()


def ids_of(owner: UidRange) -> set[int]:
    return {owner.take() for _ in range(uids._RANGE)}


def test_ranges_of_two_owners_have_nothing_in_common(claim: Callable[[], UidRange]) -> None:
    """Both have the same process id, which is where the search begins."""
    one, other = ids_of(claim()), ids_of(claim())
    assert len(one) == len(other) == uids._RANGE
    assert not one & other


def test_a_range_is_free_again_when_its_owner_has_closed_it(
    claim: Callable[[], UidRange],
) -> None:
    first = claim()
    uid = first.take()
    first.close()
    assert claim().take() == uid


def test_an_id_that_is_given_back_is_not_the_next_one(claim: Callable[[], UidRange]) -> None:
    owner = claim()
    uid = owner.take()
    owner.give_back(uid)
    assert owner.take() != uid


def test_no_id_is_given_twice(claim: Callable[[], UidRange]) -> None:
    owner = claim()
    taken = ids_of(owner)
    with pytest.raises(PlatformError, match="Every user id"):
        owner.take()
    back = taken.pop()
    owner.give_back(back)
    assert owner.take() == back


def test_a_host_full_of_owners_is_refused(
    claim: Callable[[], UidRange], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process of this host may have one of the two."""
    monkeypatch.setattr(uids, "_TRIES", 2)
    claimed: list[UidRange] = []
    with pytest.raises(PlatformError, match="Every range"):
        claimed.extend(claim() for _ in range(3))
    assert len(claimed) <= 2


def test_the_highest_id_fits_what_the_kernel_takes() -> None:
    assert uids._FIRST + uids._RANGES * uids._RANGE < 2**31
