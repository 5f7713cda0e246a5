"""The CBOR protocol (RPC v2): what newer SDKs speak to CloudWatch.

What it is: both directions of one protocol. Its values are those of the JSON protocols with bytes
and times of their own, so that reading is ``wire.aws.parse`` after decoding. Called by
``wire.aws.protocol``; errors in this protocol are in ``wire.aws.errors``.

Source: https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cbor2

from firelet.model.errors import SerializationError
from firelet.wire.aws.model import Operation, Shape
from firelet.wire.aws.parse import read_json
from firelet.wire.aws.scalars import EPOCH, format_json_scalar, format_timestamp
from firelet.wire.aws.serialize import Answer

HEADERS = {"content-type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}

_EPOCH_TAG = 1  # RFC 8949, section 3.4.2


def parse_cbor(operation: Operation, body: bytes) -> dict[str, Any]:
    """The parameters of a request; an operation without any may come without a body."""
    if operation.input is None or not body:
        return {}
    try:
        given = cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError, OverflowError) as error:
        raise SerializationError(f"Could not parse request body into cbor: {error}") from None
    params: dict[str, Any] = read_json(operation.input, given)
    return params


def format_cbor(operation: Operation, output: Mapping[str, Any]) -> Answer:
    """The answer of an operation. ``output`` has been checked against the shape."""
    shape = operation.output
    if shape is None:
        return Answer(200, b"", {"smithy-protocol": HEADERS["smithy-protocol"]})
    return Answer(200, cbor2.dumps(_write(shape, output)), dict(HEADERS))


def _write(shape: Shape, value: Any) -> object:
    match shape.type:
        case "structure":
            return {
                name: _write(member.shape, given)
                for name, member in shape.members.items()
                if (given := value.get(name)) is not None
            }
        case "list":
            return [_write(shape.element.shape, item) for item in value]
        case "map":
            item = shape.value.shape
            return {str(key): _write(item, given) for key, given in value.items()}
        case "timestamp":
            return cbor2.CBORTag(_EPOCH_TAG, float(format_timestamp(value, EPOCH)))
        case "blob":
            return bytes(value)
        case "double" | "float":
            return float(value)
    return format_json_scalar(shape, value, None)
