from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firelet.iam.accounts import account_of_access_key
from firelet.iam.credentials import SessionCredentials, format_access_key

ROLE = "arn:aws:iam::123456789012:role/service/worker"


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> SessionCredentials:
    return SessionCredentials(lambda arn: "AROAEXAMPLE", clock=clock)


def test_a_role_session_is_found_by_its_key(sessions: SessionCredentials) -> None:
    credentials = sessions.issue(ROLE, "job", 900)
    identity = sessions.lookup(credentials.access_key)
    assert identity is not None
    # The path of the role is not part of the session's ARN.
    assert identity.arn == "arn:aws:sts::123456789012:assumed-role/worker/job"
    assert identity.user_id == "AROAEXAMPLE:job"
    assert identity.role_arn == ROLE
    assert identity.secret_key == credentials.secret_key
    assert credentials.expiration.timestamp() == 1_900


def test_an_expired_session_is_gone_at_once_and_swept_with_the_next(
    sessions: SessionCredentials, clock: FakeClock
) -> None:
    expired = sessions.issue(ROLE, "job", 900).access_key
    clock.now += 900
    assert sessions.lookup(expired) is None
    sessions.issue(ROLE, "job", 900)
    assert len(sessions) == 1


def test_a_revoked_session_is_unknown(sessions: SessionCredentials, clock: FakeClock) -> None:
    key = sessions.issue(ROLE, "job", 900).access_key
    sessions.revoke(key)
    sessions.revoke(key)
    assert sessions.lookup(key) is None
    clock.now += 900
    sessions.issue(ROLE, "job", 900)


def test_an_account_session_is_the_root_of_its_account(sessions: SessionCredentials) -> None:
    identity = sessions.lookup(sessions.issue_for_account("123456789012", 900).access_key)
    assert identity is not None
    assert identity.arn == "arn:aws:iam::123456789012:root"
    assert identity.role_arn is None


def test_secrets_have_the_form_of_awss(sessions: SessionCredentials) -> None:
    credentials = sessions.issue(ROLE, "job", 900)
    assert re.fullmatch(r"[A-Za-z0-9/+]{40}", credentials.secret_key)
    assert len(credentials.session_token) > 100


@given(st.integers(0, 10**12 - 1).map(lambda number: f"{number:012d}"))
def test_an_access_key_carries_its_account(account: str) -> None:
    key = format_access_key(account)
    assert re.fullmatch(r"ASIA[Q-Z2-7][A-Z2-7]{15}", key)
    assert account_of_access_key(key) == account
