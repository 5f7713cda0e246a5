"""An invocation as the runtime gets it from ``GET next``: headers and body.

Source: docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
"""

from __future__ import annotations

import math

from firelet.model.invocation import Invocation
from firelet.runtime.exchange import RuntimeEvent


def runtime_event(invocation: Invocation, deadline_epoch: float) -> RuntimeEvent:
    """``deadline_epoch`` is in seconds of the epoch."""
    headers = [
        (b"content-type", b"application/json"),
        (b"lambda-runtime-aws-request-id", invocation.request_id.encode()),
        (b"lambda-runtime-deadline-ms", b"%d" % math.floor(deadline_epoch * 1000)),
        (b"lambda-runtime-invoked-function-arn", invocation.invoked_arn.encode()),
    ]
    if invocation.trace_id:
        headers.append((b"lambda-runtime-trace-id", invocation.trace_id.encode("latin-1")))
    if invocation.tenant_id is not None:
        headers.append((b"lambda-runtime-aws-tenant-id", invocation.tenant_id.encode()))
    if invocation.client_context:
        headers.append((b"lambda-runtime-client-context", invocation.client_context.encode()))
    return RuntimeEvent(invocation.request_id, tuple(headers), invocation.payload)
