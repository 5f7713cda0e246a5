"""Reserved concurrency, and what an account has and uses.

What it is not: the counting of what runs (``control.counting``).
Called by ``frontend.concurrency``; ``control.invoke`` asks for the total.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.model import limits
from firelet.model.arn import LATEST
from firelet.model.errors import InvalidParameterValue
from firelet.model.function import FunctionKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUsage:
    """One account in one region."""

    function_count: int
    code_bytes: int
    concurrency: int
    unreserved_concurrency: int


class Concurrency:
    """The operations on reservations."""

    def __init__(self, catalog: Catalog, mutations: Mutations, account_limit: int) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._account_limit = account_limit

    def get(self, key: FunctionKey) -> int | None:
        """The reservation of a function; None when it has none."""
        return self._catalog.get(key).reserved_concurrency

    def reserved_total(self, account: str, region: str) -> int:
        """What all reservations of an account in a region set aside, with the provisioned
        concurrency of functions that have none."""
        return self._catalog.world(account, region).set_aside

    def usage(self, account: str, region: str) -> AccountUsage:
        world = self._catalog.world(account, region)
        return AccountUsage(
            function_count=world.function_count,
            code_bytes=world.code_bytes,
            concurrency=self._account_limit,
            unreserved_concurrency=self._account_limit - world.set_aside,
        )

    async def reserve(self, key: FunctionKey, amount: int | None) -> None:
        """Sets the reservation, or takes it away (None). At least 100 must stay for the rest."""
        await self._mutations.carry_out(self._reserve(key, amount))

    async def _reserve(self, key: FunctionKey, amount: int | None) -> None:
        async with self._mutations.lock(key):
            function = self._catalog.get(key, LATEST)  # the sentence has it so (recorded)
            provisioned = function.provisioned_total
            if amount is not None and amount < provisioned:
                raise InvalidParameterValue(
                    f" ReservedConcurrentExecutions  {amount} should not be lower than function's"
                    f" total provisioned concurrency [{provisioned}]."
                )
            others = self.reserved_total(key[0], key[1]) - function.set_aside
            left = self._account_limit - others - (amount or 0)
            if amount is not None and left < limits.UNRESERVED_MIN:
                raise InvalidParameterValue(
                    "Specified ReservedConcurrentExecutions for function decreases account's"
                    " UnreservedConcurrentExecution below its minimum value of"
                    f" [{limits.UNRESERVED_MIN}]."
                )
            await self._catalog.commit(function, replace(function, reserved_concurrency=amount))
