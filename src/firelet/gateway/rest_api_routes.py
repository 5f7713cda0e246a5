"""The tree of paths of one deployment: from a request's path and method to what answers it.

Pure; made once for each deployment. What it is not: anything that depends on a stage or a request.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/
api-gateway-method-settings-method-request.html; recorded events for undecoded path parameters, and
for a slash at the end, which makes no difference. That a resource which lacks the method leaves the
request to the next best one is firelet's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firelet.control.rest_api_records import Definition, RestResource, Settings
from firelet.model.integration_uri import find_function
from firelet.model.mapping_template import Template, parse_template

ANY = "ANY"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationReply:
    """One integration response, with its templates by content type. ``pattern`` is None for the
    default one."""

    status: int
    pattern: str | None
    headers: Mapping[str, str]
    templates: Mapping[str, Template]


@dataclass(frozen=True, slots=True, kw_only=True)
class Integration:
    """What a method does. ``function`` is as the URI names it, with stage variables in it."""

    kind: str
    function: str | None
    verb: str
    timeout_s: float
    passthrough: str
    has_role: bool
    templates: Mapping[str, Template]
    replies: tuple[IntegrationReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of one resource. ``required`` are request parameters, as mapping expressions."""

    verb: str
    resource_id: str
    resource_path: str
    authorization: str
    authorizer: Settings | None
    needs_key: bool
    required: tuple[str, ...]
    integration: Integration


@dataclass(frozen=True, slots=True)
class Match:
    """``parameters`` are undecoded, as REST APIs hand them on."""

    method: Method
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    variable: tuple[str, _Node] | None = None
    greedy: tuple[str, _Node] | None = None
    methods: dict[str, Method] = field(default_factory=dict)


class Routes:
    """The routes of a definition."""

    def __init__(self, definition: Definition) -> None:
        self._root = _Node()
        for resource in definition.resources.values():
            node = self._place(resource.path)
            for verb, method in resource.methods.items():
                node.methods[verb] = _compile_method(definition, resource, verb, method)

    def find(self, path: str, verb: str) -> Match | None:
        """``path`` is within the stage and undecoded. A literal part is better than a variable,
        and that is better than the greedy one; without the method, the next best is tried."""
        parts = [part for part in path.split("/") if part]
        return _find(self._root, parts, 0, verb, {})

    def _place(self, path: str) -> _Node:
        node = self._root
        for part in filter(None, path.split("/")):
            if not part.startswith("{"):
                node = node.literals.setdefault(part, _Node())
            elif part.endswith("+}"):
                node.greedy = node.greedy or (part[1:-2], _Node())
                node = node.greedy[1]
            else:
                node.variable = node.variable or (part[1:-1], _Node())
                node = node.variable[1]
        return node


def _find(
    node: _Node, parts: list[str], at: int, verb: str, parameters: dict[str, str]
) -> Match | None:
    if at == len(parts):
        method = node.methods.get(verb) or node.methods.get(ANY)
        return None if method is None else Match(method, parameters)
    part = parts[at]
    literal = node.literals.get(part)
    found = None if literal is None else _find(literal, parts, at + 1, verb, parameters)
    if found is None and node.variable is not None:
        name, below = node.variable
        found = _find(below, parts, at + 1, verb, {**parameters, name: part})
    if found is None and node.greedy is not None:
        name, below = node.greedy
        rest = {**parameters, name: "/".join(parts[at:])}
        found = _find(below, parts, len(parts), verb, rest)
    return found


def _compile_method(
    definition: Definition, resource: RestResource, verb: str, method: Settings
) -> Method:
    validator = definition.validators.get(method.get("requestValidatorId", ""), {})
    parameters = method.get("requestParameters", {})
    checks = validator.get("validateRequestParameters", False)
    return Method(
        verb=verb,
        resource_id=resource.id,
        resource_path=resource.path,
        authorization=method["authorizationType"],
        authorizer=definition.authorizers.get(method.get("authorizerId", "")),
        needs_key=method.get("apiKeyRequired", False),
        required=tuple(name for name, needed in parameters.items() if needed and checks),
        integration=_compile_integration(method["methodIntegration"]),
    )


def _compile_integration(given: Settings) -> Integration:
    replies = [_compile_reply(item) for item in given.get("integrationResponses", {}).values()]
    # Those with a pattern are tried first: the default is what is left.
    replies.sort(key=lambda reply: reply.pattern is None)
    return Integration(
        kind=given["type"],
        function=find_function(given.get("uri", "")),
        verb=given.get("httpMethod", ""),
        timeout_s=given["timeoutInMillis"] / 1000,
        passthrough=given["passthroughBehavior"],
        has_role=bool(given.get("credentials")),
        templates=_compile_templates(given.get("requestTemplates")),
        replies=tuple(replies),
    )


def _compile_reply(given: Settings) -> IntegrationReply:
    prefix = "method.response.header."
    return IntegrationReply(
        status=int(given["statusCode"]),
        pattern=given.get("selectionPattern") or None,
        headers={
            name.removeprefix(prefix): str(value)
            for name, value in given.get("responseParameters", {}).items()
            if name.startswith(prefix)
        },
        templates=_compile_templates(given.get("responseTemplates")),
    )


def _compile_templates(templates: Mapping[str, Any] | None) -> dict[str, Template]:
    return {
        content_type.lower(): parse_template(text or "")
        for content_type, text in (templates or {}).items()
    }
