"""Managed policies: AWS's own and those of each account, with their versions.

What it is: the durable catalogue behind ``CreatePolicy`` and its kin. What it is not: inline
policies (they live in their role) or evaluation. ``iam.roles`` counts here what it has attached,
so that a policy in use can refuse to go. Called by ``frontend.iam_policies``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from firelet.iam.entity_ids import POLICY, derive_entity_id, new_entity_id
from firelet.iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    LimitExceeded,
    NoSuchEntity,
)
from firelet.iam.managed_policies import MANAGED_POLICIES, ManagedPolicy
from firelet.iam.policy_document import check_identity_policy, counted_size
from firelet.iam.tags import add_tags, remove_tags
from firelet.model.errors import AccessDenied
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

# Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
POLICIES_PER_ACCOUNT = 1_500
VERSIONS_PER_POLICY = 5
POLICY_MAX_CHARACTERS = 6_144

# AWS's own policies are older than any account; one date serves them all.
_AWS_EPOCH = datetime(2015, 4, 9, 15, 3, 43, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One document of a managed policy; it never changes."""

    document: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A managed policy. ``account`` is ``aws`` for AWS's own. ``versions`` go by ``v1``, ``v2`` …

    Numbers of deleted versions are not used again: ``next_version`` only grows.
    """

    account: str
    name: str
    path: str
    policy_id: str
    description: str = ""
    default_version: str = "v1"
    versions: Mapping[str, PolicyVersion]
    next_version: int = 2
    tags: Mapping[str, str] = field(default_factory=dict)
    created: datetime
    updated: datetime

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:policy{self.path}{self.name}"

    @property
    def is_aws_managed(self) -> bool:
        return self.account == "aws"

    def version(self, version_id: str) -> PolicyVersion:
        found = self.versions.get(version_id)
        if found is None:
            raise NoSuchEntity(
                f"Policy {self.arn} version {version_id} does not exist or is not attachable."
            )
        return found


class Policies:
    """All managed policies. ``changes`` is IAM's one change lock, shared with the roles."""

    def __init__(
        self,
        documents: DocumentStore,
        changes: asyncio.Lock,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = Records(documents, "iam.policy", Policy)
        self._changes = changes
        self._clock = clock
        self._attachments: Counter[tuple[str, str]] = Counter()
        self._aws = {arn: _from_table(policy) for arn, policy in MANAGED_POLICIES.items()}

    def load(self) -> None:
        """Reads all policies. Blocking: at start-up, before the roles are loaded."""
        self._records.load()
        self._attachments.clear()

    def get(self, account: str, arn: str) -> Policy:
        """A policy that ``account`` can see, or ``NoSuchEntity``."""
        policy = self._aws.get(arn) or self._records.get(arn)
        if policy is None or policy.account not in (account, "aws"):
            raise NoSuchEntity(f"Policy {arn} was not found.")
        return policy

    def visible_to(self, account: str, scope: str = "All", path_prefix: str = "/") -> list[Policy]:
        """Policies by name. ``scope`` is ``All``, ``AWS`` or ``Local``."""
        candidates: list[Policy] = []
        if scope != "AWS":
            candidates += [p for p in self._records.values() if p.account == account]
        if scope != "Local":
            candidates += self._aws.values()
        chosen = [policy for policy in candidates if policy.path.startswith(path_prefix)]
        return sorted(chosen, key=lambda policy: policy.name)

    async def create(
        self,
        account: str,
        name: str,
        document: str,
        *,
        path: str = "/",
        description: str = "",
        tags: Iterable[Mapping[str, str]] = (),
    ) -> Policy:
        """Makes a policy whose version ``v1`` is ``document``."""
        _check_document(document)
        now = self._now()
        policy = Policy(
            account=account,
            name=name,
            path=path,
            policy_id=new_entity_id(POLICY),
            description=description,
            versions={"v1": PolicyVersion(document=document, created=now)},
            tags=add_tags({}, tags),
            created=now,
            updated=now,
        )
        async with self._changes:
            owned = [p for p in self._records.values() if p.account == account]
            if any(p.name.lower() == name.lower() for p in owned):
                raise EntityAlreadyExists(
                    f"A policy called {name} already exists. Duplicate names are not allowed."
                )
            if len(owned) >= POLICIES_PER_ACCOUNT:
                raise LimitExceeded(
                    f"Cannot exceed quota for PoliciesPerAccount: {POLICIES_PER_ACCOUNT}"
                )
            await self._records.put(policy.arn, policy)
        return policy

    async def delete(self, account: str, arn: str) -> None:
        """Deletes a policy that is attached to nothing and has no version but the default."""
        async with self._changes:
            policy = self._get_own(account, arn)
            if self.attachments(account, arn):
                raise DeleteConflict("Cannot delete a policy attached to entities.")
            if len(policy.versions) > 1:
                raise DeleteConflict(
                    "This policy has more than one version. Before you delete a policy, you must"
                    " delete the policy's versions. The default version is deleted with the"
                    " policy."
                )
            await self._records.delete(arn)

    async def add_version(
        self, account: str, arn: str, document: str, *, is_default: bool
    ) -> tuple[str, Policy]:
        """Adds a version; returns its id and the policy as it is now."""
        _check_document(document)
        async with self._changes:
            policy = self._get_own(account, arn)
            if len(policy.versions) >= VERSIONS_PER_POLICY:
                raise LimitExceeded(
                    f"A managed policy can have up to {VERSIONS_PER_POLICY} versions. Before you"
                    " create a new version, you must delete an existing version."
                )
            version_id = f"v{policy.next_version}"
            now = self._now()
            added = PolicyVersion(document=document, created=now)
            policy = replace(
                policy,
                versions={**policy.versions, version_id: added},
                default_version=version_id if is_default else policy.default_version,
                next_version=policy.next_version + 1,
                updated=now,
            )
            await self._records.put(arn, policy)
        return version_id, policy

    async def set_default_version(self, account: str, arn: str, version_id: str) -> None:
        """Makes an existing version the one that counts."""
        async with self._changes:
            policy = self._get_own(account, arn)
            policy.version(version_id)
            await self._records.put(
                arn, replace(policy, default_version=version_id, updated=self._now())
            )

    async def delete_version(self, account: str, arn: str, version_id: str) -> None:
        """Deletes a version that is not the default."""
        async with self._changes:
            policy = self._get_own(account, arn)
            policy.version(version_id)
            if policy.default_version == version_id:
                raise DeleteConflict("Cannot delete the default version of a policy.")
            kept = {name: v for name, v in policy.versions.items() if name != version_id}
            await self._records.put(arn, replace(policy, versions=kept, updated=self._now()))

    async def tag(self, account: str, arn: str, added: Iterable[Mapping[str, str]]) -> None:
        async with self._changes:
            policy = self._get_own(account, arn)
            await self._records.put(arn, replace(policy, tags=add_tags(policy.tags, added)))

    async def untag(self, account: str, arn: str, keys: Iterable[str]) -> None:
        async with self._changes:
            policy = self._get_own(account, arn)
            await self._records.put(arn, replace(policy, tags=remove_tags(policy.tags, keys)))

    def attachments(self, account: str, arn: str) -> int:
        """How many of the account's roles have the policy attached."""
        return self._attachments[account, arn]

    def count_attachment(self, account: str, arn: str, change: int) -> None:
        """Told by ``iam.roles`` after each attach (+1) and detach (-1)."""
        self._attachments[account, arn] += change

    def _get_own(self, account: str, arn: str) -> Policy:
        policy = self.get(account, arn)
        if policy.is_aws_managed:
            raise AccessDenied(
                f"User: arn:aws:iam::{account}:root is not authorized to change the AWS managed"
                f" policy {arn}",
                code="AccessDenied",
            )
        return policy

    def _now(self) -> datetime:
        return datetime.fromtimestamp(int(self._clock()), UTC)


def _check_document(document: str) -> None:
    check_identity_policy(document)
    if counted_size(document) > POLICY_MAX_CHARACTERS:
        raise LimitExceeded(f"Cannot exceed quota for PolicySize: {POLICY_MAX_CHARACTERS}")


def _from_table(policy: ManagedPolicy) -> Policy:
    return Policy(
        account="aws",
        name=policy.name,
        path=policy.path,
        policy_id=derive_entity_id(POLICY, policy.arn),
        versions={"v1": PolicyVersion(document=policy.document, created=_AWS_EPOCH)},
        created=_AWS_EPOCH,
        updated=_AWS_EPOCH,
    )
