"""What a slot is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from firelet.model import limits
from firelet.model.function import FunctionVersion, InitializationType
from firelet.runtime.credentials import CredentialsEndpoint
from firelet.sandbox.driver import RuntimeStart, Sandbox
from firelet.worker.extension_host import ExternalExtensions


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotParts:
    """What a slot is made of. ``write`` takes one log event (timestamp in ms, message);
    ``restores`` is for environments with SnapStart; ``entry_error`` says why there is nothing to
    start, and every INIT fails with it. ``external`` are the extensions to start before the
    runtime."""

    version: FunctionVersion
    sandbox: Sandbox
    start: RuntimeStart
    write: Callable[[int, str], None]
    entry_error: str | None = None
    init_timeout_s: float = field(default=limits.INIT_TIMEOUT_S)
    initialization: InitializationType = InitializationType.ON_DEMAND
    restores: CredentialsEndpoint | None = None
    external: ExternalExtensions = field(default_factory=ExternalExtensions)
