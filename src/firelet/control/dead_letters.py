"""What may be a function's dead-letter queue. Pure.

Called by ``control.configuration``. Source: the guide, "Adding a dead-letter queue": a standard
queue of SQS or a standard topic of SNS. The sentence is firelet's own, modelled on that of
destinations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firelet.model.errors import InvalidParameterValue

_SERVICES = frozenset({"sqs", "sns"})
_FIFO = ".fifo"


def check_dead_letters(config: Mapping[str, Any]) -> None:
    """``config`` is DeadLetterConfig; without a TargetArn it takes the queue away."""
    arn = config.get("TargetArn")
    if arn and (arn.split(":")[2] not in _SERVICES or arn.endswith(_FIFO)):
        raise InvalidParameterValue(f"The dead letter target ARN {arn} is invalid.")
