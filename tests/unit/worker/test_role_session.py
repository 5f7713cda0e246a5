"""Credentials of one environment: issued, renewed, revoked."""

from __future__ import annotations

from firelet.model.function import FunctionVersion
from firelet.runtime.credentials import SessionCredentials
from firelet.worker.role_session import RoleSession
from unit.versions import make_version


class Issuer:
    """Issues numbered credentials that are good for an hour."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.issued = 0
        self.revoked: list[str] = []
        self.session = RoleSession(
            make_version(), self.issue, self.revoked.append, clock=lambda: self.now
        )

    def issue(self, version: FunctionVersion) -> SessionCredentials:
        self.issued += 1
        return SessionCredentials(f"key {self.issued}", "secret", version.role, self.now + 3_600)


def test_nothing_is_issued_before_it_is_asked_for() -> None:
    issuer = Issuer()
    issuer.session.close()
    assert (issuer.issued, issuer.revoked) == (0, [])


def test_they_are_kept_for_half_of_their_time() -> None:
    issuer = Issuer()
    assert issuer.session.current().access_key == "key 1"
    issuer.now += 1_799
    assert issuer.session.current().access_key == "key 1"
    issuer.now += 2
    assert issuer.session.current().access_key == "key 2"
    assert issuer.revoked == []  # whoever has the old ones may still use them


def test_all_of_them_are_revoked_at_the_end() -> None:
    issuer = Issuer()
    issuer.session.current()
    issuer.now += 2_000
    issuer.session.current()
    issuer.session.close()
    issuer.session.close()
    assert sorted(issuer.revoked) == ["key 1", "key 2"]
