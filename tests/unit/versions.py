"""Function versions and invocations for tests: whole values, of which a test names what matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from firelet.model.function import Code, FunctionVersion, LayerUse, LoggingConfig, State
from firelet.model.invocation import Invocation

REQUEST_ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
OTHER_ID = "11111111-2222-4333-8444-555555555555"
DIGEST = "ab" * 32

_VERSION = FunctionVersion(
    account="123456789012",
    region="us-east-1",
    name="hello",
    role="arn:aws:iam::123456789012:role/lambda",
    runtime="python3.13",
    handler="app.handler",
    code=Code(digest=DIGEST, sha256="q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=", size=100),
    logging=LoggingConfig(log_group="/aws/lambda/hello"),
    last_modified="2026-11-23T07:00:00.000+0000",
    revision_id="5f1a5e0e-0000-4000-8000-000000000000",
    state=State.ACTIVE,
)


def make_layer(digest: str) -> LayerUse:
    """A layer whose package has this digest."""
    return LayerUse(
        arn=f"arn:aws:lambda:us-east-1:123456789012:layer:{digest[:4]}:1",
        code=Code(digest=digest, sha256="", size=1),
    )


def make_version(**changes: Any) -> FunctionVersion:
    """A version of the function ``hello``, ready to be invoked."""
    return replace(_VERSION, **changes)


def make_invocation(version: FunctionVersion | None = None, **changes: Any) -> Invocation:
    """An invocation of ``version`` with the payload ``{}``."""
    version = version or make_version()
    fields: dict[str, Any] = {
        "request_id": REQUEST_ID,
        "function": version,
        "invoked_arn": version.unqualified_arn,
        "payload": b"{}",
    }
    return Invocation(**{**fields, **changes})
