"""What the control process and its worker processes say to each other.

The control process calls; a worker answers, and tells what happens by itself. Environments are
named by numbers that the control process gives out, never twice to one worker. Messages arrive in
the order in which they were sent: what a note says is known before an answer that came after it.
"""

from __future__ import annotations

import msgspec

from firelet.model.function import FunctionVersion, InitializationType
from firelet.model.isolation import Isolation
from firelet.wire.rpc import Codec, Message


class Granted(msgspec.Struct, frozen=True, array_like=True):
    """Credentials of an execution role, which the control process makes and revokes.
    ``expires_at`` is in seconds of the epoch."""

    access_key: str
    secret_key: str
    session_token: str
    expires_at: float


class Open(Message, frozen=True):
    """Make ready; the first call."""


class Expect(Message, frozen=True):
    """Note: functions of this runtime and isolation are about to come."""

    runtime: str
    isolation: Isolation | None = None


class Activate(Message, frozen=True):
    """Make the snapshot of a version with SnapStart, unless it is there."""

    version: FunctionVersion
    granted: Granted


class Retire(Message, frozen=True):
    """Note: a version, or with None all of a function, is gone, and so are its snapshots."""

    account: str
    region: str
    name: str
    version: str | None


class Start(Message, frozen=True):
    """Make an environment and run its INIT, or restore it from its snapshot."""

    environment: int
    version: FunctionVersion
    initialization: InitializationType
    granted: Granted


class Invoke(Message, frozen=True):
    """Run one invocation; its event is the payload. With ``is_streamed``, a response that the
    function streams is told in notes before the answer."""

    environment: int
    request_id: str
    invoked_arn: str
    client_context: str | None
    trace_id: str | None
    wants_tail: bool
    tenant_id: str | None = None
    is_streamed: bool = False


class Invoked(Message, frozen=True):
    """The answer to ``Invoke``; the payload is the function's, unless ``is_streamed``: then it is
    empty or an error. Unless ``is_free`` is set, the environment can take another one only after
    ``Freed``."""

    executed_version: str
    function_error: str | None
    error_type: str | None
    log_tail: bytes
    is_free: bool
    duration_ms: float = 0.0
    is_streamed: bool = False
    is_settling: bool = False


class Finished(Message, frozen=True):
    """Note: the extensions of an invocation are done, before ``Freed``; both in ms (see
    ``model.invocation.Settled``)."""

    environment: int
    duration_ms: float
    extensions_ms: float


class ResponseBegan(Message, frozen=True):
    """Note: the function streams its response."""

    environment: int
    content_type: str


class ResponsePiece(Message, frozen=True):
    """Note: the next bytes of a streamed response."""

    environment: int
    data: bytes


class PauseResponse(Message, frozen=True):
    """Note: hold up the response that is streamed now; its client is slow."""

    environment: int


class ResumeResponse(Message, frozen=True):
    """Note: let it go on."""

    environment: int


class Freeze(Message, frozen=True):
    """Note: stop its processes until the next invocation."""

    environment: int


class Close(Message, frozen=True):
    """End an environment."""

    environment: int


class Abandon(Message, frozen=True):
    """Note: end an environment of which nobody has heard yet, if it is there."""

    environment: int


class End(Message, frozen=True):
    """End everything, and then the process; the last call."""


class Done(Message, frozen=True):
    """The answer to what has nothing to tell."""


class Freed(Message, frozen=True):
    """Note: it can take another invocation now, or is of no use any more."""

    environment: int


class Changed(Message, frozen=True):
    """Note: what is true of an environment from now on. A new one is usable and initialised;
    ``idle_mib`` is the memory that it held when it was frozen last."""

    environment: int
    is_usable: bool
    is_initialised: bool
    idle_mib: float = 0.0


class StreamEvents(Message, frozen=True):
    """Log events of one stream: timestamps in ms and messages."""

    account: str
    region: str
    group: str
    stream: str
    events: list[tuple[int, str]]


class Logged(Message, frozen=True):
    """Note: what functions and the platform have written."""

    streams: list[StreamEvents]


class Alive(Message, frozen=True):
    """Note: sent every second, so that a worker that hangs is noticed."""


ToWorker = (
    Open
    | Expect
    | Activate
    | Retire
    | Start
    | Invoke
    | PauseResponse
    | ResumeResponse
    | Freeze
    | Close
    | Abandon
    | End
)
FromWorker = (
    Done | Invoked | Finished | ResponseBegan | ResponsePiece | Freed | Changed | Logged | Alive
)


def control_codec() -> Codec:
    """For the control process's end."""
    return Codec(FromWorker)


def worker_codec() -> Codec:
    """For a worker's end."""
    return Codec(ToWorker)
