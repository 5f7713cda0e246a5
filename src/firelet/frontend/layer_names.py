"""Which layer a call is about: ``LayerName`` is a name or an ARN.

Called by the families of operations on layers. Source: LayerNameOrArn in the service model.
"""

from __future__ import annotations

from firelet.control.targets import denied
from firelet.frontend.operations import Call
from firelet.model.errors import ResourceNotFound
from firelet.model.layer import LayerKey


def parse_layer_name(call: Call) -> LayerKey:
    """The layer, whose account may be another one. ResourceNotFound for another region's."""
    text: str = call.params["LayerName"]
    if not text.startswith("arn:"):
        return (call.account, call.region, text)
    _, _, _, region, account, _, name = text.split(":")
    if region != call.region:
        raise ResourceNotFound("The resource you requested does not exist.")
    return (account, region, name)


def parse_own_layer(call: Call) -> LayerKey:
    """The layer, of the caller's account: nothing else of other accounts' layers is shared than
    reading a version. AccessDenied."""
    key = parse_layer_name(call)
    if key[0] != call.account:
        raise denied(call.account, f"lambda:{call.operation}", call.params["LayerName"])
    return key
