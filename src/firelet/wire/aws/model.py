"""AWS's own service models as typed values: services, operations, shapes, members.

What it is: a reader of the JSON models that botocore ships; the contract of every API that firelet
serves. What it is not: botocore's client machinery. The model files are read directly, because
importing ``botocore`` costs about ten times what reading the four models costs, and a platform
that starts in milliseconds cannot pay that. A test compares this view with ``botocore.model``.
Called by the rest of ``wire.aws``; shapes and members are made when an operation first needs them.

Source: https://smithy.io/2.0/aws/protocols/ for the meaning of the traits.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

DEFAULT_SERVICES = ("lambda", "iam", "sts", "logs")

# A model may offer several protocols; this is the order in which botocore takes them.
PROTOCOLS = ("json", "rest-json", "query")

_PLAIN_TYPES = {"string": str, "integer": int, "long": int, "boolean": bool}

CBOR = "smithy-rpc-v2-cbor"  # only ever beside one of the others


class ModelNotFound(LookupError):
    """The installed botocore has no model of that service in a protocol that firelet speaks."""


@dataclass(frozen=True, slots=True)
class Member:
    """A use of a shape: as a structure's member, a list's element, a map's key or value.

    ``wire_name`` is the name on the wire; ``is_named`` says that the model gave it explicitly.
    ``location`` is ``uri``, ``querystring``, ``header``, ``headers`` or ``statusCode``; None is
    the body. ``plain_type`` is the Python type whose values JSON takes as they are; None if the
    shape has none.
    """

    name: str
    shape: Shape
    wire_name: str
    is_named: bool
    location: str | None
    is_flattened: bool
    timestamp_format: str | None
    plain_type: type | None

    @property
    def entry_name(self) -> str:
        """Name in the query protocol, where a flattened list goes by its element's name."""
        if self.is_flattened and self.shape.type == "list" and self.shape.element.is_named:
            return self.shape.element.wire_name
        return self.wire_name


class Shape:
    """A type of the model. ``type`` is the model's word: ``structure``, ``list``, ``string`` …"""

    def __init__(self, service: Service, name: str, traits: Mapping[str, Any]) -> None:
        self.service = service
        self._traits = traits
        self.name = name
        self.type: str = traits["type"]
        self.is_scalar: bool = self.type not in ("structure", "list", "map")
        self.min: float | None = traits.get("min")
        self.max: float | None = traits.get("max")
        self.pattern: str | None = traits.get("pattern")
        self.enum: tuple[str, ...] = tuple(traits.get("enum", ()))
        self.required: tuple[str, ...] = tuple(traits.get("required", ()))
        self.payload: str | None = traits.get("payload")
        self.is_sensitive: bool = traits.get("sensitive", False)
        self.is_streaming: bool = traits.get("streaming", False)
        self.is_eventstream: bool = traits.get("eventstream", False)

    def __repr__(self) -> str:
        return f"<Shape {self.service.name}:{self.name} {self.type}>"

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """Members of a structure, in the model's order; empty for other types."""
        traits: Mapping[str, Any] = self._traits.get("members", {})
        return {name: self._member(name, name, reference) for name, reference in traits.items()}

    @cached_property
    def body_members(self) -> Mapping[str, Member]:
        """Those members that are in the body."""
        return {name: member for name, member in self.members.items() if member.location is None}

    @cached_property
    def element(self) -> Member:
        """The element of a list."""
        return self._member("member", "member", self._traits["member"])

    @cached_property
    def key(self) -> Member:
        """The key of a map."""
        return self._member("key", "key", self._traits["key"])

    @cached_property
    def value(self) -> Member:
        """The value of a map."""
        return self._member("value", "value", self._traits["value"])

    def _member(self, name: str, default_wire_name: str, reference: Mapping[str, Any]) -> Member:
        shape = self.service.shape(reference["shape"])
        traits = {**shape._traits, **reference}
        return Member(
            name=name,
            shape=shape,
            wire_name=traits.get("locationName", default_wire_name),
            is_named="locationName" in traits,
            location=traits.get("location"),
            is_flattened=traits.get("flattened", False),
            timestamp_format=traits.get("timestampFormat"),
            plain_type=_PLAIN_TYPES.get(shape.type),
        )


class Operation:
    """One operation: where it lives in HTTP, and its input and output shapes."""

    def __init__(self, service: Service, name: str, traits: Mapping[str, Any]) -> None:
        self._traits = traits
        self.service = service
        self.name = name
        self.method: str = traits["http"]["method"]
        self.uri: str = traits["http"]["requestUri"]
        self.status: int = traits["http"].get("responseCode", 200)

    def __repr__(self) -> str:
        return f"<Operation {self.service.name}:{self.name}>"

    @cached_property
    def input(self) -> Shape | None:
        return self._shape("input")

    @cached_property
    def output(self) -> Shape | None:
        return self._shape("output")

    @property
    def result_wrapper(self) -> str | None:
        """Element around the output members in the query protocol."""
        wrapper: str | None = self._traits.get("output", {}).get("resultWrapper")
        return wrapper

    def _shape(self, side: str) -> Shape | None:
        reference = self._traits.get(side)
        return None if reference is None else self.service.shape(reference["shape"])


class Service:
    """One service model. ``name`` is botocore's name of the service (``lambda``).

    ``protocols`` are those that clients may choose from; ``protocol`` is the one that botocore
    takes, in which whatever belongs to no call is answered.
    """

    def __init__(self, name: str, model: Mapping[str, Any]) -> None:
        metadata = model["metadata"]
        offered = metadata.get("protocols", [metadata["protocol"]])
        protocol = next((p for p in PROTOCOLS if p in offered), None)
        if protocol is None:
            raise ModelNotFound(f"{name} speaks {', '.join(offered)}, which firelet does not")
        self._model = model
        self._shapes: dict[str, Shape] = {}
        self.name = name
        self.protocol: str = protocol
        self.protocols = frozenset(p for p in offered if p in PROTOCOLS or p == CBOR)
        self.is_query_compatible = "awsQueryCompatible" in metadata
        self.api_version: str = metadata["apiVersion"]
        self.json_version: str = metadata.get("jsonVersion", "1.0")
        self.target_prefix: str | None = metadata.get("targetPrefix")
        self.xml_namespace: str = metadata.get("xmlNamespace", "")
        self.signing_name: str = metadata.get("signingName", metadata["endpointPrefix"])
        self.operations: Mapping[str, Operation] = {
            operation: Operation(self, operation, traits)
            for operation, traits in model["operations"].items()
        }

    def __repr__(self) -> str:
        return f"<Service {self.name} {self.api_version}>"

    @cached_property
    def error_names(self) -> Mapping[str, str]:
        """Names of the error shapes by the code that the query protocol gives to them."""
        return {
            traits["error"]["code"]: name
            for name, traits in self._model["shapes"].items()
            if "code" in traits.get("error", {})
        }

    def shape(self, name: str) -> Shape:
        """The shape of that name; the same object each time, so that it can key a cache."""
        shape = self._shapes.get(name)
        if shape is None:
            shape = self._shapes[name] = Shape(self, name, self._model["shapes"][name])
        return shape


def load_services(names: Iterable[str] = DEFAULT_SERVICES) -> list[Service]:
    """Reads the newest installed models. Blocks for about 5 ms each: for start-up only."""
    spec = find_spec("botocore")
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFound("botocore, which carries AWS's service models, is not installed")
    data = Path(spec.submodule_search_locations[0]) / "data"
    return [Service(name, _load_model(data / name)) for name in names]


def _load_model(folder: Path) -> Mapping[str, Any]:
    versions = sorted(folder.glob("*/service-2.json*"))
    if not versions:
        raise ModelNotFound(f"botocore has no model of the service {folder.name}")
    newest = versions[-1]
    content = newest.read_bytes()
    if newest.suffix == ".gz":
        content = gzip.decompress(content)
    model: Mapping[str, Any] = orjson.loads(content)
    return model
