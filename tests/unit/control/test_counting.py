"""Concurrency leases: never more than allowed, and every one comes back."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firelet.control.counting import Counting, Lease
from firelet.model.errors import FunctionSwitchedOff, TooManyRequests
from unit.control.fake_fleet import FakeClock

WORLD = ("123456789012", "us-east-1")
ONE = (*WORLD, "one")
TWO = (*WORLD, "two")
ELSEWHERE = ("123456789012", "eu-west-1", "one")

ACCOUNT = "ConcurrentInvocationLimitExceeded"
RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_RATE = "FunctionInvocationRateLimitExceeded"
RESERVED_RATE = "ReservedFunctionInvocationRateLimitExceeded"


def give_back(lease: Lease) -> None:
    lease.__exit__(None, None, None)


def refusal_of(counting: Counting, *arguments: object) -> str:
    with pytest.raises(TooManyRequests) as caught:
        counting.acquire(*arguments)  # type: ignore[arg-type]
    return caught.value.reason


def test_the_account_s_limit_is_shared_by_its_functions() -> None:
    counting = Counting(account_limit=2)
    counting.acquire(ONE, None, 0)
    counting.acquire(TWO, None, 0)
    assert refusal_of(counting, ONE, None, 0) == ACCOUNT


def test_what_is_reserved_is_not_there_for_the_others() -> None:
    counting = Counting(account_limit=10)
    counting.acquire(ONE, None, 9)
    assert refusal_of(counting, TWO, None, 9) == ACCOUNT


def test_a_reservation_is_a_guarantee_and_a_maximum() -> None:
    counting = Counting(account_limit=3)
    counting.acquire(TWO, None, 2)
    counting.acquire(ONE, 2, 2)
    counting.acquire(ONE, 2, 2)
    assert refusal_of(counting, ONE, 2, 2) == RESERVED
    assert counting.running(ONE) == 2


def test_a_reservation_of_nothing_turns_a_function_off() -> None:
    assert refusal_of(Counting(), ONE, 0, 0) == RESERVED
    with pytest.raises(FunctionSwitchedOff):
        Counting().acquire(ONE, 0, 0)


def test_a_refusal_is_aws_s_429_with_its_reason() -> None:
    counting = Counting(account_limit=0)
    with pytest.raises(TooManyRequests) as caught:
        counting.acquire(ONE, None, 0)
    error = caught.value
    assert (error.status, error.code, error.message, dict(error.fields)) == (
        429,
        "TooManyRequestsException",
        "Rate Exceeded.",
        {"Reason": ACCOUNT},
    )


def test_a_lease_comes_back_whether_or_not_the_invocation_failed() -> None:
    counting = Counting(account_limit=1)
    with counting.acquire(ONE, None, 0):
        assert counting.running(ONE) == 1
    with pytest.raises(ValueError, match="boom"), counting.acquire(ONE, None, 0):
        raise ValueError("boom")
    assert counting.running(ONE) == 0
    counting.acquire(ONE, None, 0)


def test_a_refusal_counts_nothing() -> None:
    counting = Counting(account_limit=1)
    lease = counting.acquire(ONE, None, 0)
    refusal_of(counting, TWO, None, 0)
    refusal_of(counting, TWO, 0, 0)
    give_back(lease)
    counting.acquire(TWO, None, 0)
    assert (counting.running(ONE), counting.running(TWO)) == (0, 1)


def test_regions_are_counted_apart() -> None:
    counting = Counting(account_limit=1)
    counting.acquire(ONE, None, 0)
    counting.acquire(ELSEWHERE, None, 0)
    assert counting.running(ELSEWHERE) == 1


def test_a_lease_goes_back_to_where_it_came_from_when_the_reservation_changes_meanwhile() -> None:
    counting = Counting(account_limit=1)
    unreserved = counting.acquire(ONE, None, 0)
    counting.acquire(ONE, 5, 0)
    give_back(unreserved)
    counting.acquire(TWO, None, 0)
    assert counting.running(ONE) == 1


def test_provisioned_concurrency_of_a_version_is_there_when_the_account_s_is_used_up() -> None:
    counting = Counting(account_limit=3)
    counting.provide(ONE, "1", 2)
    counting.acquire(TWO, None, 2)
    assert refusal_of(counting, TWO, None, 2) == ACCOUNT
    counting.acquire(ONE, None, 2, "1")
    counting.acquire(ONE, None, 2, "1")
    assert refusal_of(counting, ONE, None, 2, "1") == ACCOUNT
    assert counting.running(ONE) == 2


def test_more_than_is_provisioned_comes_out_of_the_account() -> None:
    counting = Counting(account_limit=2)
    counting.provide(ONE, "1", 1)
    first = counting.acquire(ONE, None, 1, "1")
    counting.acquire(ONE, None, 1, "1")
    assert refusal_of(counting, TWO, None, 1) == ACCOUNT
    give_back(first)
    assert refusal_of(counting, TWO, None, 1) == ACCOUNT
    counting.acquire(ONE, None, 1, "1")


def test_what_a_version_has_provisioned_of_a_reservation_is_not_there_for_the_others() -> None:
    counting = Counting()
    counting.provide(ONE, "1", 2)
    counting.acquire(ONE, 3, 3, "$LATEST")
    assert refusal_of(counting, ONE, 3, 3, "$LATEST") == RESERVED
    counting.acquire(ONE, 3, 3, "1")
    counting.acquire(ONE, 3, 3, "1")
    assert refusal_of(counting, ONE, 3, 3, "1") == RESERVED


def test_provisioned_concurrency_that_is_taken_away_is_there_for_the_others_again() -> None:
    counting = Counting(account_limit=1)
    counting.provide(ONE, "1", 1)
    lease = counting.acquire(ONE, None, 1, "1")
    counting.provide(ONE, "1", 0)
    counting.provide(ONE, "2", 0)
    counting.acquire(TWO, None, 0)
    give_back(lease)
    assert counting.running(ONE) == 0


class TestRequestRate:
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def counting(self, clock: FakeClock) -> Counting:
        return Counting(account_limit=2, clock=clock)

    def call(self, counting: Counting, times: int, *arguments: object) -> None:
        for _ in range(times):
            give_back(counting.acquire(*arguments))  # type: ignore[arg-type]

    def test_an_account_takes_ten_a_second_for_each_unit_of_concurrency(
        self, counting: Counting, clock: FakeClock
    ) -> None:
        self.call(counting, 12, ONE, None, 0)
        self.call(counting, 8, TWO, None, 0)
        assert refusal_of(counting, ONE, None, 0) == ACCOUNT_RATE
        assert refusal_of(counting, TWO, None, 0) == ACCOUNT_RATE
        clock.now += 0.5
        self.call(counting, 10, ONE, None, 0)
        assert refusal_of(counting, ONE, None, 0) == ACCOUNT_RATE

    def test_a_reservation_takes_ten_a_second_for_each_unit_of_it(
        self, counting: Counting, clock: FakeClock
    ) -> None:
        self.call(counting, 10, ONE, 1, 0)
        assert refusal_of(counting, ONE, 1, 0) == RESERVED_RATE
        self.call(counting, 10, TWO, 1, 0)
        self.call(counting, 20, ELSEWHERE, None, 0)
        clock.now += 1
        self.call(counting, 10, ONE, 1, 0)

    def test_a_refusal_for_the_rate_counts_nothing(self, counting: Counting) -> None:
        self.call(counting, 10, ONE, 1, 0)
        refusal_of(counting, ONE, 1, 0)
        assert counting.running(ONE) == 0

    def test_a_refusal_for_concurrency_does_not_use_up_the_rate(self, counting: Counting) -> None:
        lease = counting.acquire(ONE, 1, 0)
        for _ in range(20):
            assert refusal_of(counting, ONE, 1, 0) == RESERVED
        give_back(lease)
        self.call(counting, 9, ONE, 1, 0)

    def test_what_is_provisioned_is_never_refused(self, counting: Counting) -> None:
        counting.provide(ONE, "1", 1)
        self.call(counting, 100, ONE, None, 1, "1")


class CountingMachine(RuleBasedStateMachine):
    """Random admissions, ends and changes of reservations, against counts kept by hand."""

    LIMIT = 6

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.counting = Counting(account_limit=self.LIMIT, clock=self.clock)
        self.reserved: dict[tuple[str, str, str], int | None] = {ONE: None, TWO: None}
        self.leases: list[tuple[tuple[str, str, str], bool, Lease]] = []

    @property
    def reserved_total(self) -> int:
        return sum(value or 0 for value in self.reserved.values())

    def count(self, key: tuple[str, str, str]) -> int:
        return sum(1 for owner, _, _ in self.leases if owner == key)

    @property
    def unreserved(self) -> int:
        return sum(1 for _, is_reserved, _ in self.leases if not is_reserved)

    @rule(key=st.sampled_from([ONE, TWO]))
    def admit(self, key: tuple[str, str, str]) -> None:
        reserved = self.reserved[key]
        self.clock.now += 1.0
        if reserved is not None:
            is_allowed, reason = self.count(key) < reserved, RESERVED
        else:
            is_allowed, reason = self.unreserved < self.LIMIT - self.reserved_total, ACCOUNT
        if is_allowed:
            lease = self.counting.acquire(key, reserved, self.reserved_total)
            self.leases.append((key, reserved is not None, lease))
        else:
            assert refusal_of(self.counting, key, reserved, self.reserved_total) == reason

    @precondition(lambda self: self.leases)
    @rule(index=st.integers(0, 1000))
    def end(self, index: int) -> None:
        _, _, lease = self.leases.pop(index % len(self.leases))
        give_back(lease)

    @rule(key=st.sampled_from([ONE, TWO]), value=st.none() | st.integers(0, 3))
    def reserve(self, key: tuple[str, str, str], value: int | None) -> None:
        self.reserved[key] = value

    @invariant()
    def counts_are_what_runs(self) -> None:
        for key in (ONE, TWO):
            assert self.counting.running(key) == self.count(key)

    def teardown(self) -> None:
        for _, _, lease in self.leases:
            give_back(lease)
        assert self.counting.running(ONE) == self.counting.running(TWO) == 0


TestCountingMachine = CountingMachine.TestCase
