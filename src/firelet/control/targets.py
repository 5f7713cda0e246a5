"""What a qualifier of a function stands for: pure look-ups, no changes.

Called by the registry for invocations and for the operations that read configurations.
"""

from __future__ import annotations

from dataclasses import dataclass

from firelet.control.trace_sampling import ACTIVE, TraceSampler, pass_through
from firelet.model.arn import LATEST, FunctionRef, format_function_arn
from firelet.model.errors import AccessDenied, ResourceNotFound
from firelet.model.function import ALLOW_LOOP, Function, FunctionKey, FunctionVersion
from firelet.model.lineage import lineage_id, pass_function


@dataclass(frozen=True, slots=True)
class Resolved:
    """What an invocation runs. ``invoked_arn`` is unqualified if the caller's reference was.
    ``is_loop_allowed``: the function may be called by what it calls. ``sampler``: with active
    tracing only."""

    version: FunctionVersion
    invoked_arn: str
    reserved_concurrency: int | None
    function_key: FunctionKey
    is_loop_allowed: bool = False
    sampler: TraceSampler | None = None

    def trace(self, header: str) -> str:
        """The trace header of the invocation, from that of its request. RecursiveInvocation."""
        decided = pass_through(header) if self.sampler is None else self.sampler.sample(header)
        identity = lineage_id(self.version.unqualified_arn)
        return pass_function(decided, identity, is_loop_allowed=self.is_loop_allowed)


@dataclass(frozen=True, slots=True)
class Target:
    """One qualifier, ready to be drawn from: ``second`` is taken with probability ``weight``."""

    first: Resolved
    second: Resolved | None = None
    weight: float = 0.0


def function_key(account: str, region: str, ref: FunctionRef, action: str) -> FunctionKey:
    """The key of the function that a caller in ``account`` and ``region`` means.

    ResourceNotFound when the reference names another region; AccessDenied when it names another
    account: ``action`` (an operation's name) is what the sentence says was tried.
    """
    if ref.region is not None and ref.region != region:
        raise ResourceNotFound(
            f"Functions from '{ref.region}' are not reachable in this region ('{region}')"
        )
    if ref.account is not None and ref.account != account:
        arn = format_function_arn(region, ref.account, ref.name, ref.qualifier)
        raise denied(account, f"lambda:{action}", arn)
    return (account, region, ref.name)


def denied(account: str, action: str, resource: str) -> AccessDenied:
    """AWS's sentence for another account's resource that is not shared."""
    return AccessDenied(
        f"User: arn:aws:iam::{account}:root is not authorized to perform: {action} on resource:"
        f" {resource} because no resource-based policy allows the {action} action"
    )


def not_found(key: FunctionKey, qualifier: str | None = None) -> ResourceNotFound:
    """AWS's sentence for a function, version or alias that is not there."""
    account, region, name = key
    return ResourceNotFound(
        f"Function not found: {format_function_arn(region, account, name, qualifier)}"
    )


def find_version(function: Function, qualifier: str | None) -> FunctionVersion | None:
    """The configuration behind a qualifier; of an alias, that of its first version."""
    if qualifier is None or qualifier == LATEST:
        return function.latest
    alias = function.aliases.get(qualifier)
    return function.versions.get(qualifier if alias is None else alias.version)


def find_target(function: Function, qualifier: str | None) -> Target | None:
    """What an invocation by that qualifier may run."""
    key = function.key
    account, region, name = key
    arn = format_function_arn(region, account, name, qualifier)
    is_loop_allowed = function.recursive_loop == ALLOW_LOOP

    def resolved(number: str) -> Resolved | None:
        version = runnable(function, number)
        if version is None:
            return None
        sampler = TraceSampler() if version.tracing_mode == ACTIVE else None
        return Resolved(version, arn, function.reserved_concurrency, key, is_loop_allowed, sampler)

    alias = None if qualifier is None else function.aliases.get(qualifier)
    first = resolved(qualifier or LATEST if alias is None else alias.version)
    if first is None:
        return None
    if alias is not None:
        for number, weight in alias.weights.items():
            return Target(first, resolved(number), weight)
    return Target(first)


def runnable(function: Function, number: str) -> FunctionVersion | None:
    """What runs for a version: ``$LATEST`` is what it was while an update is in progress.

    Source: AWS's description of LastUpdateStatus: invocations use the previous code and
    configuration until an update has succeeded.
    """
    if number == LATEST:
        return function.serving or function.latest
    return function.versions.get(number)
