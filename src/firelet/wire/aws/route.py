"""From a request line to an operation, for every protocol that the service models name.

What it is: a tree of path segments for REST services, and tables for ``X-Amz-Target`` and
``Action``. What it is not: parsing of parameters, except for the labels in the path.
Paths are matched undecoded and each label is decoded after: clients send ``/`` inside ARNs as
``%2F``, which a decoded path would split. Called by ``frontend.router``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes

from firelet.model.errors import CallerError, SerializationError, UnknownOperation
from firelet.wire.aws.model import CBOR, Operation, Service

_FORM = b"application/x-www-form-urlencoded"


class UnknownAction(CallerError):
    """400: the query protocol's own refusal of an operation that does not exist.

    ``service`` is the one of that version, whose protocol the answer should speak, or None.
    """

    code = "InvalidAction"

    def __init__(self, action: str, version: str, service: Service | None) -> None:
        super().__init__(f"Could not find operation {action} for version {version}")
        self.service = service


@dataclass(frozen=True, slots=True)
class Route:
    """What a request means: the operation, the protocol that the client chose for it, its path
    labels and, in the query protocol, its form."""

    operation: Operation
    protocol: str
    labels: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Leaf:
    """An operation at the end of a path. ``query`` must be present; labels are positional."""

    operation: Operation
    labels: tuple[str, ...]
    query: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    literals: dict[bytes, _Node] = field(default_factory=dict)
    label: _Node | None = None
    greedy: _Node | None = None
    leaves: dict[bytes, list[_Leaf]] = field(default_factory=dict)


class RouteTable:
    """All operations of some services. ``find`` is a pure lookup."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._root = _Node()
        self._by_target: dict[str, Service] = {}
        self._by_version: dict[str, list[Service]] = {}
        for service in services:
            if service.protocol == "rest-json":
                for operation in service.operations.values():
                    self._add(operation)
            if not service.protocols.isdisjoint(("json", CBOR)) and service.target_prefix:
                self._by_target[service.target_prefix] = service
            if "query" in service.protocols:
                self._by_version.setdefault(service.api_version, []).append(service)

    def find(
        self,
        method: bytes,
        target: bytes,
        headers: Mapping[bytes, bytes],
        body: bytes,
        signed_for: str | None = None,
    ) -> Route:
        """Finds the operation or raises ``UnknownOperation``.

        ``target`` is the raw request target. ``signed_for`` is the service of the credential
        scope; it decides only where two services share a path or a version.
        """
        path, _, query = target.partition(b"?")
        amz_target = headers.get(b"x-amz-target")
        if amz_target is not None and method == b"POST":
            return self._find_by_target(amz_target.decode("latin-1"))
        if method == b"POST" and headers.get(b"smithy-protocol") == b"rpc-v2-cbor":
            return self._find_rpc(path)
        if path in (b"/", b""):
            form = body if is_form(method, headers) else query
            if method in (b"GET", b"POST") and b"Action=" in form:
                return self._find_by_action(form, signed_for)
        return self.find_by_path(method, path, query, signed_for)

    def find_by_path(
        self, method: bytes, path: bytes, query: bytes, signed_for: str | None = None
    ) -> Route:
        """Finds a REST operation by method, undecoded path and undecoded query string."""
        segments = path.split(b"/")[1:]
        # Older SDKs end some paths with a slash, and the service takes both.
        if len(segments) > 1 and not segments[-1]:
            segments.pop()
        leaves, values = _match(self._root, segments, 0, method, []) or ([], [])
        leaf = _choose(leaves, query, signed_for)
        if leaf is None:
            shown = path[:200].decode("latin-1")
            raise UnknownOperation(f"No operation is served at {method.decode('latin-1')} {shown}")
        labels = dict(zip(leaf.labels, map(_decode_label, values), strict=True))
        return Route(leaf.operation, "rest-json", labels)

    def _find_by_target(self, amz_target: str) -> Route:
        prefix, _, name = amz_target.rpartition(".")
        service = self._by_target.get(prefix)
        operation = None if service is None else service.operations.get(name)
        if operation is None:
            raise UnknownOperation(f"firelet serves no operation {amz_target}")
        return Route(operation, "json")

    def _find_rpc(self, path: bytes) -> Route:
        """``/service/GraniteServiceVersion20100801/operation/ListMetrics``, below any prefix."""
        match path.decode("latin-1").split("/")[-4:]:
            case ["service", prefix, "operation", name]:
                service = self._by_target.get(prefix)
                if service is not None and CBOR in service.protocols:
                    operation = service.operations.get(name)
                    if operation is not None:
                        return Route(operation, CBOR)
        raise UnknownOperation(f"No operation is served at POST {path[:200].decode('latin-1')}")

    def _find_by_action(self, encoded: bytes, signed_for: str | None) -> Route:
        try:
            form = dict(parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict"))
        except ValueError:
            raise SerializationError("The form could not be decoded as UTF-8") from None
        action, version = form.get("Action", ""), form.get("Version", "")
        services = self._by_version.get(version, [])
        if not services and not version:
            services = [service for group in self._by_version.values() for service in group]
        candidates = [service for service in services if action in service.operations]
        chosen = next((s for s in candidates if s.signing_name == signed_for), None)
        if chosen is None and candidates:
            chosen = candidates[0]
        if chosen is None:
            raise UnknownAction(action, version, services[0] if services else None)
        return Route(chosen.operations[action], "query", form=form)

    def _add(self, operation: Operation) -> None:
        template, _, query = operation.uri.partition("?")
        node, labels = self._root, []
        for segment in template.rstrip("/").split("/")[1:]:
            if segment.startswith("{") and segment.endswith("+}"):
                labels.append(segment[1:-2])
                node.greedy = node.greedy or _Node()
                node = node.greedy
            elif segment.startswith("{"):
                labels.append(segment[1:-1])
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.literals.setdefault(segment.encode(), _Node())
        fixed = dict(parse_qsl(query, keep_blank_values=True))
        leaves = node.leaves.setdefault(operation.method.encode(), [])
        leaves.append(_Leaf(operation, tuple(labels), fixed))
        # The most demanding query first: `?List=ALL` must win over the same path without it.
        leaves.sort(key=lambda leaf: -len(leaf.query))


def is_form(method: bytes, headers: Mapping[bytes, bytes]) -> bool:
    """Whether the body is a form, as query-protocol clients send it."""
    return method == b"POST" and headers.get(b"content-type", b"").lower().startswith(_FORM)


def _match(
    node: _Node, segments: list[bytes], at: int, method: bytes, values: list[bytes]
) -> tuple[list[_Leaf], list[bytes]] | None:
    """Literal before label before greedy label; backs out of branches that lead nowhere."""
    if at == len(segments):
        leaves = node.leaves.get(method)
        return None if leaves is None else (leaves, values)
    literal = node.literals.get(segments[at])
    if literal is not None:
        found = _match(literal, segments, at + 1, method, values)
        if found is not None:
            return found
    if node.label is not None and segments[at]:
        found = _match(node.label, segments, at + 1, method, [*values, segments[at]])
        if found is not None:
            return found
    if node.greedy is not None:
        for end in range(len(segments), at, -1):
            taken = b"/".join(segments[at:end])
            found = _match(node.greedy, segments, end, method, [*values, taken])
            if found is not None:
                return found
    return None


def _choose(leaves: list[_Leaf], query: bytes, signed_for: str | None) -> _Leaf | None:
    if len(leaves) == 1 and not leaves[0].query:
        return leaves[0]
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    matching = [
        leaf
        for leaf in leaves
        if all(given.get(name) == value for name, value in leaf.query.items())
    ]
    for leaf in matching:
        if leaf.operation.service.signing_name == signed_for:
            return leaf
    return matching[0] if matching else None


def _decode_label(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise SerializationError("The path could not be decoded as UTF-8") from None
