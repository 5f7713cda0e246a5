"""Code signing as values: who may sign the packages of functions, and who has signed one.

``control.code_signing`` owns the changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Account, region and id.
SigningKey = tuple[str, str, str]

WARN = "Warn"
ENFORCE = "Enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSigningConfig:
    """``publishers`` are signing profile (version) ARNs; ``untrusted`` says what becomes of a
    package that none of them has signed: Warn or Enforce."""

    account: str
    region: str
    config_id: str
    description: str | None = None
    publishers: tuple[str, ...]
    untrusted: str = WARN
    tags: Mapping[str, str] = field(default_factory=dict)
    last_modified: str  # 2026-11-23T07:00:00.000+0000

    @property
    def key(self) -> SigningKey:
        return (self.account, self.region, self.config_id)

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:code-signing-config:{self.config_id}"


def parse_signing_arn(arn: str) -> SigningKey:
    """The key behind an ARN that satisfies the model's pattern."""
    _, _, _, region, account, _, config_id = arn.split(":")
    return (account, region, config_id)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who has signed a package: the profile version, and the job that did it. ``expires_s`` is
    epoch seconds, None for never. ``chain`` are the SHA-256 fingerprints in hex of the signer's
    certificate and of those above it: only if one of them is trusted, the rest is more than a
    claim."""

    profile_version_arn: str
    job_arn: str | None = None
    expires_s: float | None = None
    chain: tuple[str, ...] = ()

    def is_by(self, publisher: str) -> bool:
        """Whether ``publisher``, a profile version or a profile as a whole, is the signer."""
        signer = self.profile_version_arn
        return signer == publisher or signer.rpartition("/")[0] == publisher
