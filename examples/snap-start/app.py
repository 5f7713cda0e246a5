"""SnapStart: INIT happens once, when a version is published; each environment continues from there.

    firelet deploy . --name snap --handler app.handler
    aws lambda update-function-configuration --function-name snap \\
        --snap-start ApplyOn=PublishedVersions
    aws lambda publish-version --function-name snap
    firelet invoke snap:1

The hooks are those of AWS's package ``snapshot-restore-py``, which is part of the runtime.
"""

from __future__ import annotations

import os
import uuid
from typing import Any

from snapshot_restore_py import register_after_restore, register_before_snapshot

# What all environments share, because it was made before the snapshot.
TABLE = {number: number * number for number in range(1_000)}
state: dict[str, Any] = {"prepared": False, "identity": None}


@register_before_snapshot
def prepare() -> None:
    """Close connections and forget secrets here."""
    state["prepared"] = True


@register_after_restore
def renew() -> None:
    """Open connections and draw what must be unique here."""
    state["identity"] = uuid.uuid4().hex


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    return {
        "square": TABLE[event.get("number", 7)],
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        **state,
    }
