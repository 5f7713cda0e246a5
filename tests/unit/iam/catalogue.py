"""Roles and policies over documents in memory, for the tests of IAM."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from firelet.iam.policies import Policies
from firelet.iam.roles import Roles
from firelet.store.documents import DocumentStore, MemoryDocuments

ACCOUNT = "123456789012"
TRUST = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":'
    '{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}'
)
ALLOW_LOGS = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"logs:*","Resource":"*"}]}'
)
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
NOW = 1_800_000_000.25


@dataclass(frozen=True, slots=True)
class Catalogue:
    documents: DocumentStore
    policies: Policies
    roles: Roles


def open_catalogue(documents: DocumentStore | None = None) -> Catalogue:
    """A catalogue as it is after a start with what ``documents`` holds."""
    documents = documents or MemoryDocuments()
    changes = asyncio.Lock()
    policies = Policies(documents, changes, clock=lambda: NOW)
    roles = Roles(documents, policies, changes, clock=lambda: NOW)
    policies.load()
    roles.load()
    return Catalogue(documents, policies, roles)
