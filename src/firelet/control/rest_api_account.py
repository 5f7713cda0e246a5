"""What API Gateway keeps of an account in a region: the role that may write its logs.

Called by ``frontend.apigateway``. Source: API reference of GetAccount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firelet.store.documents import DocumentStore
from firelet.store.records import Records

# Source: documented quotas of an account and region.
RATE_LIMIT, BURST_LIMIT = 10_000.0, 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """``log_role`` is kept and answered; access logs are not written."""

    log_role: str | None = None


class ApiGatewayAccounts:
    """``load`` first."""

    def __init__(self, documents: DocumentStore) -> None:
        self._records = Records(documents, "apigateway-account", AccountSettings)

    def load(self) -> None:
        """Blocking: at start-up only."""
        self._records.load()

    def get(self, account: str, region: str) -> Mapping[str, Any]:
        """The shape ``Account``."""
        record = self._records.get(f"{account}/{region}") or AccountSettings()
        return {
            "cloudwatchRoleArn": record.log_role,
            "throttleSettings": {"rateLimit": RATE_LIMIT, "burstLimit": BURST_LIMIT},
            "features": ["UsagePlans"],
            "apiKeyVersion": "4",
        }

    async def put(self, account: str, region: str, log_role: str | None) -> None:
        await self._records.put(f"{account}/{region}", AccountSettings(log_role=log_role))
