"""Settings of asynchronous invocation, by qualifier: retries, age, and where results go.

The rules and the records; ``events.dispatcher`` follows them. Called by ``frontend.event_invoke``.
Source: docs.aws.amazon.com/lambda/latest/dg/invocation-async-configuring.html; recorded messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from firelet.control.catalog import Catalog
from firelet.control.mutations import Mutations
from firelet.control.qualifiers import has_qualifier, qualified_arn, without
from firelet.control.targets import find_version
from firelet.model.arn import LATEST, parse_function_ref
from firelet.model.errors import InvalidParameterValue, ResourceNotFound
from firelet.model.event_invoke import EventInvokeConfig
from firelet.model.function import FunctionKey

_SUCCESS_SERVICES = ("lambda", "sqs", "sns", "events")
_FAILURE_SERVICES = (*_SUCCESS_SERVICES, "s3")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventInvokeChange:
    """What a caller sets. None: not mentioned; an empty destination takes it away.

    An update of one side of DestinationConfig leaves the other as it was: the documentation of
    PutFunctionEventInvokeConfig sends whoever wants to keep the rest to the update, and the model
    allows an empty ARN, which nothing else than taking one side away needs.
    """

    retries_max: int | None = None
    age_max_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    has_destinations: bool = False  # DestinationConfig was there, be it empty

    @property
    def is_empty(self) -> bool:
        return self.retries_max is None and self.age_max_s is None and not self.has_destinations


class EventInvokeConfigs:
    """The operations on these settings. ``clock`` gives epoch seconds."""

    def __init__(self, catalog: Catalog, mutations: Mutations, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._mutations = mutations
        self._clock = clock

    def find(self, key: FunctionKey, qualifier: str | None) -> EventInvokeConfig | None:
        """The settings for an invocation by that qualifier; None for AWS's defaults."""
        function = self._catalog.find(key)
        return None if function is None else function.event_invoke.get(qualifier or LATEST)

    def get(self, key: FunctionKey, qualifier: str) -> EventInvokeConfig:
        """ResourceNotFound when there are none."""
        found = self.find(key, qualifier)
        if found is None:
            raise _no_config(key, qualifier)
        return found

    def all(self, key: FunctionKey) -> list[tuple[str, EventInvokeConfig]]:
        """By qualifier, in order."""
        function = self._catalog.find(key)
        if function is None:
            raise _no_function()
        return sorted(function.event_invoke.items())

    async def put(
        self, key: FunctionKey, qualifier: str, change: EventInvokeChange
    ) -> EventInvokeConfig:
        """Replaces all settings: what is not mentioned has its default again."""
        blank = EventInvokeConfig(last_modified=0.0)
        return await self._mutations.carry_out(self._change(key, qualifier, change, blank))

    async def update(
        self, key: FunctionKey, qualifier: str, change: EventInvokeChange
    ) -> EventInvokeConfig:
        """What is not mentioned stays as it was. ResourceNotFound when there are no settings."""
        return await self._mutations.carry_out(self._change(key, qualifier, change, None))

    async def delete(self, key: FunctionKey, qualifier: str) -> None:
        """ResourceNotFound when there are none."""
        await self._mutations.carry_out(self._delete(key, qualifier))

    async def _change(
        self,
        key: FunctionKey,
        qualifier: str,
        change: EventInvokeChange,
        before: EventInvokeConfig | None,
    ) -> EventInvokeConfig:
        """``before`` is what the change is made to; None for what there is."""
        if change.is_empty:
            raise InvalidParameterValue(
                "You must specify at least one of error handling or destination setting."
            )
        async with self._mutations.lock(key):
            function = self._catalog.find(key)
            if function is None or not has_qualifier(function, qualifier):
                raise _no_function()
            self._check_destinations(key, change)
            config = _with_change(before or self.get(key, qualifier), change, self._clock())
            configs = {**function.event_invoke, qualifier: config}
            await self._catalog.commit(function, replace(function, event_invoke=configs))
            return config

    async def _delete(self, key: FunctionKey, qualifier: str) -> None:
        async with self._mutations.lock(key):
            self.get(key, qualifier)
            function = self._catalog.get(key)
            left = without(function.event_invoke, qualifier)
            await self._catalog.commit(function, replace(function, event_invoke=left))

    def _check_destinations(self, key: FunctionKey, change: EventInvokeChange) -> None:
        for arn, services in (
            (change.on_success, _SUCCESS_SERVICES),
            (change.on_failure, _FAILURE_SERVICES),
        ):
            if not arn:
                continue
            service = arn.split(":")[2]
            if service not in services:
                raise InvalidParameterValue(
                    f"The provided destination config {_print(change)} is invalid."
                )
            if service == "lambda":
                self._check_function(key, arn)
            elif service in ("sqs", "sns") and arn.endswith(".fifo"):
                raise _invalid(arn)  # standard queues and topics only

    def _check_function(self, key: FunctionKey, arn: str) -> None:
        parts = arn.split(":")
        if len(parts) not in (7, 8) or parts[5] != "function":
            raise _invalid(arn)
        ref = parse_function_ref(arn)
        if (ref.account, ref.region) != key[:2]:
            raise _invalid(arn)  # nobody has said yet that this account may call that function
        if ref.name == key[2]:
            raise InvalidParameterValue(
                "You can't specify the function as a destination for itself."
            )
        function = self._catalog.find((*key[:2], ref.name))
        if function is None or find_version(function, ref.qualifier) is None:
            raise _invalid(arn)


def _with_change(
    before: EventInvokeConfig, change: EventInvokeChange, now: float
) -> EventInvokeConfig:
    def chosen(new: str | None, old: str | None) -> str | None:
        return old if new is None else new or None

    return EventInvokeConfig(
        retries_max=before.retries_max if change.retries_max is None else change.retries_max,
        age_max_s=before.age_max_s if change.age_max_s is None else change.age_max_s,
        on_success=chosen(change.on_success, before.on_success),
        on_failure=chosen(change.on_failure, before.on_failure),
        last_modified=now,
    )


def _print(change: EventInvokeChange) -> str:
    """DestinationConfig as AWS prints it in a sentence."""
    sides = []
    for name, arn in (("Success", change.on_success), ("Failure", change.on_failure)):
        printed = "null" if arn is None else f"On{name}(destination={arn})"
        sides.append(f"on{name}={printed}")
    return f"DestinationConfig({', '.join(sides)})"


def _invalid(arn: str) -> InvalidParameterValue:
    return InvalidParameterValue(f"The destination ARN {arn} is invalid.")


def _no_function() -> ResourceNotFound:
    return ResourceNotFound("The function doesn't exist.")


def _no_config(key: FunctionKey, qualifier: str) -> ResourceNotFound:
    arn = qualified_arn(key, qualifier)
    return ResourceNotFound(f"The function {arn} doesn't have an EventInvokeConfig")
