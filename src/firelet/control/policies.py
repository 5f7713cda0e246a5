"""The resource policies of functions, versions and aliases: who else may use them.

A policy is kept as the JSON text that callers get back. It has no RevisionId of its own: a change
of it is a change of what it hangs on. Called by ``frontend.policies``.
Source: docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html; recorded messages.
A stale RevisionId is told by another operation after AddPermission (GetPolicy) than after
RemovePermission (GetFunction/GetAlias): so it was recorded in 2023, one call after the other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.qualifiers import (
    has_qualifier,
    missing_qualifier,
    qualified_arn,
    revision_of,
    with_new_revision,
    without,
)
from firelet.iam.errors import MalformedPolicyDocument
from firelet.iam.policy_document import check_resource_policy
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import (
    InvalidParameterValue,
    PolicyLengthExceeded,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from firelet.model.function import Function, FunctionKey
from firelet.model.permission import Permission, format_json, format_policy


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document, and the RevisionId of what it hangs on."""

    text: str
    revision_id: str


class ResourcePolicies:
    """The operations on policies. A ``qualifier`` of None means the function itself."""

    def __init__(self, catalog: Catalog, mutations: Mutations) -> None:
        self._catalog = catalog
        self._mutations = mutations

    def get(self, key: FunctionKey, qualifier: str | None) -> Policy:
        """ResourceNotFound when there is none, or nothing that it could belong to."""
        function = self._catalog.get(key)
        name = qualifier or LATEST
        if name not in function.policies:
            raise ResourceNotFound("The resource you requested does not exist.")
        return Policy(function.policies[name], revision_of(function, name))

    async def add(
        self, key: FunctionKey, qualifier: str | None, permission: Permission, revision: str | None
    ) -> str:
        """The statement, as JSON text. ResourceConflict when its id is taken,
        PolicyLengthExceeded, PreconditionFailed."""
        _refuse_latest(qualifier)
        return await self._mutations.carry_out(self._add(key, qualifier, permission, revision))

    async def remove(
        self, key: FunctionKey, qualifier: str | None, statement_id: str, revision: str | None
    ) -> None:
        """ResourceNotFound when there is no such statement; PreconditionFailed."""
        await self._mutations.carry_out(self._remove(key, qualifier, statement_id, revision))

    async def put(
        self, key: FunctionKey, qualifier: str | None, text: str, revision: str | None
    ) -> Policy:
        """Replaces the whole document. InvalidParameterValue says what is wrong with it."""
        _refuse_latest(qualifier)
        return await self._mutations.carry_out(self._put(key, qualifier, text, revision))

    async def delete(self, key: FunctionKey, qualifier: str | None, revision: str | None) -> None:
        """Takes the whole document away."""
        await self._mutations.carry_out(self._delete(key, qualifier, revision))

    async def _add(
        self, key: FunctionKey, qualifier: str | None, permission: Permission, revision: str | None
    ) -> str:
        name = qualifier or LATEST
        async with self._mutations.lock(key):
            function = self._find(key, name)
            _check_revision(function, name, revision, "GetPolicy")
            document = _parse(function, name)
            statements = document["Statement"]
            identity = permission.statement_id
            if any(statement.get("Sid") == identity for statement in statements):
                raise ResourceConflict(
                    f"The statement id ({identity}) provided already exists. Please provide a new"
                    " statement id, or remove the existing statement."
                )
            statement = permission.statement(qualified_arn(key, qualifier))
            text = format_json({**document, "Statement": [*statements, statement]})
            await self._commit(function, name, text)
            return format_json(statement)

    async def _remove(
        self, key: FunctionKey, qualifier: str | None, statement_id: str, revision: str | None
    ) -> None:
        name = qualifier or LATEST
        async with self._mutations.lock(key):
            if self._catalog.find(key) is None:
                raise ResourceNotFound(f"No policy found for: {qualified_arn(key, None)}")
            function = self._find(key, name)
            _check_exists(function, name)
            document = _parse(function, name)
            statements = document["Statement"]
            left = [one for one in statements if one.get("Sid") != statement_id]
            if len(left) == len(statements):
                raise ResourceNotFound(f"Statement {statement_id} is not found in resource policy.")
            _check_revision(function, name, revision, "GetFunction/GetAlias")
            text = format_json({**document, "Statement": left}) if left else None
            await self._commit(function, name, text)

    async def _put(
        self, key: FunctionKey, qualifier: str | None, text: str, revision: str | None
    ) -> Policy:
        name = qualifier or LATEST
        async with self._mutations.lock(key):
            function = self._find(key, name)
            _check_revision(function, name, revision, "GetResourcePolicy")
            _check_document(text, qualified_arn(key, qualifier))
            after = await self._commit(function, name, text)
            return Policy(text, revision_of(after, name))

    async def _delete(self, key: FunctionKey, qualifier: str | None, revision: str | None) -> None:
        name = qualifier or LATEST
        async with self._mutations.lock(key):
            function = self._find(key, name)
            _check_exists(function, name)
            _check_revision(function, name, revision, "GetResourcePolicy")
            await self._commit(function, name, None)

    def _find(self, key: FunctionKey, name: str) -> Function:
        function = self._catalog.get(key)
        if not has_qualifier(function, name):
            raise missing_qualifier(key, name)
        return function

    async def _commit(self, before: Function, name: str, text: str | None) -> Function:
        """Writes the document, or its absence (None), under a new RevisionId."""
        if text is None:
            policies = without(before.policies, name)
        else:
            check_length(text)
            policies = {**before.policies, name: text}
        after = replace(with_new_revision(before, name), policies=policies)
        await self._catalog.commit(before, after)
        return after


def check_length(text: str) -> None:
    """PolicyLengthExceeded for a policy document that is too long, of whatever resource."""
    size = len(text.encode())
    if size > limits.POLICY_MAX_BYTES:
        raise PolicyLengthExceeded(
            f"The final policy size ({size}) is bigger than the limit ({limits.POLICY_MAX_BYTES})."
        )


def _refuse_latest(qualifier: str | None) -> None:
    if qualifier == LATEST:
        raise InvalidParameterValue("We currently do not support adding policies for $LATEST.")


def _check_exists(function: Function, name: str) -> None:
    if name not in function.policies:
        raise ResourceNotFound("No policy is associated with the given resource.")


def _check_revision(function: Function, name: str, expected: str | None, api: str) -> None:
    if expected is not None and expected != revision_of(function, name):
        raise PreconditionFailed(
            "The Revision Id provided does not match the latest Revision Id. Call the"
            f" {api} API to retrieve the latest Revision Id"
        )


def _parse(function: Function, name: str) -> dict[str, Any]:
    """The document, a new one if there is none, with its statements as a list."""
    document: dict[str, Any] = json.loads(function.policies.get(name) or format_policy([]))
    statements = document["Statement"]
    if isinstance(statements, dict):
        document["Statement"] = [statements]
    return document


def _check_document(text: str, arn: str) -> None:
    """The grammar is IAM's. Every statement is about the resource that the policy hangs on."""
    try:
        statements = check_resource_policy(text)
    except MalformedPolicyDocument as error:
        raise InvalidParameterValue(error.message) from None
    for statement in statements:
        resources = statement.get("Resource")
        named = [resources] if isinstance(resources, str) else resources
        if named != [arn]:
            raise InvalidParameterValue(
                f"The Resource of each statement must be the resource of the policy: {arn}"
            )
