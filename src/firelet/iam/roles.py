"""Roles: who a function is, with its trust policy, inline policies and attached policies.

What it is: the durable catalogue behind ``CreateRole`` and its kin; IAM is global, so a role
belongs to an account and to no region. What it is not: sessions of a role (``iam.credentials``).
Called by ``frontend.iam_roles``, ``frontend.sts`` and whoever must know whether a role exists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from firelet.iam.entity_ids import ROLE, derive_entity_id, new_entity_id
from firelet.iam.errors import (
    DeleteConflict,
    EntityAlreadyExists,
    LimitExceeded,
    NoSuchEntity,
    UnmodifiableEntity,
)
from firelet.iam.policies import Policies
from firelet.iam.policy_document import (
    check_identity_policy,
    check_trust_policy,
    counted_size,
)
from firelet.iam.tags import add_tags, remove_tags
from firelet.store.documents import DocumentStore
from firelet.store.records import Records

# Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
ROLES_PER_ACCOUNT = 1_000
POLICIES_PER_ROLE = 10
TRUST_POLICY_MAX_CHARACTERS = 2_048
INLINE_POLICIES_MAX_CHARACTERS = 10_240
SESSION_DEFAULT_S = 3_600

SERVICE_ROLE_PATH = "/aws-service-role/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One role. ``inline`` maps policy names to documents, ``attached`` holds policy ARNs."""

    account: str
    name: str
    path: str
    role_id: str
    trust_policy: str
    description: str = ""
    max_session_s: int = SESSION_DEFAULT_S
    permissions_boundary: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    inline: Mapping[str, str] = field(default_factory=dict)
    attached: tuple[str, ...] = ()
    created: datetime

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role{self.path}{self.name}"

    @property
    def is_service_linked(self) -> bool:
        return self.path.startswith(SERVICE_ROLE_PATH)


class Roles:
    """All roles of all accounts. ``changes`` is IAM's one change lock, shared with policies."""

    def __init__(
        self,
        documents: DocumentStore,
        policies: Policies,
        changes: asyncio.Lock,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = Records(documents, "iam.role", Role)
        self._policies = policies
        self._changes = changes
        self._clock = clock

    def load(self) -> None:
        """Reads all roles. Blocking: at start-up, after the policies are loaded."""
        self._records.load()
        for role in self._records.values():
            for arn in role.attached:
                self._policies.count_attachment(role.account, arn, +1)

    def get(self, account: str, name: str) -> Role:
        role = self._records.get(_key(account, name))
        if role is None:
            raise NoSuchEntity(f"The role with name {name} cannot be found.")
        return role

    def find_by_arn(self, arn: str) -> Role | None:
        """The role of that ARN; None when there is none, or only one at another path."""
        parts = arn.split(":", 5)
        if len(parts) != 6 or not parts[5].startswith("role/"):
            return None
        role = self._records.get(_key(parts[4], parts[5].rpartition("/")[2]))
        return role if role is not None and role.arn == arn else None

    def role_id_of(self, arn: str) -> str:
        """The unique id of a role; a stable one also for a role that was never created, because
        a function may run with such a role where authorization is off."""
        role = self.find_by_arn(arn)
        return derive_entity_id(ROLE, arn) if role is None else role.role_id

    def of_account(self, account: str, path_prefix: str = "/") -> list[Role]:
        """The account's roles under a path, by name."""
        chosen = [
            role
            for role in self._records.values()
            if role.account == account and role.path.startswith(path_prefix)
        ]
        return sorted(chosen, key=lambda role: role.name)

    def holders_of(self, account: str, policy_arn: str, path_prefix: str = "/") -> list[Role]:
        """The account's roles that have a managed policy attached."""
        return [
            role for role in self.of_account(account, path_prefix) if policy_arn in role.attached
        ]

    async def create(
        self,
        account: str,
        name: str,
        trust_policy: str,
        *,
        path: str = "/",
        description: str = "",
        max_session_s: int = SESSION_DEFAULT_S,
        permissions_boundary: str | None = None,
        tags: Iterable[Mapping[str, str]] = (),
    ) -> Role:
        _check_trust_policy(trust_policy)
        role = Role(
            account=account,
            name=name,
            path=path,
            role_id=new_entity_id(ROLE),
            trust_policy=trust_policy,
            description=description,
            max_session_s=max_session_s,
            permissions_boundary=permissions_boundary,
            tags=add_tags({}, tags),
            created=datetime.fromtimestamp(int(self._clock()), UTC),
        )
        async with self._changes:
            if self._records.get(_key(account, name)) is not None:
                raise EntityAlreadyExists(f"Role with name {name} already exists.")
            if permissions_boundary is not None:
                self._policies.get(account, permissions_boundary)
            if len(self.of_account(account)) >= ROLES_PER_ACCOUNT:
                raise LimitExceeded(f"Cannot exceed quota for RolesPerAccount: {ROLES_PER_ACCOUNT}")
            await self._records.put(_key(account, name), role)
        return role

    async def delete(self, account: str, name: str) -> None:
        """Deletes a role that has no policies any more."""
        async with self._changes:
            role = self._get_changeable(account, name)
            if role.attached:
                raise DeleteConflict("Cannot delete entity, must detach all policies first.")
            if role.inline:
                raise DeleteConflict("Cannot delete entity, must delete policies first.")
            await self._records.delete(_key(account, name))

    async def delete_service_linked(self, account: str, name: str) -> Role:
        """Deletes a role that only its service's own call may delete; returns what it was."""
        async with self._changes:
            role = self.get(account, name)
            if not role.is_service_linked:
                raise NoSuchEntity(f"The role with name {name} cannot be found.")
            await self._records.delete(_key(account, name))
        return role

    async def update(
        self,
        account: str,
        name: str,
        *,
        description: str | None = None,
        max_session_s: int | None = None,
    ) -> Role:
        """Changes what is not None."""
        async with self._changes:
            role = self._get_changeable(account, name)
            return await self._put(
                replace(
                    role,
                    description=role.description if description is None else description,
                    max_session_s=max_session_s or role.max_session_s,
                )
            )

    async def set_trust_policy(self, account: str, name: str, document: str) -> None:
        async with self._changes:
            role = self._get_changeable(account, name)
            _check_trust_policy(document)
            await self._put(replace(role, trust_policy=document))

    async def set_boundary(self, account: str, name: str, policy_arn: str | None) -> None:
        """Sets the permissions boundary, or removes it with None."""
        async with self._changes:
            role = self._get_changeable(account, name)
            if policy_arn is not None:
                self._policies.get(account, policy_arn)
            elif role.permissions_boundary is None:
                raise NoSuchEntity(f"Role {name} does not have a permissions boundary.")
            await self._put(replace(role, permissions_boundary=policy_arn))

    async def tag(self, account: str, name: str, added: Iterable[Mapping[str, str]]) -> None:
        async with self._changes:
            role = self._get_changeable(account, name)
            await self._put(replace(role, tags=add_tags(role.tags, added)))

    async def untag(self, account: str, name: str, keys: Iterable[str]) -> None:
        async with self._changes:
            role = self._get_changeable(account, name)
            await self._put(replace(role, tags=remove_tags(role.tags, keys)))

    async def put_inline(self, account: str, name: str, policy: str, document: str) -> None:
        """Adds or replaces an inline policy."""
        async with self._changes:
            role = self._get_changeable(account, name)
            check_identity_policy(document)
            inline = {**role.inline, policy: document}
            if sum(map(counted_size, inline.values())) > INLINE_POLICIES_MAX_CHARACTERS:
                raise LimitExceeded(
                    f"Maximum policy size of {INLINE_POLICIES_MAX_CHARACTERS} bytes exceeded for"
                    f" role {name}"
                )
            await self._put(replace(role, inline=inline))

    def inline_policy(self, account: str, name: str, policy: str) -> str:
        """The document of an inline policy."""
        document = self.get(account, name).inline.get(policy)
        if document is None:
            raise _no_inline_policy(policy)
        return document

    async def delete_inline(self, account: str, name: str, policy: str) -> None:
        async with self._changes:
            role = self._get_changeable(account, name)
            if policy not in role.inline:
                raise _no_inline_policy(policy)
            inline = {key: text for key, text in role.inline.items() if key != policy}
            await self._put(replace(role, inline=inline))

    async def attach(self, account: str, name: str, policy_arn: str) -> None:
        """Attaches a managed policy; one that is attached already is no error."""
        async with self._changes:
            role = self._get_changeable(account, name)
            policy = self._find_attachable(account, policy_arn)
            if policy in role.attached:
                return
            if len(role.attached) >= POLICIES_PER_ROLE:
                raise LimitExceeded(f"Cannot exceed quota for PoliciesPerRole: {POLICIES_PER_ROLE}")
            await self._put(replace(role, attached=(*role.attached, policy)))
            self._policies.count_attachment(account, policy, +1)

    async def detach(self, account: str, name: str, policy_arn: str) -> None:
        async with self._changes:
            role = self._get_changeable(account, name)
            if policy_arn not in role.attached:
                raise NoSuchEntity(f"Policy {policy_arn} was not found.")
            kept = tuple(arn for arn in role.attached if arn != policy_arn)
            await self._put(replace(role, attached=kept))
            self._policies.count_attachment(account, policy_arn, -1)

    def _find_attachable(self, account: str, policy_arn: str) -> str:
        try:
            return self._policies.get(account, policy_arn).arn
        except NoSuchEntity:
            raise NoSuchEntity(
                f"Policy {policy_arn} does not exist or is not attachable."
            ) from None

    def _get_changeable(self, account: str, name: str) -> Role:
        role = self.get(account, name)
        if role.is_service_linked:
            raise UnmodifiableEntity(
                f"Cannot perform the operation on the protected role '{name}' - this role is only"
                " modifiable by AWS"
            )
        return role

    async def _put(self, role: Role) -> Role:
        await self._records.put(_key(role.account, role.name), role)
        return role


def _key(account: str, name: str) -> str:
    """Names are unique without regard to case."""
    return f"{account}/{name.lower()}"


def _check_trust_policy(document: str) -> None:
    check_trust_policy(document)
    if counted_size(document) > TRUST_POLICY_MAX_CHARACTERS:
        raise LimitExceeded(
            f"Cannot exceed quota for ACLSizePerRole: {TRUST_POLICY_MAX_CHARACTERS}"
        )


def _no_inline_policy(policy: str) -> NoSuchEntity:
    return NoSuchEntity(f"The role policy with name {policy} cannot be found.")
