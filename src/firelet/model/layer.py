"""Layer versions as values: an immutable package, what it is for, and who may use it.

What it is not: the layers of a function (``model.function.LayerUse``). ``control.layers`` owns the
changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firelet.model.function import Code
from firelet.model.permission import Permission, format_policy

# Account, region and name.
LayerKey = tuple[str, str, str]

GET_LAYER_VERSION = "lambda:GetLayerVersion"


@dataclass(frozen=True, slots=True)
class LayerPermission:
    """One statement of a layer version's policy. ``principal`` is ``*``, an account id or the ARN
    of an account's root; ``organization_id`` narrows it down."""

    statement_id: str
    principal: str
    organization_id: str | None = None

    def statement(self, resource: str) -> dict[str, Any]:
        """As it stands in the policy, members in AWS's order."""
        permission = Permission(
            statement_id=self.statement_id,
            action=GET_LAYER_VERSION,
            principal=self.principal,
            organization_id=self.organization_id,
        )
        return permission.statement(resource)

    def allows(self, account: str) -> bool:
        """Whether callers of ``account`` may use it. This platform knows no organizations, so that
        nobody belongs to the one that a statement asks for."""
        return self.organization_id is None and self.principal in (
            "*",
            account,
            f"arn:aws:iam::{account}:root",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerVersion:
    """One version of a layer. What it is compatible with is None when its publisher did not say;
    ``permissions`` are by statement id; ``revision_id`` is that of the policy which they make up.
    """

    account: str
    region: str
    name: str
    number: int
    code: Code
    description: str = ""
    license_info: str | None = None
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None
    created: str  # 2026-11-23T07:00:00.000+0000
    permissions: Mapping[str, LayerPermission] = field(default_factory=dict)
    revision_id: str

    @property
    def key(self) -> LayerKey:
        return (self.account, self.region, self.name)

    @property
    def arn(self) -> str:
        return format_layer_arn(self.key, self.number)

    def suits(self, runtime: str | None, architecture: str | None) -> bool:
        """Whether it says that it is compatible with what is asked for; None asks for nothing."""
        return (runtime is None or runtime in (self.runtimes or ())) and (
            architecture is None or architecture in (self.architectures or ())
        )

    def policy(self) -> str:
        """The policy document as JSON text."""
        return format_policy([one.statement(self.arn) for one in self.permissions.values()])


def format_layer_arn(key: LayerKey, number: int | None = None) -> str:
    """The ARN of a layer, or with a number of one version of it."""
    account, region, name = key
    arn = f"arn:aws:lambda:{region}:{account}:layer:{name}"
    return arn if number is None else f"{arn}:{number}"


def parse_layer_version_arn(arn: str) -> tuple[LayerKey, int] | None:
    """Layer and number; None for an ARN of another form, as that of AWS's own managed layers."""
    parts = arn.split(":")
    if len(parts) != 8 or parts[5] != "layer" or not parts[7].isdigit():
        return None
    return (parts[4], parts[3], parts[6]), int(parts[7])
